/**
 * Matrix products over the last two axes: `left [...batch, m, k] x right [...batch, k, n]`, where the right operand
 * may lack the batch axes. Transposed operands are read in place, so derivatives need no transposes of their own.
 */
import { equalDims, equalShapes, sizeOf } from "../Dim.ts"
import { elements, zerosArray } from "../NdArray.ts"
import type { Rows } from "../ops.ts"
import type { Dtype, Tensor, TensorType } from "../Tensor.ts"
import { apply1, isFloat, mismatch } from "../Tensor.ts"
import { cast } from "./elementwise.ts"
import { asRows, reshape, swapAxes } from "./shape.ts"

export interface DotOptions {
  /** The left operand is stored as [..., k, m]. */
  readonly transposeLeft?: boolean
  /** The right operand is stored as [..., n, k]. */
  readonly transposeRight?: boolean
  /** The dtype of sums: by default f32 for bf16 and f16, i32 for i8 and u8, else the operands' own. */
  readonly accumulate?: Dtype
  /** The dtype of the result: by default the operands' own, i32 for i8 and u8. */
  readonly dtype?: Dtype
}

const wide: Readonly<Record<Dtype, Dtype>> = {
  f64: "f64",
  f32: "f32",
  bf16: "f32",
  f16: "f32",
  i64: "i64",
  i32: "i32",
  i8: "i32",
  u8: "i32",
  bool: "i32"
}

/** Matrix product; see the head of this file. */
export const dot = (left: Tensor, right: Tensor, options: DotOptions = {}): Tensor => {
  const { transposeLeft = false, transposeRight = false } = options
  const accumulate = options.accumulate ?? wide[left.dtype]
  const dtype = options.dtype ?? (isFloat(left.dtype) ? left.dtype : accumulate)
  return apply1({ kind: "dot", transposeLeft, transposeRight, accumulate, dtype }, left, right)
}

const matrix = <D>(shape: readonly D[], transposed: boolean): readonly [rows: D, columns: D] => {
  const [a, b] = [shape.at(-2)!, shape.at(-1)!]
  return transposed ? [b, a] : [a, b]
}

const eightBit = (dtype: Dtype) => dtype === "i8" || dtype === "u8"

const dotType = (
  op: { readonly transposeLeft: boolean; readonly transposeRight: boolean; readonly dtype: Dtype },
  inputs: readonly TensorType[]
): TensorType => {
  const [left, right] = [inputs[0]!, inputs[1]!]
  if (left.shape.length < 2 || right.shape.length < 2) throw mismatch("dot", inputs, "both need two axes or more")
  if (left.dtype === "bool" || (left.dtype !== right.dtype && !(eightBit(left.dtype) && eightBit(right.dtype))))
    throw mismatch("dot", inputs, "the dtypes do not go together: cast one of them")
  const batch = left.shape.slice(0, -2)
  const own = right.shape.slice(0, -2)
  const [m, k] = matrix(left.shape, op.transposeLeft)
  const [inner, n] = matrix(right.shape, op.transposeRight)
  if (!equalDims(k, inner) || !(own.length === 0 || equalShapes(own, batch))) {
    const how = `${op.transposeLeft ? "left transposed" : ""}${op.transposeLeft && op.transposeRight ? ", " : ""}${op.transposeRight ? "right transposed" : ""}`
    throw mismatch("dot", inputs, `the shapes do not multiply${how && ` (${how})`}`)
  }
  return { shape: [...batch, m, n], dtype: op.dtype }
}

export const dotRows: Rows<"dot"> = {
  dot: {
    type: (op, inputs) => [dotType(op, inputs)],
    vjp: ({ transposeLeft, transposeRight, accumulate }, { inputs, cotangents, needs }) => {
      const [left, right] = [inputs[0]!, inputs[1]!]
      const dy = cast(cotangents[0]!, left.dtype)
      const shared = right.shape.length === 2 && left.shape.length > 2
      const to = { accumulate, dtype: left.dtype }
      const byLeft = (): Tensor => {
        if (!transposeLeft) return dot(dy, right, { transposeRight: !transposeRight, ...to })
        if (shared) return swapAxes(dot(dy, right, { transposeRight: !transposeRight, ...to }), -1, -2)
        return dot(right, dy, { transposeLeft: transposeRight, transposeRight: true, ...to })
      }
      const byRight = (): Tensor => {
        if (!shared)
          return transposeRight
            ? dot(dy, left, { transposeLeft: true, transposeRight: transposeLeft, ...to })
            : dot(left, dy, { transposeLeft: !transposeLeft, ...to })
        // one matrix for the whole batch: contract over batch and rows at once
        const rows = asRows(transposeLeft ? swapAxes(left, -1, -2) : left)
        const flat = reshape(dy, [sizeOf(dy.shape.slice(0, -1)), dy.shape.at(-1)!])
        return transposeRight
          ? dot(flat, rows, { transposeLeft: true, ...to })
          : dot(rows, flat, { transposeLeft: true, ...to })
      }
      return [needs[0] ? byLeft() : undefined, needs[1] ? byRight() : undefined]
    },
    evaluate: ({ transposeLeft, transposeRight }, [left, right]) => {
      const batch = left!.shape.slice(0, -2)
      const [m, k] = matrix(left!.shape, transposeLeft)
      const [, n] = matrix(right!.shape, transposeRight)
      const result = zerosArray([...batch, m, n])
      const step = right!.shape.length === 2 ? 0 : k * n
      for (let b = 0; b < elements(batch); b++)
        for (let i = 0; i < m; i++)
          for (let j = 0; j < n; j++) {
            let sum = 0
            for (let x = 0; x < k; x++) {
              const a = left!.data[b * m * k + (transposeLeft ? x * m + i : i * k + x)]!
              sum += a * right!.data[b * step + (transposeRight ? j * k + x : x * n + j)]!
            }
            result.data[(b * m + i) * n + j] = sum
          }
      return [result]
    }
  }
}
