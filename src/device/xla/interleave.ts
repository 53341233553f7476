/**
 * Programs over tensors whose rows lie in the order of shares: [query; key; value] of two devices as [q0; k0; v0; q1; k1; v1],
 * so that a cut in the middle gives each device whole heads of each. Only tensors that stay are stored so; the graph is
 * rewritten to compute with them as they lie. Products and elementwise work take any order of an axis as long as their operands
 * have the same; a part that is sliced off is every share's part of an axis [shares, rows of a share], and the derivative of a
 * slice is put back there. So nothing moves between devices. Any other operation gets its operands in their own order.
 */
import { concat, pad, reshape, slice } from "../../tensor/ops/shape.ts"
import { expand, type Program, program } from "../../tensor/Program.ts"
import { reach, reapply } from "../../tensor/rewrite.ts"
import type { Composite, Kind, Node, PrimitiveOf, Tensor } from "../../tensor/Tensor.ts"
import { apply } from "../../tensor/Tensor.ts"
import { fixed, fixedShape } from "./Lowering.ts"
import type { Order } from "./sharding.ts"

/** A tensor as it is computed: one of its axes may lie in another order. */
interface Lain {
  readonly tensor: Tensor
  readonly axis: number
  /** Undefined where everything lies in its own order. */
  readonly order: Order | undefined
}

const plain = (tensor: Tensor): Lain => ({ tensor, axis: -1, order: undefined })
const sum = (numbers: ReadonlyArray<number>) => numbers.reduce((n, x) => n + x, 0)
const sameOrder = (a: Order | undefined, b: Order | undefined): boolean =>
  a === b || (a !== undefined && b !== undefined && a.ways === b.ways && a.parts.join() === b.parts.join())

/** The first row of each part, and where the last one ends. */
const starts = ({ parts }: Order): ReadonlyArray<number> => parts.map((_, i) => sum(parts.slice(0, i)))

/** `[..., ways * n, ...]` as `[..., ways, n, ...]`. */
const opened = (x: Tensor, axis: number, ways: number): Tensor => {
  const size = fixed(x.shape[axis]!)
  return reshape(x, x.shape.toSpliced(axis, 1, ways, size / ways))
}
const closed = (x: Tensor, axis: number): Tensor =>
  reshape(x, x.shape.toSpliced(axis, 2, fixed(x.shape[axis]!) * fixed(x.shape[axis + 1]!)))

/** Part i of an axis in shares, in its own order. */
const part = (x: Tensor, axis: number, order: Order, i: number): Tensor => {
  const start = starts(order)[i]! / order.ways
  return closed(slice(opened(x, axis, order.ways), axis + 1, start, start + order.parts[i]! / order.ways), axis)
}

/** Everything in its own order. */
const own = ({ axis, order, tensor }: Lain): Tensor =>
  order === undefined
    ? tensor
    : concat(
        order.parts.map((_, i) => part(tensor, axis, order, i)),
        axis
      )

/** Parts, each in its own order, as one axis in shares. */
const shared = (parts: ReadonlyArray<Tensor>, axis: number, { ways }: Order): Tensor =>
  closed(
    concat(
      parts.map((x) => opened(x, axis, ways)),
      axis + 1
    ),
    axis
  )

/** A tensor with an axis in shares. */
const arranged = (x: Lain, axis: number, order: Order): Tensor => {
  if (x.axis === axis && sameOrder(x.order, order)) return x.tensor
  const tensor = own(x)
  return shared(
    starts(order).map((start, i) => slice(tensor, axis, start, start + order.parts[i]!)),
    axis,
    order
  )
}

/** What operations make of operands that do not all lie in their own order; undefined: not without moving something. */
type Rule<K extends Kind> = (op: PrimitiveOf<K>, inputs: ReadonlyArray<Lain>, node: Node) => Lain | undefined

const remade = (node: Node, inputs: ReadonlyArray<Lain>): Tensor =>
  reapply(
    node,
    inputs.map(({ tensor }) => tensor)
  )[0]!

const elementwise = (_: unknown, inputs: ReadonlyArray<Lain>, node: Node): Lain | undefined => {
  const rank = node.outputs[0]!.shape.length
  const lead = inputs.find(({ order }) => order !== undefined)!
  const fromEnd = lead.tensor.shape.length - lead.axis
  const fits = inputs.every(({ axis, order, tensor }) => {
    const at = tensor.shape.length - fromEnd
    if (order !== undefined) return tensor.shape.length - axis === fromEnd && sameOrder(order, lead.order)
    return at < 0 || tensor.shape[at] === 1 || tensor.node.op.kind === "fill"
  })
  return fits ? { tensor: remade(node, inputs), axis: rank - fromEnd, order: lead.order } : undefined
}

