/** Loops, and identities that steer derivatives, scheduling and layout. */
import type { DimLike } from "../Dim.ts"
import { equalDims, equalShapes, toDim } from "../Dim.ts"
import { pullback } from "../gradient.ts"
import type { NdArray } from "../NdArray.ts"
import { elements, zerosArray } from "../NdArray.ts"
import type { Rows } from "../ops.ts"
import { closeBody, dependents, reach, reapply, rewrite } from "../rewrite.ts"
import type { Body, Node, PrimitiveOf, Tensor, TensorType, VjpContext } from "../Tensor.ts"
import { apply, apply1, isFloat, mismatch, parameter, typeText } from "../Tensor.ts"
import { add } from "./elementwise.ts"
import { constant, zeros } from "./leaf.ts"
import { reshape } from "./shape.ts"

export interface LoopState {
  /** The iteration, an i32 scalar. */
  readonly index: Tensor
  readonly carried: readonly Tensor[]
  /** This iteration's slice of each scanned tensor, without the leading axis. */
  readonly scanned: readonly Tensor[]
}

export interface LoopOptions {
  readonly trips: DimLike
  /** Initial values of what goes from iteration to iteration. */
  readonly carried?: readonly Tensor[]
  /** Tensors [trips, ...] of which iteration i sees slice i. */
  readonly scanned?: readonly Tensor[]
  /** Iterations see (and stack at) `trips - 1 - i`. */
  readonly reverse?: boolean
}

export interface LoopStep {
  readonly carried?: readonly Tensor[]
  /** Tensors that are stacked to [trips, ...]. */
  readonly stacked?: readonly Tensor[]
}

export interface LoopResult {
  readonly carried: readonly Tensor[]
  readonly stacked: readonly Tensor[]
}

/**
 * Runs `step` `trips` times. The step may read any tensor from outside; what does not depend on the loop's state is
 * computed once, before it. One trip (a loop over a single chunk) is not a loop: the step stands in the graph itself.
 */
export const loop = (options: LoopOptions, step: (state: LoopState) => LoopStep): LoopResult => {
  const { carried = [], scanned = [], reverse = false } = options
  const trips = toDim(options.trips)
  for (const x of scanned)
    if (x.shape.length === 0 || !equalDims(x.shape[0]!, trips))
      throw mismatch("loop", [x, { shape: [trips], dtype: "i32" }], "a scanned tensor has one slice per trip")
  if (trips === 1) {
    const once = step({
      index: constant(0, "i32"),
      carried,
      scanned: scanned.map((x) => reshape(x, x.shape.slice(1)))
    })
    const out = { carried: once.carried ?? [], stacked: once.stacked ?? [] }
    checkCarried(carried, out.carried)
    return { carried: out.carried, stacked: out.stacked.map((x) => reshape(x, [1, ...x.shape])) }
  }
  const index = parameter(0, { shape: [], dtype: "i32" })
  const state = carried.map((x, i) => parameter(1 + i, x))
  const slices = scanned.map((x, i) => parameter(1 + carried.length + i, { shape: x.shape.slice(1), dtype: x.dtype }))
  const next = step({ index, carried: state, scanned: slices })
  const [results, stacked] = [next.carried ?? [], next.stacked ?? []]
  const { body, captured } = closeBody([index, ...state, ...slices], [...results, ...stacked])
  const outputs = apply({ kind: "loop", trips, carried: carried.length, scanned: scanned.length, reverse, body }, [
    ...carried,
    ...scanned,
    ...captured
  ])
  return { carried: outputs.slice(0, carried.length), stacked: outputs.slice(carried.length) }
}

/** Identity without a derivative. */
export const stopGradient = (x: Tensor): Tensor => apply1({ kind: "stopGradient" }, x)

/** Identities of the tensors, none of which is ready before all of them are. */
export const barrier = (tensors: readonly Tensor[]): readonly Tensor[] => apply({ kind: "barrier" }, tensors)

/** Identity that names a tensor for `rematerialise` to keep. */
export const saveName = (x: Tensor, name: string): Tensor => apply1({ kind: "saveName", name }, x)

/** Identity that lays each axis out over a mesh axis, or over none (null). */
export const shard = (x: Tensor, axes: readonly (string | null)[]): Tensor => apply1({ kind: "shard", axes }, x)

const sameType = (a: TensorType, b: TensorType) => a.dtype === b.dtype && equalShapes(a.shape, b.shape)

