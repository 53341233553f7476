/** Reshape, transpose, broadcast, slice, pad, concat: what moves elements without computing. */
import type { Dim, DimLike, Shape, ShapeLike } from "../Dim.ts"
import {
  addDims,
  broadcastShapes,
  ceilDivideDims,
  dimText,
  divideDims,
  equalDims,
  equalShapes,
  shapeText,
  sizeOf,
  subtractDims,
  toDim,
  toShape
} from "../Dim.ts"
import type { NdArray } from "../NdArray.ts"
import { around, broadcastOffsets, stridedOffsets, stridesOf, zerosArray } from "../NdArray.ts"
import type { Rows } from "../ops.ts"
import type { Tensor, TensorType } from "../Tensor.ts"
import { apply1, mismatch, typeText } from "../Tensor.ts"
import { sumTo } from "./reduce.ts"

/** A non-negative axis from one that may count from the end. Throws a RangeError where the shape lacks it. */
export const toAxis = (what: string, axis: number, { shape, dtype }: TensorType): number => {
  const from = axis < 0 ? axis + shape.length : axis
  if (!(Number.isInteger(axis) && from >= 0 && from < shape.length))
    throw new RangeError(`${what}: ${typeText({ shape, dtype })} has no axis ${axis}`)
  return from
}

/** The same elements in another shape; -1 stands once for what is left. */
export const reshape = (x: Tensor, shape: readonly (DimLike | -1)[]): Tensor => {
  const open = shape.indexOf(-1)
  const known = toShape(shape.filter((_, i) => i !== open))
  const target = open < 0 ? known : known.toSpliced(open, 0, divideDims(sizeOf(x.shape), sizeOf(known)))
  return equalShapes(target, x.shape) ? x : apply1({ kind: "reshape", shape: target }, x)
}

/** Axes `from..to` (inclusive) as one axis. */
export const flatten = (x: Tensor, from = 0, to = -1): Tensor => {
  const [first, last] = [toAxis("flatten", from, x), toAxis("flatten", to, x)]
  const merged = sizeOf(x.shape.slice(first, last + 1))
  return reshape(x, x.shape.toSpliced(first, last - first + 1, merged))
}

/** All axes but the last as one: [..., n] -> [rows, n]. */
export const asRows = (x: Tensor): Tensor => reshape(x, [sizeOf(x.shape.slice(0, -1)), x.shape.at(-1)!])

/** A new axis of size 1 at a position. */
export const expandDims = (x: Tensor, axis: number): Tensor =>
  reshape(x, x.shape.toSpliced(axis < 0 ? axis + x.shape.length + 1 : axis, 0, 1))

/** Output axis i is input axis `permutation[i]`. */
export const transpose = (x: Tensor, permutation: readonly number[]): Tensor =>
  permutation.every((axis, i) => axis === i) && permutation.length === x.shape.length
    ? x
    : apply1({ kind: "transpose", permutation }, x)

/** Two axes exchanged. */
export const swapAxes = (x: Tensor, a: number, b: number): Tensor => {
  const [i, j] = [toAxis("swapAxes", a, x), toAxis("swapAxes", b, x)]
  return transpose(
    x,
    x.shape.map((_, axis) => (axis === i ? j : axis === j ? i : axis))
  )
}

/** Numpy's `broadcast_to`. */
export const broadcast = (x: Tensor, shape: ShapeLike): Tensor => {
  const target = toShape(shape)
  return equalShapes(target, x.shape) ? x : apply1({ kind: "broadcast", shape: target }, x)
}

/** Elements `start, start + stride, ...` below `limit` of an axis. */
export const slice = (x: Tensor, axis: number, start: DimLike, limit: DimLike, stride = 1): Tensor => {
  const at = toAxis("slice", axis, x)
  const [from, to] = [toDim(start), toDim(limit)]
  return from === 0 && equalDims(to, x.shape[at]!) && stride === 1
    ? x
    : apply1({ kind: "slice", axis: at, start: from, limit: to, stride }, x)
}

