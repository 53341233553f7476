/**
 * -log softmax(logits)[target], row by row, for few classes (a vocabulary's head is `linearLogprobs`).
 * Derivative: dlogits = dy (softmax(logits) - onehot(target)).
 */
import { cast, equal, exp, mul, neg, sub } from "../ops/elementwise.ts"
import { takeAlong } from "../ops/indexing.ts"
import { iota } from "../ops/leaf.ts"
import { expandDims, reshape } from "../ops/shape.ts"
import type { Composite, Tensor } from "../Tensor.ts"
import { applyComposite } from "../Tensor.ts"
import { logSoftmax } from "./softmax.ts"

/** Inputs (logits [..., classes], targets [...]); outputs (loss [...], log-probabilities [..., classes]). */
export const crossEntropyOp: Composite = {
  name: "crossEntropy",
  decompose: ([logits, targets]) => {
    const logprobs = logSoftmax(logits!)
    return [reshape(neg(takeAlong(logprobs, expandDims(targets!, -1), -1)), targets!.shape), logprobs]
  },
  vjp: ({ inputs: [logits, targets], outputs: [, logprobs], cotangents: [dy] }) => {
    const { shape, dtype } = logits!
    const classes = iota([...shape.slice(0, -1).map(() => 1), shape.at(-1)!], shape.length - 1, targets!.dtype)
    const hit = cast(equal(expandDims(targets!, -1), classes), dtype)
    return [mul(sub(exp(logprobs!), hit), expandDims(dy!, -1))]
  }
}

/** The cross entropy [...] of logits [..., classes] and integer targets [...]. */
export const crossEntropy = (logits: Tensor, targets: Tensor): Tensor =>
  applyComposite(crossEntropyOp, [logits, targets], {})[0]!
