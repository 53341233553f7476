/**
 * How the inputs and outputs of one program lie on a mesh, and how the program computes with them. What is spread over `fsdp`
 * only to be kept is put together where a product or a look-up reads it (the partitioner then gathers it there and scatters
 * the sum of its gradient), and stays in parts where only elementwise work is done, as in an optimizer's step.
 */
import type { Program } from "../../tensor/Program.ts"
import { reach } from "../../tensor/rewrite.ts"
import type { Tensor } from "../../tensor/Tensor.ts"
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

/**
 * The tensors that are computed with in another layout than they are kept in, with that layout: inputs, or what they are cast
 * to, for half the bytes need moving then.
 * @param program of primitives
 */
export const computedSpecs = (program: Program, { inputs }: Layouts): ReadonlyMap<Tensor, Spec> => {
  const specs = new Map<Tensor, Spec>()
  for (const [name, x] of program.inputs) {
    const { compute, spec } = inputs.get(name) ?? {}
    if (spec !== undefined && compute !== undefined && specText(compute) !== specText(spec)) specs.set(x, compute)
  }
  if (specs.size === 0) return specs
  const read = new Set<Tensor>()
  for (const { inputs: operands, op, outputs } of reach([...program.outputs.values()])) {
    if (op.kind === "cast" && specs.has(operands[0]!)) specs.set(outputs[0]!, specs.get(operands[0]!)!)
    if (!placewise.has(op.kind)) for (const x of operands) read.add(x)
  }
  return new Map([...specs].filter(([x]) => read.has(x)))
}