const along = (node: Node, inputs: ReadonlyArray<Lain>, axis: number): Lain => ({
  tensor: remade(node, inputs),
  axis,
  order: inputs[0]!.order
})

const same = (_: unknown, inputs: ReadonlyArray<Lain>, node: Node): Lain => along(node, inputs, inputs[0]!.axis)

const dot: Rule<"dot"> = ({ transposeLeft, transposeRight }, [left, right], node) => {
  const ends = ({ tensor: { shape } }: Lain, transposed: boolean) => {
    const [first, last] = [shape.length - 2, shape.length - 1]
    return transposed ? { free: last, summed: first } : { free: first, summed: last }
  }
  const [a, b] = [ends(left!, transposeLeft), ends(right!, !transposeRight)]
  const [sumsLeft, sumsRight] = [left!.axis === a.summed, right!.axis === b.summed]
  const rank = node.outputs[0]!.shape.length
  const tensor = () => remade(node, [left!, right!])
  if (sumsLeft || sumsRight) {
    const both = sumsLeft && sumsRight && sameOrder(left!.order, right!.order)
    return both ? plain(tensor()) : undefined
  }
  if (left!.order !== undefined && right!.order !== undefined) return undefined
  if (left!.order !== undefined) {
    return left!.axis === a.free ? { tensor: tensor(), axis: rank - 2, order: left!.order } : undefined
  }
  return right!.axis === b.free ? { tensor: tensor(), axis: rank - 1, order: right!.order } : undefined
}

const reduce: Rule<"reduce"> = ({ axes, keepDims }, inputs, node) => {
  const { axis } = inputs[0]!
  if (axes.includes(axis)) return plain(remade(node, inputs))
  return along(node, inputs, keepDims ? axis : axis - axes.filter((gone) => gone < axis).length)
}

const sliced: Rule<"slice"> = ({ axis, limit, start, stride }, inputs, node) => {
  const [x] = inputs
  if (axis !== x!.axis) return along(node, inputs, x!.axis)
  const { order } = x!
  const i = starts(order!).indexOf(fixed(start))
  const exact = i >= 0 && stride === 1 && fixed(limit) - fixed(start) === order!.parts[i]
  return exact ? plain(part(x!.tensor, axis, order!, i)) : undefined
}

const reshaped: Rule<"reshape"> = (_, inputs, node) => {
  const [{ axis, tensor }] = inputs as readonly [Lain]
  const [from, to] = [fixedShape(tensor.shape), fixedShape(node.outputs[0]!.shape)]
  const product = (shape: ReadonlyArray<number>, end: number) => shape.slice(0, end).reduce((n, dim) => n * dim, 1)
  const before = product(from, axis)
  const at = to.findIndex((dim, i) => dim === from[axis] && product(to, i) === before)
  return at < 0 ? undefined : along(node, inputs, at)
}

const rules: { readonly [K in Kind]?: Rule<K> } = {
  concat: ({ axis }, inputs, node) => {
    const [first] = inputs as readonly [Lain]
    const alike = inputs.every((x) => x.axis === first.axis && sameOrder(x.order, first.order))
    return alike && axis !== first.axis ? along(node, inputs, first.axis) : undefined
  },
  unary: same,
  cast: same,
  stopGradient: same,
  saveName: same,
  binary: elementwise,
  compare: elementwise,
  select: elementwise,
  dot,
  reduce,
  slice: sliced,
  pad: ({ axis }, inputs, node) => (axis === inputs[0]!.axis ? undefined : along(node, inputs, inputs[0]!.axis)),
  transpose: ({ permutation }, inputs, node) => along(node, inputs, permutation.indexOf(inputs[0]!.axis)),
  broadcast: (_, inputs, node) => {
    const [{ axis, tensor }] = inputs as readonly [Lain]
    return along(node, inputs, axis + node.outputs[0]!.shape.length - tensor.shape.length)
  },
  reshape: reshaped
}

/** Parts that are put side by side, or beside zeros, make an axis in shares where they are the parts of a known order. */
const gathered = (node: Node, inputs: ReadonlyArray<Lain>, orders: ReadonlyArray<Order>): Lain | undefined => {
  const { op } = node
  if (op.kind === "concat") return concatenated(op, inputs, orders)
  if (op.kind !== "pad") return undefined
  const [x] = inputs
  const [size, before, after] = [x!.tensor.shape[op.axis]!, op.before, op.after].map(fixed) as [number, number, number]
  for (const order of orders) {
    const i = starts(order).indexOf(before)
    if (sum(order.parts) !== before + size + after || i < 0 || order.parts[i] !== size) continue
    const { ways } = order
    const wide = pad(opened(x!.tensor, op.axis, ways), op.axis + 1, before / ways, after / ways, op.value)
    return { tensor: closed(wide, op.axis), axis: op.axis, order }
  }
  return undefined
}

