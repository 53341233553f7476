/**
 * How the inputs and outputs of one program lie on a mesh, and how the program computes with them. What is spread over `fsdp`
 * only to be kept is put together where a product or a look-up reads it (the partitioner then gathers it there and scatters
 * the sum of its gradient), and stays in parts where only elementwise work is done, as in an optimizer's step.
 */
import type { Program } from "../../tensor/Program.ts"
import { reach } from "../../tensor/rewrite.ts"
import type { Node, Tensor } from "../../tensor/Tensor.ts"
import { axisSize, type Mesh } from "../mesh.ts"
import { fixedShape } from "./Lowering.ts"
import {
  batchAxes,
  batchWays,
  fitted,
  isWhole,
  laidAs,
  type Placement,
  type Spec,
  specText,
  whole
} from "./sharding.ts"

export interface Layouts {
  readonly mesh: Mesh
  /** By the names of inputs and outputs. */
  readonly inputs: ReadonlyMap<string, Placement>
  readonly outputs: ReadonlyMap<string, Placement>
}

/** Primitives whose result at a place needs their operands at that place, or everywhere just the same (a sum). */
const placewise: ReadonlySet<string> = new Set(["unary", "binary", "compare", "select", "cast", "reduce"])

/**
 * How `[groupSize, groups, ...]`, fed in parts of groups, is cut once its first axes are one: by rows, evenly. Undefined for
 * anything else. (The cut would be lost otherwise, and every device compute all rows: groups are the inner one of the two.)
 */
const byRows = ({ inputs: [x], op, outputs: [y] }: Node, { inputs, mesh }: Layouts): Spec | undefined => {
  if (op.kind !== "reshape" || x!.node.op.kind !== "input") return undefined
  const [size, groups, ...rest] = fixedShape(x!.shape)
  const cut = inputs.get(x!.node.op.name)?.spec[1] ?? []
  const to = fixedShape(y!.shape)
  if (size === undefined || groups === undefined || cut.length === 0) return undefined
  if (to[0] !== size * groups || to.slice(1).join() !== rest.join()) return undefined
  const { spec } = fitted(mesh, laidAs([cut, ...whole(to.length - 1)]), to)
  return isWhole(spec) ? undefined : spec
}

/**
 * How what a loop takes a piece of at each trip, `[trips, rows, ...]`, is cut: the rows of every piece, for a cut through the
 * trips would leave each piece to one device, and the others would all compute it too.
 */
const perTrip = ([, rows, ...rest]: ReadonlyArray<number>, mesh: Mesh): Spec | undefined => {
  if (rows === undefined || batchWays(mesh) === 1 || rows < batchWays(mesh)) return undefined
  return [[], batchAxes.filter((name) => axisSize(mesh, name) > 1), ...whole(rest.length)]
}

/** Weights laid on one another, `[layers, ...]`: how each lies, and the nodes between them and the stack; else undefined. */
const stackOf = (
  x: Tensor,
  { inputs }: Layouts
): { readonly own: Placement; readonly nodes: ReadonlyArray<Node> } | undefined => {
  const nodes = reach([x], (y) => y.node.op.kind === "input")
  const leaves = nodes.flatMap((node) => node.inputs.filter((y) => y.node.op.kind === "input"))
  const [first, ...others] = leaves.map(({ node: { op } }) => (op.kind === "input" ? inputs.get(op.name) : undefined))
  const alike = others.every(
    (own) => own !== undefined && first !== undefined && specText(own.spec) === specText(first.spec)
  )
  const arranges = nodes.every(
    ({ op }) => op.kind === "cast" || op.kind === "reshape" || (op.kind === "concat" && op.axis === 0)
  )
  const each = leaves.every((y) => [1, ...y.shape].join() === x.shape.with(0, 1).join())
  return first !== undefined && alike && arranges && each && leaves.length === x.shape[0]
    ? { own: first, nodes }
    : undefined
}

/**
 * The tensors that are computed with in another layout than they are kept in, with that layout: inputs, or what they are cast
 * to, for half the bytes need moving then.
 * @param program of primitives, and of attention whole where that is a call
 */
export const computedSpecs = (program: Program, layouts: Layouts): ReadonlyMap<Tensor, Spec> => {
  const { inputs } = layouts
  const specs = new Map<Tensor, Spec>()
  for (const [name, x] of program.inputs) {
    const { compute, spec } = inputs.get(name) ?? {}
    if (spec !== undefined && compute !== undefined && specText(compute) !== specText(spec)) specs.set(x, compute)
  }
  const read = new Set<Tensor>()
  const all = reach([...program.outputs.values()])
  const stacking = new Set<Node>()
  for (const { inputs: operands, op } of all) {
    if (op.kind !== "loop") continue
    for (let i = op.carried; i < op.carried + op.scanned; i++) {
      const x = operands[i]!
      const stack = stackOf(x, layouts)
      if (stack === undefined) continue
      // kept as its layers are, and put together a layer at a time
      for (const node of stack.nodes) stacking.add(node)
      const slice = op.body.parameters[1 + i]!
      specs.set(x, [[], ...stack.own.spec]).set(slice, stack.own.compute)
      read.add(x).add(slice)
    }
  }
  for (const node of all) {
    const { inputs: operands, op, outputs } = node
    const rows = byRows(node, layouts)
    if (rows !== undefined) {
      specs.set(outputs[0]!, rows)
      read.add(outputs[0]!)
    }
    if (op.kind === "loop") {
      for (const x of operands.slice(op.carried, op.carried + op.scanned)) {
        if (stacking.has(x.node)) continue
        const spec = perTrip(fixedShape(x.shape), layouts.mesh)
        if (spec === undefined) continue
        specs.set(x, spec)
        read.add(x)
      }
    }
    if (op.kind === "cast" && specs.has(operands[0]!)) specs.set(outputs[0]!, specs.get(operands[0]!)!)
    if (!placewise.has(op.kind) && !stacking.has(node)) for (const x of operands) read.add(x)
  }
  return new Map([...specs].filter(([x]) => read.has(x)))
}