const checkCarried = (before: readonly TensorType[], after: readonly TensorType[]) => {
  if (before.length !== after.length)
    throw new RangeError(`loop: ${before.length} tensors are carried in and ${after.length} out`)
  before.forEach((x, i) => {
    if (!sameType(x, after[i]!)) throw mismatch("loop", [x, after[i]!], "a carried tensor changes its type")
  })
}

const loopTypes = (op: PrimitiveOf<"loop">, inputs: readonly TensorType[]): readonly TensorType[] => {
  const { body, carried, scanned, trips } = op
  const args: readonly TensorType[] = [
    { shape: [], dtype: "i32" },
    ...inputs.map((x, i) => (i >= carried && i < carried + scanned ? { shape: x.shape.slice(1), dtype: x.dtype } : x))
  ]
  if (args.length !== body.parameters.length)
    throw new RangeError(`loop: the body takes ${body.parameters.length} arguments, not ${args.length}`)
  args.forEach((arg, i) => {
    if (!sameType(arg, body.parameters[i]!))
      throw mismatch("loop", [arg, body.parameters[i]!], "argument and parameter")
  })
  checkCarried(inputs.slice(0, carried), body.results.slice(0, carried))
  return body.results.map((x, i) => (i < carried ? x : { shape: [trips, ...x.shape], dtype: x.dtype }))
}

/** What only arranges elements: a derivative does it again rather than keep what comes of it. */
const views = new Set(["reshape", "transpose", "broadcast", "cast", "stopGradient", "saveName"])
const elementwise = new Set(["unary", "binary", "compare", "select"])

/**
 * What a derivative of a body reads of the body's own values: the tensors to keep of each trip. Not kept is what only arranges
 * others, and elementwise work on what is there again in any case: slices, the index, and what every trip reads.
 */
const residuals = (body: Body, carried: number, derivatives: readonly Tensor[]): ReadonlySet<Tensor> => {
  const forward = new Set(reach(body.results))
  const ofState = dependents(body.results, body.parameters.slice(1, 1 + carried))
  const isCheap = (node: Node) => views.has(node.op.kind) || (elementwise.has(node.op.kind) && !ofState.has(node))
  const kept = new Set<Tensor>()
  const keep = (x: Tensor): void => {
    if (isCheap(x.node)) x.node.inputs.forEach(keep)
    // what has no inputs is made again
    else if (x.node.inputs.length > 0 || x.node.op.kind === "parameter") kept.add(x)
  }
  const isForward = (x: Tensor) => forward.has(x.node) || x.node.op.kind === "parameter"
  for (const x of derivatives) if (isForward(x)) keep(x)
  for (const node of reach(derivatives, isForward)) for (const x of node.inputs) if (isForward(x)) keep(x)
  return kept
}

/**
 * The derivative of a loop: the loop again with what its derivative reads of each trip stacked (`mergeLoops` makes the two one),
 * then a loop in the opposite direction that applies the derivative of the body. What is to be computed again rather than kept,
 * the body says (`rematerialise`).
 */
