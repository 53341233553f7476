/** Tensors made from nothing: inputs, literals, fills, index ramps. */
import type { DimLike, ShapeLike } from "../Dim.ts"
import { shapeText, toDim, toShape } from "../Dim.ts"
import { around, elements, zerosArray } from "../NdArray.ts"
import type { Rows } from "../ops.ts"
import type { Dtype, Tensor } from "../Tensor.ts"
import { apply1 } from "../Tensor.ts"

/** A small literal, row-major, of a numeric shape (default: a scalar, or a vector of the values). */
export const constant = (value: number | readonly number[], dtype: Dtype = "f32", shape?: readonly number[]): Tensor =>
  typeof value === "number"
    ? apply1({ kind: "constant", values: [value], dtype, shape: shape ?? [] })
    : apply1({ kind: "constant", values: value, dtype, shape: shape ?? [value.length] })

/** One value everywhere. */
export const fill = (value: number, shape: ShapeLike, dtype: Dtype = "f32"): Tensor =>
  apply1({ kind: "fill", value, dtype, shape: toShape(shape) })

export const zeros = (shape: ShapeLike, dtype: Dtype = "f32"): Tensor => fill(0, shape, dtype)
export const ones = (shape: ShapeLike, dtype: Dtype = "f32"): Tensor => fill(1, shape, dtype)

/** 0, 1, 2, ... along `axis` of a shape. */
export const iota = (shape: ShapeLike, axis = 0, dtype: Dtype = "i32"): Tensor =>
  apply1({ kind: "iota", axis, dtype, shape: toShape(shape) })

/** The size of a dimension as a scalar: a literal where it is known. */
export const size = (dim: DimLike, dtype: Dtype = "i32"): Tensor => {
  const known = toDim(dim)
  return typeof known === "number" ? constant(known, dtype) : apply1({ kind: "size", dim: known, dtype })
}

export const leafRows: Rows<"input" | "parameter" | "constant" | "fill" | "iota" | "size"> = {
  size: {
    type: ({ dtype }) => [{ dtype, shape: [] }],
    vjp: () => [],
    evaluate: ({ dim }, _, context) => [{ shape: [], data: Float64Array.of(context.size(dim)) }]
  },
  input: {
    type: ({ dtype, shape }) => [{ dtype, shape }],
    vjp: () => [],
    evaluate: ({ name }, _, context) => [context.feed(name)]
  },
  parameter: {
    type: ({ dtype, shape }) => [{ dtype, shape }],
    vjp: () => [],
    evaluate: ({ position }) => {
      throw new RangeError(`parameter ${position} has no value outside its loop`)
    }
  },
  constant: {
    type: ({ values, dtype, shape }) => {
      if (elements(shape) !== values.length)
        throw new RangeError(`constant: ${values.length} values do not fill the shape ${shapeText(shape)}`)
      return [{ dtype, shape }]
    },
    vjp: () => [],
    evaluate: ({ values, shape }) => [{ shape, data: Float64Array.from(values) }]
  },
  fill: {
    type: ({ dtype, shape }) => [{ dtype, shape }],
    vjp: () => [],
    evaluate: ({ value, shape }, _, { size }) => {
      const result = zerosArray(shape.map(size))
      result.data.fill(value)
      return [result]
    }
  },
  iota: {
    type: ({ axis, dtype, shape }) => {
      if (!(axis >= 0 && axis < shape.length)) throw new RangeError(`iota: ${shapeText(shape)} has no axis ${axis}`)
      return [{ dtype, shape }]
    },
    vjp: () => [],
    evaluate: ({ axis, shape }, _, { size }) => {
      const result = zerosArray(shape.map(size))
      const [, count, inner] = around(result.shape, axis)
      for (let n = 0; n < result.data.length; n++) result.data[n] = Math.floor(n / inner) % count
      return [result]
    }
  }
}
