/**
 * y = x W^T + b: a linear layer with a weight [out, in] and an optional bias [out]. `lowRank.ts` has what an adapter adds.
 * Derivatives: dx = dy W, dW = dy^T x over all rows, db = sum(dy): one product each, no transposes.
 */
import { dot } from "../ops/dot.ts"
import { add } from "../ops/elementwise.ts"
import { reduceSum } from "../ops/reduce.ts"
import { asRows } from "../ops/shape.ts"
import type { Composite, Tensor } from "../Tensor.ts"
import { applyComposite, checkShape } from "../Tensor.ts"

type LinearAttributes = { readonly bias: boolean }

/** Inputs (x [..., in], weight, bias?); output y [..., out]. */
export const linearOp: Composite<LinearAttributes> = {
  name: "linear",
  decompose: (inputs, { bias }) => {
    const [x, weight] = [inputs[0]!, inputs[1]!]
    if (bias) checkShape("linear: the bias", inputs[2]!, weight.shape.slice(0, 1))
    const plain = dot(x, weight, { transposeRight: true })
    return [bias ? add(plain, inputs[2]!) : plain]
  },
  vjp: ({ inputs, cotangents, needs }, { bias }) => {
    const [x, weight, dy] = [inputs[0]!, inputs[1]!, cotangents[0]!]
    return [
      needs[0] ? dot(dy, weight) : undefined,
      needs[1] ? dot(asRows(dy), asRows(x), { transposeLeft: true }) : undefined,
      ...(bias ? [needs[2] ? reduceSum(asRows(dy), 0) : undefined] : [])
    ]
  }
}

/** `x [..., in] -> [..., out]`; the weight is [out, in] as in PyTorch. */
export const linear = (x: Tensor, weight: Tensor, { bias }: { readonly bias?: Tensor | undefined } = {}): Tensor =>
  applyComposite(linearOp, [x, weight, ...(bias ? [bias] : [])], { bias: bias !== undefined })[0]!
