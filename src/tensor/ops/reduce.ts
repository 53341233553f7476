/** Reductions, cumulative sums and selection of the largest. */
import type { Shape } from "../Dim.ts"
import { equalDims, equalShapes, sizeOf } from "../Dim.ts"
import type { NdArray } from "../NdArray.ts"
import { around, broadcastOffsets, zerosArray } from "../NdArray.ts"
import type { Rows } from "../ops.ts"
import type { Reduction, Tensor } from "../Tensor.ts"
import { apply, apply1, isFloat, mismatch, typeText } from "../Tensor.ts"
import { cast, div, equal, mul, reciprocal, select } from "./elementwise.ts"
import { putAlong } from "./indexing.ts"
import { size } from "./leaf.ts"
import { broadcast, reshape, toAxis } from "./shape.ts"

export interface ReduceOptions {
  /** Reduced axes stay, with size 1 (default false). */
  readonly keepDims?: boolean
}

export type Axes = number | readonly number[]

const reduce =
  (fn: Reduction) =>
  /** Over one axis, several, or (by default) all. */
  (x: Tensor, axes?: Axes, { keepDims = false }: ReduceOptions = {}): Tensor => {
    const list = axes === undefined ? x.shape.map((_, axis) => axis) : typeof axes === "number" ? [axes] : axes
    const sorted = [...new Set(list.map((axis) => toAxis(fn, axis, x)))].sort((a, b) => a - b)
    return sorted.length === 0 ? x : apply1({ kind: "reduce", fn, axes: sorted, keepDims }, x)
  }

export const reduceSum = reduce("sum")
export const reduceMax = reduce("max")
export const reduceMin = reduce("min")

/** The mean over one axis, several, or (by default) all. */
export const reduceMean = (x: Tensor, axes?: Axes, options: ReduceOptions = {}): Tensor => {
  const list = axes === undefined ? x.shape.map((_, axis) => axis) : typeof axes === "number" ? [axes] : axes
  const count = sizeOf(list.map((axis) => x.shape[toAxis("mean", axis, x)]!))
  const sum = reduceSum(x, axes, options)
  return typeof count === "number" ? mul(sum, 1 / count) : div(sum, size(count, x.dtype))
}

/** Sums a tensor over the axes that were broadcast, so that it has a given shape. */
export const sumTo = (x: Tensor, shape: Shape): Tensor => {
  if (equalShapes(x.shape, shape)) return x
  const lead = x.shape.length - shape.length
  const axes = x.shape.flatMap((dim, i) => (i < lead || (shape[i - lead] === 1 && !equalDims(dim, 1)) ? [i] : []))
  return reshape(reduceSum(x, axes, { keepDims: lead === 0 }), shape)
}

/** The first index of the largest value along an axis, i32, without the axis. */
export const argMax = (x: Tensor, axis: number): Tensor =>
  apply1({ kind: "argMax", axis: toAxis("argMax", axis, x) }, x)

/** Sums of all elements up to each; `exclusive` leaves the element itself out, `reverse` sums from the end. */
export const cumulativeSum = (
  x: Tensor,
  axis: number,
  { exclusive = false, reverse = false }: { readonly exclusive?: boolean; readonly reverse?: boolean } = {}
): Tensor => apply1({ kind: "cumulativeSum", axis: toAxis("cumulativeSum", axis, x), exclusive, reverse }, x)

/** The k largest along the last axis, descending (ties: lower index first), and their indices (i32). */
export const topK = (x: Tensor, k: number): { readonly values: Tensor; readonly indices: Tensor } => {
  const [values, indices] = apply({ kind: "topK", k }, [x])
  return { values: values!, indices: indices! }
}

/** Output offset of each element of an input that is reduced over axes. */
const kept = (shape: readonly number[], axes: readonly number[]) =>
  broadcastOffsets(
    shape.map((dim, axis) => (axes.includes(axis) ? 1 : dim)),
    shape
  )

const reducedShape = <D>(shape: readonly D[], axes: readonly number[], keepDims: boolean, one: D): readonly D[] =>
  keepDims
    ? shape.map((dim, axis) => (axes.includes(axis) ? one : dim))
    : shape.filter((_, axis) => !axes.includes(axis))

const combine: Readonly<Record<Reduction, { readonly start: number; readonly f: (a: number, b: number) => number }>> = {
  sum: { start: 0, f: (a, b) => a + b },
  max: { start: Number.NEGATIVE_INFINITY, f: Math.max },
  min: { start: Number.POSITIVE_INFINITY, f: Math.min }
}

