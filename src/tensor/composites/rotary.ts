/**
 * Rotary position embedding (https://arxiv.org/abs/2104.09864) in the half-split convention of Hugging Face's Llama:
 * with x = (x1, x2) the halves of a head, y = (x1 cos - x2 sin, x2 cos + x1 sin). The derivative turns backwards.
 */
import { add, cast, cos, mul, sin, sub } from "../ops/elementwise.ts"
import { constant } from "../ops/leaf.ts"
import { concat, expandDims, split } from "../ops/shape.ts"
import type { Composite, Dtype, Tensor } from "../Tensor.ts"
import { applyComposite, mismatch } from "../Tensor.ts"

/** Inputs (x [batch, time, heads, d], cos, sin [time, d/2] or [batch, time, d/2]); outputs (y like x). */
export const rotaryOp: Composite<{ readonly inverse: boolean }> = {
  name: "rotary",
  decompose: (inputs, { inverse }) => {
    const [x, c, s] = [inputs[0]!, expandDims(inputs[1]!, -2), expandDims(inputs[2]!, -2)]
    const half = inputs[1]!.shape.at(-1)!
    if (x.shape.length !== 4 || typeof half !== "number" || x.shape[3] !== 2 * half)
      throw mismatch("rotary", inputs, "x must be [batch, time, heads, 2 n] where cos and sin are [..., n]")
    const [x1, x2] = split(x, -1, [half, half])
    const [plus, minus] = inverse ? [sub, add] : [add, sub]
    return [concat([minus(mul(x1!, c), mul(x2!, s)), plus(mul(x2!, c), mul(x1!, s))], -1)]
  },
  vjp: ({ inputs: [, c, s], cotangents: [dy] }, { inverse }) =>
    applyComposite(rotaryOp, [dy!, c!, s!], { inverse: !inverse })
}

/** Turns the heads of x [batch, time, heads, d] by tables [time, d/2] or [batch, time, d/2]; those get no derivative. */
export const rotary = (x: Tensor, tables: RotaryTables): Tensor =>
  applyComposite(rotaryOp, [x, tables.cos, tables.sin], { inverse: false })[0]!

export interface RotaryTables {
  readonly cos: Tensor
  readonly sin: Tensor
}

/** The angular frequencies `theta^(-2i / d)` of a head of width d. */
export const rotaryFrequencies = (headDim: number, theta = 10_000): readonly number[] =>
  Array.from({ length: headDim / 2 }, (_, i) => theta ** ((-2 * i) / headDim))

/** cos and sin of `position * frequency` for integer positions [...]: [..., d/2]. */
export const rotaryTables = (positions: Tensor, frequencies: readonly number[], dtype: Dtype = "f32"): RotaryTables => {
  const angles = mul(expandDims(cast(positions, "f32"), -1), constant(frequencies, "f32"))
  return { cos: cast(cos(angles), dtype), sin: cast(sin(angles), dtype) }
}