/** An axis cut into pieces of given sizes. */
export const split = (x: Tensor, axis: number, sizes: ShapeLike): readonly Tensor[] => {
  let start: Dim = 0
  return sizes.map((size) => {
    const limit = addDims(start, size)
    const piece = slice(x, axis, start, limit)
    start = limit
    return piece
  })
}

/** `before` and `after` copies of a value around an axis. The amounts may be symbolic. */
export const pad = (x: Tensor, axis: number, before: DimLike, after: DimLike, value = 0): Tensor => {
  const [low, high] = [toDim(before), toDim(after)]
  return low === 0 && high === 0
    ? x
    : apply1({ kind: "pad", axis: toAxis("pad", axis, x), before: low, after: high, value }, x)
}

/** Tensors one after another along an axis. */
export const concat = (tensors: readonly Tensor[], axis: number): Tensor =>
  tensors.length === 1 ? tensors[0]! : apply1({ kind: "concat", axis: toAxis("concat", axis, tensors[0]!) }, ...tensors)

const spread = (x: Tensor, axis: number, stride: number, size: Dim): Tensor => {
  // [n] -> [n, 1] -> zeros after each -> [n * stride], cut to (or filled up to) the size of the sliced range
  const wide = pad(expandDims(x, axis + 1), axis + 1, 0, stride - 1)
  const flat = flatten(wide, axis, axis + 1)
  return slice(flat, axis, 0, size)
}

const gatherOffsets = (x: NdArray, shape: readonly number[], offsets: Int32Array): NdArray => {
  const result = zerosArray(shape)
  for (let n = 0; n < offsets.length; n++) result.data[n] = x.data[offsets[n]!]!
  return result
}

/** Copies `x` into `target` at a position of an axis. */
const place = (target: NdArray, x: NdArray, axis: number, at: number) => {
  const [outer, size, inner] = around(x.shape, axis)
  const row = target.shape[axis]! * inner
  for (let o = 0; o < outer; o++)
    target.data.set(x.data.subarray(o * size * inner, (o + 1) * size * inner), o * row + at * inner)
}

const withAxis = (shape: Shape, axis: number, dim: Dim): Shape => shape.with(axis, dim)