/** Calls `visit` with the offset of each element along an axis of each line. */
const lines = (
  x: NdArray,
  axis: number,
  visit: (line: number, offset: (i: number) => number, size: number) => void
) => {
  const [outer, size, inner] = around(x.shape, axis)
  for (let o = 0; o < outer; o++)
    for (let k = 0; k < inner; k++) visit(o * inner + k, (i) => (o * size + i) * inner + k, size)
}

export const reduceRows: Rows<"reduce" | "argMax" | "cumulativeSum" | "topK"> = {
  reduce: {
    type: ({ fn, axes, keepDims }, [x]) => {
      if (x!.dtype === "bool") throw mismatch(fn, [x!], "booleans are not summed: cast them")
      for (const axis of axes) toAxis(fn, axis, x!)
      return [{ shape: reducedShape(x!.shape, axes, keepDims, 1), dtype: x!.dtype }]
    },
    vjp: ({ fn, axes }, { inputs, outputs, cotangents }) => {
      const x = inputs[0]!
      const thin = reducedShape(x.shape, axes, true, 1)
      const dy = reshape(cotangents[0]!, thin)
      if (fn === "sum") return [broadcast(dy, x.shape)]
      const hit = equal(x, reshape(outputs[0]!, thin))
      const share = reciprocal(reduceSum(cast(hit, x.dtype), axes, { keepDims: true }))
      return [select(hit, mul(dy, share), 0)]
    },
    evaluate: ({ fn, axes, keepDims }, [x]) => {
      const { start, f } = combine[fn]
      const result = zerosArray(reducedShape(x!.shape, axes, keepDims, 1))
      result.data.fill(start)
      const offsets = kept(x!.shape, axes)
      for (let n = 0; n < offsets.length; n++) result.data[offsets[n]!] = f(result.data[offsets[n]!]!, x!.data[n]!)
      return [result]
    }
  },
  argMax: {
    type: ({ axis }, [x]) => {
      toAxis("argMax", axis, x!)
      return [{ shape: reducedShape(x!.shape, [axis], false, 1), dtype: "i32" }]
    },
    vjp: () => [],
    evaluate: ({ axis }, [x]) => {
      const result = zerosArray(reducedShape(x!.shape, [axis], false, 1))
      lines(x!, axis, (line, offset, size) => {
        let best = 0
        for (let i = 1; i < size; i++) if (x!.data[offset(i)]! > x!.data[offset(best)]!) best = i
        result.data[line] = best
      })
      return [result]
    }
  },
  cumulativeSum: {
    type: ({ axis }, [x]) => {
      if (x!.dtype === "bool") throw mismatch("cumulativeSum", [x!], "booleans are not summed: cast them")
      toAxis("cumulativeSum", axis, x!)
      return [x!]
    },
    vjp: ({ axis, exclusive, reverse }, { cotangents }) => [
      cumulativeSum(cotangents[0]!, axis, { exclusive, reverse: !reverse })
    ],
    evaluate: ({ axis, exclusive, reverse }, [x]) => {
      const result = zerosArray(x!.shape)
      lines(x!, axis, (_, offset, size) => {
        let sum = 0
        for (let i = 0; i < size; i++) {
          const at = offset(reverse ? size - 1 - i : i)
          if (exclusive) result.data[at] = sum
          sum += x!.data[at]!
          if (!exclusive) result.data[at] = sum
        }
      })
      return [result]
    }
  },
  topK: {
    type: ({ k }, [x]) => {
      const size = x!.shape.at(-1)
      if (size === undefined || !(Number.isInteger(k) && k > 0) || (typeof size === "number" && k > size))
        throw new RangeError(`topK: ${typeText(x!)} has no ${k} largest along its last axis`)
      const shape = x!.shape.with(-1, k)
      return [
        { shape, dtype: x!.dtype },
        { shape, dtype: "i32" }
      ]
    },
    vjp: (_, { inputs, outputs, cotangents }) => {
      const dy = cotangents[0]
      return [dy && isFloat(dy.dtype) ? putAlong(dy, outputs[1]!, -1, inputs[0]!.shape.at(-1)!) : undefined]
    },
    evaluate: ({ k }, [x]) => {
      const shape = x!.shape.with(-1, k)
      const [values, indices] = [zerosArray(shape), zerosArray(shape)]
      lines(x!, x!.shape.length - 1, (line, offset, size) => {
        const order = Array.from({ length: size }, (_, i) => i).sort(
          (a, b) => x!.data[offset(b)]! - x!.data[offset(a)]! || a - b
        )
        for (let i = 0; i < k; i++) {
          values.data[line * k + i] = x!.data[offset(order[i]!)]!
          indices.data[line * k + i] = order[i]!
        }
      })
      return [values, indices]
    }
  }
}
