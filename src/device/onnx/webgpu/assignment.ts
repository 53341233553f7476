/** Which nodes of a session the runtime gave to the CPU. */
import type { Ort } from "../api.ts"

export interface AssignedNode {
  /** After the operation of the program: `linear/dot/FusedMatMul#12`. */
  readonly name: string
  readonly operator: string
}

/** Asks a session to record what its providers took. */
export const recordAssignment = (ort: Ort, settings: bigint): void =>
  ort.addSessionConfigEntry(settings, "session.record_ep_graph_assignment_info", "1")

/** The nodes of a session that run on the CPU, bodies of loops included. */
export const nodesOnCpu = (ort: Ort, session: bigint): ReadonlyArray<AssignedNode> =>
  [...ort.assignedSubgraphs(session)]
    .filter((subgraph) => ort.subgraphProvider(subgraph) === "CPUExecutionProvider")
    .flatMap((subgraph) =>
      [...ort.subgraphNodes(subgraph)].map((node) => ({ name: ort.nodeName(node), operator: ort.nodeOperator(node) }))
    )