export const shapeRows: Rows<"reshape" | "transpose" | "broadcast" | "slice" | "pad" | "concat"> = {
  reshape: {
    type: ({ shape }, [x]) => {
      if (!equalDims(sizeOf(shape), sizeOf(x!.shape)))
        throw mismatch("reshape", [x!, { shape, dtype: x!.dtype }], "the numbers of elements differ")
      return [{ shape, dtype: x!.dtype }]
    },
    vjp: (_, { inputs, cotangents }) => [reshape(cotangents[0]!, inputs[0]!.shape)],
    evaluate: ({ shape }, [x], { size }) => [{ shape: shape.map(size), data: x!.data }]
  },
  transpose: {
    type: ({ permutation }, [x]) => {
      const { shape, dtype } = x!
      if (permutation.length !== shape.length || shape.some((_, axis) => !permutation.includes(axis)))
        throw new RangeError(`transpose: ${typeText(x!)} cannot be permuted by [${permutation.join(", ")}]`)
      return [{ shape: permutation.map((axis) => shape[axis]!), dtype }]
    },
    vjp: ({ permutation }, { cotangents }) => [
      transpose(
        cotangents[0]!,
        permutation.map((_, axis) => permutation.indexOf(axis))
      )
    ],
    evaluate: ({ permutation }, [x]) => {
      const strides = stridesOf(x!.shape)
      const shape = permutation.map((axis) => x!.shape[axis]!)
      const offsets = stridedOffsets(
        shape,
        permutation.map((axis) => strides[axis]!)
      )
      return [gatherOffsets(x!, shape, offsets)]
    }
  },
  broadcast: {
    type: ({ shape }, [x]) => {
      const sum = broadcastShapes(x!.shape, shape)
      if (sum === undefined || !equalShapes(sum, shape))
        throw mismatch("broadcast", [x!, { shape, dtype: x!.dtype }], "the first does not broadcast to the second")
      return [{ shape, dtype: x!.dtype }]
    },
    vjp: (_, { inputs, cotangents }) => [sumTo(cotangents[0]!, inputs[0]!.shape)],
    evaluate: ({ shape }, [x], { size }) => {
      const target = shape.map(size)
      return [gatherOffsets(x!, target, broadcastOffsets(x!.shape, target))]
    }
  },
  slice: {
    type: ({ axis, start, limit, stride }, [x]) => {
      const { shape, dtype } = x!
      const size = shape[axis]!
      const numbers = [0, start, limit, size].filter((n) => typeof n === "number")
      if (numbers.some((n, i) => i > 0 && n < numbers[i - 1]!) || !(Number.isInteger(stride) && stride > 0))
        throw new RangeError(
          `slice: ${dimText(start)}..${dimText(limit)} by ${stride} does not lie in axis ${axis} of ${shapeText(shape)}`
        )
      return [{ shape: withAxis(shape, axis, ceilDivideDims(subtractDims(limit, start), stride)), dtype }]
    },
    vjp: ({ axis, start, limit, stride }, { inputs, cotangents }) => {
      const range = subtractDims(limit, start)
      const dense = stride === 1 ? cotangents[0]! : spread(cotangents[0]!, axis, stride, range)
      return [pad(dense, axis, start, subtractDims(inputs[0]!.shape[axis]!, limit))]
    },
    evaluate: ({ axis, start, limit, stride }, [x], { size }) => {
      const [outer, count, inner] = around(x!.shape, axis)
      const [from, to] = [size(start), size(limit)]
      if (!(from >= 0 && from <= to && to <= count))
        throw new RangeError(`slice: ${from}..${to} does not lie in axis ${axis} of ${shapeText(x!.shape)}`)
      const result = zerosArray(x!.shape.with(axis, Math.ceil((to - from) / stride)))
      let n = 0
      for (let o = 0; o < outer; o++)
        for (let i = from; i < to; i += stride)
          for (let k = 0; k < inner; k++) result.data[n++] = x!.data[(o * count + i) * inner + k]!
      return [result]
    }
  },
  pad: {
    type: ({ axis, before, after }, [x]) => [
      { shape: withAxis(x!.shape, axis, addDims(addDims(x!.shape[axis]!, before), after)), dtype: x!.dtype }
    ],
    vjp: ({ axis, before }, { inputs, cotangents }) => [
      slice(cotangents[0]!, axis, before, addDims(before, inputs[0]!.shape[axis]!))
    ],
    evaluate: ({ axis, before, after, value }, [x], { size }) => {
      const result = zerosArray(x!.shape.with(axis, size(before) + x!.shape[axis]! + size(after)))
      result.data.fill(value)
      place(result, x!, axis, size(before))
      return [result]
    }
  },
  concat: {
    type: ({ axis }, inputs) => {
      const { shape, dtype } = inputs[0]!
      const rest = (x: TensorType) => withAxis(x.shape, axis, 0)
      if (
        inputs.some(
          (x) => x.dtype !== dtype || x.shape.length !== shape.length || !equalShapes(rest(x), rest(inputs[0]!))
        )
      )
        throw mismatch("concat", inputs, `they differ in more than axis ${axis}`)
      return [
        {
          shape: withAxis(
            shape,
            axis,
            inputs.reduce<Dim>((sum, x) => addDims(sum, x.shape[axis]!), 0)
          ),
          dtype
        }
      ]
    },
    vjp: ({ axis }, { inputs, cotangents, needs }) =>
      split(
        cotangents[0]!,
        axis,
        inputs.map((x) => x.shape[axis]!)
      ).map((piece, i) => (needs[i] ? piece : undefined)),
    evaluate: ({ axis }, inputs) => {
      const total = inputs.reduce((sum, x) => sum + x.shape[axis]!, 0)
      const result = zerosArray(inputs[0]!.shape.with(axis, total))
      let at = 0
      for (const x of inputs) {
        place(result, x, axis, at)
        at += x.shape[axis]!
      }
      return [result]
    }
  }
}
