/**
 * y = x W^T + b + s (x A^T) B^T: a linear layer with a weight [out, in], an optional bias [out] and an optional
 * low-rank adapter (A [rank, in], B [out, rank], scale s; https://arxiv.org/abs/2106.09685).
 * Derivatives: dx = dy W, dW = dy^T x over all rows, db = sum(dy): one product each, no transposes.
 */
import { dot } from "../ops/dot.ts"
import { add, mul } from "../ops/elementwise.ts"
import { reduceSum } from "../ops/reduce.ts"
import { asRows } from "../ops/shape.ts"
import type { Composite, Tensor } from "../Tensor.ts"
import { applyComposite, checkShape } from "../Tensor.ts"

type LinearAttributes = {
  readonly bias: boolean
  /** The scale of the adapter, null where there is none. */
  readonly lora: number | null
}

/** Inputs (x [..., in], weight, bias?, A?, B?); outputs (y [..., out], and with an adapter x A^T [..., rank]). */
export const linearOp: Composite<LinearAttributes> = {
  name: "linear",
  decompose: (inputs, { bias, lora }) => {
    const [x, weight] = [inputs[0]!, inputs[1]!]
    if (bias) checkShape("linear: the bias", inputs[2]!, weight.shape.slice(0, 1))
    const plain = dot(x, weight, { transposeRight: true })
    const y = bias ? add(plain, inputs[2]!) : plain
    if (lora === null) return [y]
    const [a, b] = inputs.slice(-2)
    const low = dot(x, a!, { transposeRight: true })
    return [add(y, dot(mul(low, lora), b!, { transposeRight: true })), low]
  },
  vjp: ({ inputs, outputs, cotangents, needs }, { bias, lora }) => {
    const [x, weight, dy] = [inputs[0]!, inputs[1]!, cotangents[0]!]
    const byMatrix = (left: Tensor, right: Tensor) => dot(asRows(left), asRows(right), { transposeLeft: true })
    const dx = needs[0] ? dot(dy, weight) : undefined
    const dweight = needs[1] ? byMatrix(dy, x) : undefined
    const dbias = bias ? [needs[2] ? reduceSum(asRows(dy), 0) : undefined] : []
    if (lora === null) return [dx, dweight, ...dbias]
    const at = bias ? 3 : 2
    const [a, b] = [inputs[at]!, inputs[at + 1]!]
    const dlow = mul(dot(dy, b), lora)
    return [
      dx && add(dx, dot(dlow, a)),
      dweight,
      ...dbias,
      needs[at] ? byMatrix(dlow, x) : undefined,
      needs[at + 1] ? byMatrix(dy, mul(outputs[1]!, lora)) : undefined
    ]
  }
}

/** A low-rank adapter of a linear layer. */
export interface Lora {
  /** [rank, in] */
  readonly a: Tensor
  /** [out, rank] */
  readonly b: Tensor
  /** Usually alpha / rank. */
  readonly scale: number
}

/** `x [..., in] -> [..., out]`; the weight is [out, in] as in PyTorch. */
export const linear = (
  x: Tensor,
  weight: Tensor,
  { bias, lora }: { readonly bias?: Tensor | undefined; readonly lora?: Lora | undefined } = {}
): Tensor =>
  applyComposite(linearOp, [x, weight, ...(bias ? [bias] : []), ...(lora ? [lora.a, lora.b] : [])], {
    bias: bias !== undefined,
    lora: lora?.scale ?? null
  })[0]!