const concatenated = (
  { axis }: PrimitiveOf<"concat">,
  inputs: ReadonlyArray<Lain>,
  orders: ReadonlyArray<Order>
): Lain | undefined => {
  const sizes = inputs.map(({ tensor }) => fixed(tensor.shape[axis]!)).join()
  const order = orders.find(({ parts }) => parts.join() === sizes)
  if (order === undefined) return undefined
  const tensors = inputs.map(({ tensor }) => tensor)
  return { tensor: shared(tensors, axis, order), axis, order }
}

type Visit = (node: Node, known: ReadonlyMap<Tensor, Lain>) => ReadonlyArray<Lain>

/** What stands for some tensors, given what stands for their leaves. */
const walked = (nodes: ReadonlyArray<Node>, leaves: ReadonlyMap<Tensor, Lain>, visit: Visit): Map<Tensor, Lain> => {
  const known = new Map(leaves)
  for (const node of nodes) {
    if (node.outputs.every((x) => known.has(x))) continue
    const results = visit(node, known)
    node.outputs.forEach((x, i) => {
      known.set(x, results[i]!)
    })
  }
  return known
}

/** A loop's state lies in its own order; what iterations read, and what they stack, may lie in shares. */
const looped = (op: PrimitiveOf<"loop">, operands: ReadonlyArray<Lain>, visit: Visit): ReadonlyArray<Lain> => {
  const { body, carried, scanned } = op
  const isScanned = (i: number) => i >= carried && i < carried + scanned
  // a piece of the first axis is one iteration's
  const inputs = operands.map((x, i) => (i < carried || (isScanned(i) && x.axis === 0) ? plain(own(x)) : x))
  const leaves = body.parameters.map((x, i): readonly [Tensor, Lain] => {
    const outer = inputs[i - 1]
    if (outer?.order === undefined) return [x, plain(x)]
    return [x, { tensor: x, axis: isScanned(i - 1) ? outer.axis - 1 : outer.axis, order: outer.order }]
  })
  const known = walked(reach(body.results), new Map(leaves), visit)
  const results = body.results.map((x, i) => (i < carried ? plain(own(known.get(x)!)) : known.get(x)!))
  const made = apply(
    { ...op, body: { parameters: body.parameters, results: results.map(({ tensor }) => tensor) } },
    inputs.map(({ tensor }) => tensor)
  )
  return made.map((tensor, i) => ({ ...results[i]!, tensor, axis: results[i]!.axis + 1 }))
}

/**
 * The program for inputs whose first axis is in shares, with outputs so; names and shapes stay. Sizes are fixed.
 * @param inputs orders by name of input, `outputs` by name of output
 * @param keep composites that are left whole; none where it is left out
 */
export const interleaved = (
  source: Program,
  inputs: ReadonlyMap<string, Order>,
  outputs: ReadonlyMap<string, Order>,
  keep?: (definition: Composite) => boolean
): Program => {
  if (inputs.size === 0 && outputs.size === 0) return source
  const primitive = expand(source, keep)
  const orders = [...new Map([...inputs, ...outputs].map(([, order]) => [order.parts.join(), order])).values()]
  const known = new Map<Tensor, Lain>()
  for (const [name, x] of primitive.inputs) known.set(x, { tensor: x, axis: 0, order: inputs.get(name) })
  const table: {
    readonly [kind: string]: ((op: never, inputs: ReadonlyArray<Lain>, node: Node) => Lain | undefined) | undefined
  } = rules
  const visit: Visit = (node, found) => {
    const operands = node.inputs.map((x) => found.get(x)!)
    if (node.op.kind === "loop") return looped(node.op, operands, visit)
    if (node.op.kind === "barrier") {
      const tensors = reapply(
        node,
        operands.map(({ tensor }) => tensor)
      )
      return operands.map((x, i) => ({ ...x, tensor: tensors[i]! }))
    }
    const plainly = operands.every(({ order }) => order === undefined)
    // the key is the kind of the operation, so the rule is the one for this operation
    const made = plainly ? gathered(node, operands, orders) : table[node.op.kind]?.(node.op as never, operands, node)
    if (made !== undefined) return [made]
    const tensors = operands.map(own)
    return reapply(node, tensors).map(plain)
  }
  const lain = walked(primitive.nodes, known, visit)
  const results = [...primitive.outputs].map(([name, x]) => {
    const order = outputs.get(name)
    const found = lain.get(x)!
    return [name, order === undefined ? own(found) : arranged(found, 0, order)] as const
  })
  return program(source.name, {
    inputs: [...primitive.inputs.values()],
    outputs: Object.fromEntries(results),
    donate: Object.fromEntries(source.donate)
  })
}