const loopVjp = (
  op: PrimitiveOf<"loop">,
  { inputs, cotangents, needs }: VjpContext
): readonly (Tensor | undefined)[] => {
  const { body, carried, reverse, scanned, trips } = op
  const wanted = (from: number, to: number, of: (i: number) => boolean) =>
    inputs.flatMap((x, i) => (i >= from && i < to && isFloat(x.dtype) && of(i) ? [i] : []))
  const byCarried = wanted(0, carried, () => true)
  const byScanned = wanted(carried, carried + scanned, (i) => needs[i]!)
  const byRest = wanted(carried + scanned, inputs.length, (i) => needs[i]!)
  const stackedOut = body.results.slice(carried).flatMap((_, i) => {
    const by = cotangents[carried + i]
    return by === undefined ? [] : [{ at: carried + i, by }]
  })

  // the derivative of one trip, over the body's own parameters
  const own = (i: number) => body.parameters[1 + i]!
  const wrt = [...byCarried, ...byScanned, ...byRest].map(own)
  const given = [
    ...byCarried.map((i) => parameter(0, own(i))),
    ...stackedOut.map(({ by }) => parameter(0, { shape: by.shape.slice(1), dtype: by.dtype }))
  ]
  const ends = [...byCarried.map((i) => body.results[i]!), ...stackedOut.map(({ at }) => body.results[at]!)]
  const derivatives = pullback(ends, given, wrt).map((dx, i) => dx ?? zeros(wrt[i]!.shape, wrt[i]!.dtype))

  const read = residuals(body, carried, derivatives)
  // slices, and what every trip reads, are there again
  const fresh = new Set<Tensor>([body.parameters[0]!, ...body.parameters.slice(1 + carried), ...given])
  const kept = [...read].filter((x) => !fresh.has(x))
  // what is stacked already is not stacked again
  const results = [...body.results, ...kept.filter((x) => body.results.indexOf(x, carried) < 0)]
  const again = apply({ ...op, body: { parameters: body.parameters, results } }, inputs)
  const slices = inputs.flatMap((_, i) => (i >= carried && i < carried + scanned && read.has(own(i)) ? [i] : []))

  const back = loop(
    {
      trips,
      reverse: !reverse,
      carried: [
        ...byCarried.map((i) => cotangents[i] ?? zeros(inputs[i]!.shape, inputs[i]!.dtype)),
        ...byRest.map((i) => zeros(inputs[i]!.shape, inputs[i]!.dtype))
      ],
      scanned: [
        ...stackedOut.map(({ by }) => by),
        ...kept.map((x) => again[results.indexOf(x, carried)]!),
        ...slices.map((i) => inputs[i]!)
      ]
    },
    (state) => {
      const known = new Map<Tensor, Tensor>([[body.parameters[0]!, state.index]])
      const arriving = [...state.carried.slice(0, byCarried.length), ...state.scanned]
      for (const [i, x] of [...given, ...kept, ...slices.map(own)].entries()) known.set(x, arriving[i]!)
      for (let i = carried + scanned; i < inputs.length; i++) known.set(own(i), inputs[i]!)
      const by = rewrite(derivatives, reapply, known)
      const sums = state.carried.slice(byCarried.length)
      const fromRest = byCarried.length + byScanned.length
      return {
        carried: [...by.slice(0, byCarried.length), ...sums.map((sum, i) => add(sum, by[fromRest + i]!))],
        stacked: by.slice(byCarried.length, fromRest)
      }
    }
  )
  const result = new Array<Tensor | undefined>(inputs.length).fill(undefined)
  for (const [n, i] of byCarried.entries()) result[i] = back.carried[n]
  for (const [n, i] of byScanned.entries()) result[i] = back.stacked[n]
  for (const [n, i] of byRest.entries()) result[i] = back.carried[byCarried.length + n]
  return result
}

const sliceAt = (x: NdArray, i: number): NdArray => {
  const shape = x.shape.slice(1)
  const size = elements(shape)
  return { shape, data: x.data.subarray(i * size, (i + 1) * size) }
}

const identity = {
  type: (_: unknown, inputs: readonly TensorType[]) => inputs,
  evaluate: (_: unknown, x: readonly NdArray[]) => x
}

export const controlRows: Rows<"loop" | "stopGradient" | "barrier" | "saveName" | "shard"> = {
  loop: {
    type: loopTypes,
    vjp: loopVjp,
    evaluate: ({ trips, carried, scanned, reverse, body }, inputs, { size, run }) => {
      const count = size(trips)
      let state = inputs.slice(0, carried)
      const stacked: NdArray[] = []
      for (let i = 0; i < count; i++) {
        const at = reverse ? count - 1 - i : i
        const args = inputs.map((x, n) => (n < carried ? state[n]! : n < carried + scanned ? sliceAt(x, at) : x))
        const results = run(body, [{ shape: [], data: Float64Array.of(at) }, ...args])
        state = results.slice(0, carried)
        results.slice(carried).forEach((x, n) => {
          const all = (stacked[n] ??= zerosArray([count, ...x.shape]))
          all.data.set(x.data, at * x.data.length)
        })
      }
      const empty = body.results.slice(carried).map((x) => zerosArray([0, ...x.shape.map(size)]))
      return [...state, ...(count === 0 ? empty : stacked)]
    }
  },
  stopGradient: { ...identity, vjp: () => [] },
  barrier: { ...identity, vjp: (_, { cotangents }) => cotangents },
  saveName: { ...identity, vjp: (_, { cotangents }) => cotangents },
  shard: {
    ...identity,
    type: ({ axes }, [x]) => {
      if (axes.length !== x!.shape.length)
        throw new RangeError(`shard: ${typeText(x!)} has not the ${axes.length} axes of [${axes.join(", ")}]`)
      return [x!]
    },
    vjp: ({ axes }, { cotangents }) => [shard(cotangents[0]!, axes)]
  }
}
