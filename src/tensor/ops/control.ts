/** Loops, and identities that steer derivatives, scheduling and layout. */
import type { DimLike } from "../Dim.ts"
import { equalDims, equalShapes, toDim } from "../Dim.ts"
import { pullback } from "../gradient.ts"
import type { NdArray } from "../NdArray.ts"
import { elements, zerosArray } from "../NdArray.ts"
import type { Rows } from "../ops.ts"
import { closeBody, instantiate } from "../rewrite.ts"
import type { PrimitiveOf, Tensor, TensorType, VjpContext } from "../Tensor.ts"
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

/**
 * The derivative of a loop: a forward loop that also stacks the carried values each iteration started with, then a
 * loop in the opposite direction that applies the derivative of the body.
 */
const loopVjp = (
  op: PrimitiveOf<"loop">,
  { inputs, cotangents, needs }: VjpContext
): readonly (Tensor | undefined)[] => {
  const { trips, reverse, body } = op
  const carried = inputs.slice(0, op.carried)
  const scanned = inputs.slice(op.carried, op.carried + op.scanned)
  const rest = inputs.slice(op.carried + op.scanned)
  const starts = loop({ trips, carried, scanned, reverse }, (state) => {
    const results = instantiate(body, [state.index, ...state.carried, ...state.scanned, ...rest])
    return { carried: results.slice(0, op.carried), stacked: state.carried }
  }).stacked
  const floats = (list: readonly Tensor[], from: number, wanted: boolean) =>
    list.flatMap((x, i) => (isFloat(x.dtype) && (wanted || needs[from + i]) ? [i] : []))
  const carriedBy = floats(carried, 0, true)
  const scannedBy = floats(scanned, op.carried, false)
  const restBy = floats(rest, op.carried + op.scanned, false)
  const stackedOut = body.results.slice(op.carried).flatMap((_, i) => {
    const by = cotangents[op.carried + i]
    return by === undefined ? [] : [{ at: op.carried + i, by }]
  })
  const back = loop(
    {
      trips,
      reverse: !reverse,
      carried: [
        ...carriedBy.map((i) => cotangents[i] ?? zeros(carried[i]!.shape, carried[i]!.dtype)),
        ...restBy.map((i) => zeros(rest[i]!.shape, rest[i]!.dtype))
      ],
      scanned: [...starts, ...scanned, ...stackedOut.map(({ by }) => by)]
    },
    (state) => {
      const start = state.scanned.slice(0, op.carried)
      const slices = state.scanned.slice(op.carried, op.carried + op.scanned)
      const cotangentSlices = state.scanned.slice(op.carried + op.scanned)
      const dCarried = state.carried.slice(0, carriedBy.length)
      const sums = state.carried.slice(carriedBy.length)
      // own copies: outer tensors may depend on each other, and the body's derivative is by each alone
      const outer = rest.map(stopGradient)
      const results = instantiate(body, [state.index, ...start, ...slices, ...outer])
      const wrt = [
        ...carriedBy.map((i) => start[i]!),
        ...scannedBy.map((i) => slices[i]!),
        ...restBy.map((i) => outer[i]!)
      ]
      const by = pullback(
        [...carriedBy.map((i) => results[i]!), ...stackedOut.map(({ at }) => results[at]!)],
        [...dCarried, ...cotangentSlices],
        wrt
      ).map((dx, i) => dx ?? zeros(wrt[i]!.shape, wrt[i]!.dtype))
      const fromRest = carriedBy.length + scannedBy.length
      return {
        carried: [...by.slice(0, carriedBy.length), ...sums.map((sum, i) => add(sum, by[fromRest + i]!))],
        stacked: by.slice(carriedBy.length, fromRest)
      }
    }
  )
  const result = new Array<Tensor | undefined>(inputs.length).fill(undefined)
  carriedBy.forEach((i, n) => {
    result[i] = back.carried[n]
  })
  scannedBy.forEach((i, n) => {
    result[op.carried + i] = back.stacked[n]
  })
  restBy.forEach((i, n) => {
    result[op.carried + op.scanned + i] = back.carried[carriedBy.length + n]
  })
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
