/** Reading and adding up by integer indices. Indices lie in range; there are no negative ones. */
import type { DimLike, Shape } from "../Dim.ts"
import { equalDims, equalShapes, toDim } from "../Dim.ts"
import { around, elements, zerosArray } from "../NdArray.ts"
import type { Rows } from "../ops.ts"
import type { Tensor, TensorType } from "../Tensor.ts"
import { apply1, isInt, mismatch } from "../Tensor.ts"
import { flatten, reshape, toAxis, transpose } from "./shape.ts"

/** Numpy's `take`: the axis of `x` is replaced by the shape of `indices`. */
export const gather = (x: Tensor, indices: Tensor, axis = 0): Tensor =>
  apply1({ kind: "gather", axis: toAxis("gather", axis, x) }, x, indices)

/** Rows of a table [vocabulary, width] by ids [...]: [..., width]. */
export const embedding = (table: Tensor, ids: Tensor): Tensor => gather(table, ids, 0)

/** Numpy's `take_along_axis`: element by element, an index along the axis; the other axes are equal. */
export const takeAlong = (x: Tensor, indices: Tensor, axis: number): Tensor =>
  apply1({ kind: "takeAlong", axis: toAxis("takeAlong", axis, x) }, x, indices)

/** Zeros with `size` along the axis, plus `values` at their `indices` (both of one shape); repeats add up. */
export const putAlong = (values: Tensor, indices: Tensor, axis: number, size: DimLike): Tensor =>
  apply1({ kind: "putAlong", axis: toAxis("putAlong", axis, values), size: toDim(size) }, values, indices)

/** Row s of the result [segments, ...rest] is the sum of the rows of `values` [n, ...rest] whose id [n] is s. */
export const segmentSum = (values: Tensor, ids: Tensor, segments: DimLike): Tensor =>
  apply1({ kind: "segmentSum", segments: toDim(segments) }, values, ids)

const checkIndices = (what: string, inputs: readonly TensorType[]) => {
  if (!isInt(inputs[1]!.dtype)) throw mismatch(what, inputs, "indices must be integers")
}

const checked = (what: string, index: number, size: number): number => {
  if (!(Number.isInteger(index) && index >= 0 && index < size))
    throw new RangeError(`${what}: index ${index} does not lie in 0..${size - 1}`)
  return index
}

const alongType = (what: string, axis: number, inputs: readonly TensorType[]): Shape => {
  checkIndices(what, inputs)
  const [x, indices] = [inputs[0]!.shape, inputs[1]!.shape]
  if (x.length !== indices.length || x.some((dim, i) => i !== axis && !equalDims(dim, indices[i]!)))
    throw mismatch(what, inputs, `the shapes differ in more than axis ${axis}`)
  return indices
}

/** Calls `visit` with the offset of each index and the offset in an array with `size` along the axis. */
const eachAlong = (
  shape: readonly number[],
  axis: number,
  index: (offset: number) => number,
  size: number,
  visit: (offset: number, target: number) => void
) => {
  const [outer, count, inner] = around(shape, axis)
  for (let o = 0; o < outer; o++)
    for (let i = 0; i < count; i++)
      for (let k = 0; k < inner; k++) {
        const offset = (o * count + i) * inner + k
        visit(offset, (o * size + index(offset)) * inner + k)
      }
}

export const indexRows: Rows<"gather" | "takeAlong" | "putAlong" | "segmentSum"> = {
  gather: {
    type: ({ axis }, inputs) => {
      checkIndices("gather", inputs)
      return [{ shape: inputs[0]!.shape.toSpliced(axis, 1, ...inputs[1]!.shape), dtype: inputs[0]!.dtype }]
    },
    vjp: ({ axis }, { inputs, cotangents }) => {
      const [x, indices] = [inputs[0]!, inputs[1]!]
      const rank = indices.shape.length
      // bring the axes of the indices to the front, add up rows, bring the axis back
      const dy = cotangents[0]!
      const front = dy.shape.map((_, i) => (i < rank ? axis + i : i < rank + axis ? i - rank : i))
      const rows = transpose(dy, front)
      const flat = reshape(rows, [-1, ...rows.shape.slice(rank)])
      const ids = rank === 0 ? reshape(indices, [1]) : flatten(indices)
      const sums = segmentSum(flat, ids, x.shape[axis]!)
      return [
        transpose(
          sums,
          x.shape.map((_, i) => (i === axis ? 0 : i < axis ? i + 1 : i))
        )
      ]
    },
    evaluate: ({ axis }, [x, indices]) => {
      const [outer, count, inner] = around(x!.shape, axis)
      const result = zerosArray(x!.shape.toSpliced(axis, 1, ...indices!.shape))
      let n = 0
      for (let o = 0; o < outer; o++)
        for (const index of indices!.data) {
          const at = (o * count + checked("gather", index, count)) * inner
          for (let k = 0; k < inner; k++) result.data[n++] = x!.data[at + k]!
        }
      return [result]
    }
  },
  takeAlong: {
    type: ({ axis }, inputs) => [{ shape: alongType("takeAlong", axis, inputs), dtype: inputs[0]!.dtype }],
    vjp: ({ axis }, { inputs, cotangents }) => [putAlong(cotangents[0]!, inputs[1]!, axis, inputs[0]!.shape[axis]!)],
    evaluate: ({ axis }, [x, indices]) => {
      const result = zerosArray(indices!.shape)
      const size = x!.shape[axis]!
      const index = (offset: number) => checked("takeAlong", indices!.data[offset]!, size)
      eachAlong(indices!.shape, axis, index, size, (offset, from) => {
        result.data[offset] = x!.data[from]!
      })
      return [result]
    }
  },
  putAlong: {
    type: ({ axis, size }, inputs) => {
      checkIndices("putAlong", inputs)
      if (!equalShapes(inputs[0]!.shape, inputs[1]!.shape)) throw mismatch("putAlong", inputs, "the shapes differ")
      return [{ shape: inputs[0]!.shape.with(axis, size), dtype: inputs[0]!.dtype }]
    },
    vjp: ({ axis }, { inputs, cotangents }) => [takeAlong(cotangents[0]!, inputs[1]!, axis)],
    evaluate: ({ axis, size }, [values, indices], context) => {
      const count = context.size(size)
      const result = zerosArray(values!.shape.with(axis, count))
      const index = (offset: number) => checked("putAlong", indices!.data[offset]!, count)
      eachAlong(values!.shape, axis, index, count, (offset, to) => {
        result.data[to]! += values!.data[offset]!
      })
      return [result]
    }
  },
  segmentSum: {
    type: ({ segments }, inputs) => {
      checkIndices("segmentSum", inputs)
      const [values, ids] = [inputs[0]!, inputs[1]!]
      if (ids.shape.length !== 1 || values.shape.length === 0 || !equalDims(values.shape[0]!, ids.shape[0]!))
        throw mismatch("segmentSum", inputs, "there must be one id per row")
      return [{ shape: values.shape.with(0, segments), dtype: values.dtype }]
    },
    vjp: (_, { inputs, cotangents }) => [gather(cotangents[0]!, inputs[1]!, 0)],
    evaluate: ({ segments }, [values, ids], { size }) => {
      const count = size(segments)
      const result = zerosArray(values!.shape.with(0, count))
      const width = elements(values!.shape.slice(1))
      ids!.data.forEach((id, row) => {
        const at = checked("segmentSum", id, count) * width
        for (let k = 0; k < width; k++) result.data[at + k]! += values!.data[row * width + k]!
      })
      return [result]
    }
  }
}
