/**
 * How the inputs and outputs of one program lie on a mesh, and how the program computes with them. What is spread over `fsdp`
 * only to be kept is put together where a product or a look-up reads it (the partitioner then gathers it there and scatters
 * the sum of its gradient), and stays in parts where only elementwise work is done, as in an optimizer's step.
 */
import type { Program } from "../../tensor/Program.ts"
import { reach } from "../../tensor/rewrite.ts"
import type { Node, Tensor } from "../../tensor/Tensor.ts"
import type { Mesh } from "../mesh.ts"
import { type Placement, type Spec, specText } from "./sharding.ts"

export interface Layouts {
  readonly mesh: Mesh
  /** By the names of inputs and outputs. */
  readonly inputs: ReadonlyMap<string, Placement>
  readonly outputs: ReadonlyMap<string, Placement>
}

/** Primitives whose result at a place needs their operands at that place, or everywhere just the same (a sum). */
const placewise: ReadonlySet<string> = new Set(["unary", "binary", "compare", "select", "cast", "reduce"])

/** The inputs that are computed with in another layout than they are kept in, with that layout. */
export const computedSpecs = (program: Program, { inputs }: Layouts): ReadonlyMap<Tensor, Spec> => {
  const specs = new Map<Tensor, Spec>()
  for (const [name, x] of program.inputs) {
    const { compute, spec } = inputs.get(name) ?? {}
    if (spec !== undefined && compute !== undefined && specText(compute) !== specText(spec)) specs.set(x, compute)
  }
  if (specs.size === 0) return specs
  const read = new Set<Tensor>()
  const visit = (nodes: ReadonlyArray<Node>): void => {
    for (const { inputs: operands, op } of nodes) {
      if (placewise.has(op.kind) || !operands.some((x) => specs.has(x))) continue
      if (op.kind === "composite") {
        const leaves = new Set(operands)
        visit(reach(op.definition.decompose(operands, op.attributes), (x) => leaves.has(x)))
      } else for (const x of operands) read.add(x)
    }
  }
  visit(reach([...program.outputs.values()]))
  return new Map([...specs].filter(([x]) => read.has(x)))
}
