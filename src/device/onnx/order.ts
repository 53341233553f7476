/**
 * The order in which the runtime computes a graph. It takes the nodes that nothing reads (which give outputs only) from
 * the last to the first, and before each, depth first, what that one needs (graph_viewer.cc). With the nodes as a
 * program has them it would begin at the far end: the derivative of the first layer, and with it the whole chain
 * backwards, before any derivative of a weight, with everything that those need kept until then. Turned round, the
 * derivative of each layer's weights is computed when the chain gets there, and its memory is free again.
 */

import type { NodeProto } from "./proto.ts"
import { readsOf } from "./prune.ts"

/** The nodes, still in topological order, with those that nothing reads at the end, the first of them last. */
export const orderForMemory = (nodes: ReadonlyArray<NodeProto>): ReadonlyArray<NodeProto> => {
  const read = new Set(nodes.flatMap(readsOf))
  const isLeaf = (node: NodeProto) => !node.output.some((name) => read.has(name))
  return [...nodes.filter((node) => !isLeaf(node)), ...nodes.filter(isLeaf).toReversed()]
}
