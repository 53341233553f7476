/**
 * The reference meaning of a program: every operation in float64 (integers exact below 2^53), composites by their
 * decompositions, one node after the other. It is what every backend is checked against; it is not fast.
 */
import { dimNames, equalDims, evaluateDim, shapeText, substituteDim } from "./Dim.ts"
import type { NdArray } from "./NdArray.ts"
import { elements } from "./NdArray.ts"
import { rowOf } from "./ops.ts"
import type { Program } from "./Program.ts"
import { expand } from "./Program.ts"
import { reach } from "./rewrite.ts"
import type { Body, Node, Tensor } from "./Tensor.ts"
import { byteWidth, typeText } from "./Tensor.ts"

export interface Feed {
  readonly shape: readonly number[]
  /** Row-major. */
  readonly data: ArrayLike<number>
}

export interface Interpretation {
  readonly outputs: Readonly<Record<string, NdArray>>
  /** How many nodes were evaluated, those in loops once per trip. */
  readonly evaluated: number
  /** The most bytes (by declared dtypes) that were alive at once outside loops, inputs included. */
  readonly peakBytes: number
}

/**
 * Sizes of named dimensions from the shapes of feeds. Throws a RangeError where a feed is missing, contradicts another,
 * or leaves a name open.
 */
export const bindDims = (
  program: Program,
  feeds: Readonly<Record<string, { readonly shape: readonly number[] }>>
): Readonly<Record<string, number>> => {
  const bindings: Record<string, number> = {}
  const pairs = [...program.inputs].flatMap(([name, x]) => {
    const feed = Object.hasOwn(feeds, name) ? feeds[name] : undefined
    if (feed === undefined)
      throw new RangeError(`program ${program.name}: input "${name}" (${typeText(x)}) has no feed`)
    if (feed.shape.length !== x.shape.length)
      throw new RangeError(`input "${name}": ${shapeText(feed.shape)} does not fit ${typeText(x)}`)
    return x.shape.map((dim, axis) => ({ name, x, feed, dim, size: feed.shape[axis]! }))
  })
  for (const { dim, size } of pairs) {
    if (typeof dim === "number" || dim.terms.length !== 1) continue
    const { coefficient, atoms } = dim.terms[0]!
    if (coefficient === 1 && atoms.length === 1 && atoms[0]!.kind === "name") bindings[atoms[0]!.name] ??= size
  }
  for (const { name, x, feed, dim, size } of pairs) {
    const value = substituteDim(dim, bindings)
    if (typeof value !== "number")
      throw new RangeError(`program ${program.name}: no input's shape tells the size of ${dimNames(value).join(", ")}`)
    if (!equalDims(value, size))
      throw new RangeError(`input "${name}": ${shapeText(feed.shape)} does not fit ${typeText(x)} (${value} expected)`)
  }
  return bindings
}

/** Runs a program on plain arrays. Throws a RangeError for feeds that do not fit and indices out of range. */
export const interpret = (program: Program, feeds: Readonly<Record<string, Feed>>): Interpretation => {
  const plain = expand(program)
  const bindings = bindDims(plain, feeds)
  const size = (dim: Tensor["shape"][number]) => evaluateDim(dim, bindings)
  let evaluated = 0

  const feed = (name: string): NdArray => {
    const { shape, data } = feeds[name]!
    if (elements(shape) !== data.length)
      throw new RangeError(`input "${name}": ${data.length} values do not fill the shape ${shapeText(shape)}`)
    return { shape, data: Float64Array.from(data) }
  }

  const evaluate = (node: Node, values: ReadonlyMap<Tensor, NdArray>): readonly NdArray[] => {
    const { op } = node
    if (op.kind === "composite") throw new RangeError(`${op.definition.name} was not expanded`)
    evaluated++
    const inputs = node.inputs.map((x) => values.get(x)!)
    return rowOf(op).evaluate(op, inputs, { size, feed, run, inputTypes: node.inputs })
  }

  const bodies = new Map<Body, readonly Node[]>()
  const run = (body: Body, args: readonly NdArray[]): readonly NdArray[] => {
    const values = new Map(body.parameters.map((x, i) => [x, args[i]!]))
    let nodes = bodies.get(body)
    if (nodes === undefined) bodies.set(body, (nodes = reach(body.results, (x) => values.has(x))))
    for (const node of nodes)
      evaluate(node, values).forEach((value, i) => {
        values.set(node.outputs[i]!, value)
      })
    return body.results.map((x) => values.get(x)!)
  }

  const results = new Set(plain.outputs.values())
  const lastUse = new Map<Tensor, Node>()
  for (const node of plain.nodes) {
    for (const x of node.outputs) lastUse.set(x, node)
    for (const x of node.inputs) lastUse.set(x, node)
  }
  const values = new Map<Tensor, NdArray>()
  let bytes = 0
  let peakBytes = 0
  const bytesOf = (x: Tensor) => elements(values.get(x)!.shape) * byteWidth[x.dtype]
  for (const node of plain.nodes) {
    evaluate(node, values).forEach((value, i) => {
      values.set(node.outputs[i]!, value)
      bytes += bytesOf(node.outputs[i]!)
    })
    peakBytes = Math.max(peakBytes, bytes)
    for (const x of new Set([...node.inputs, ...node.outputs])) {
      if (lastUse.get(x) !== node || results.has(x)) continue
      bytes -= bytesOf(x)
      values.delete(x)
    }
  }
  const outputs = Object.fromEntries([...plain.outputs].map(([name, x]) => [name, values.get(x)!]))
  return { outputs, evaluated, peakBytes }
}
