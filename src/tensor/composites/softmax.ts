/**
 * softmax(x) = exp(x) / sum(exp(x)) over the last axis, computed after subtracting the maximum, and its logarithm.
 * Derivatives: dx = y (dy - sum(dy y)), and dx = dy - exp(y) sum(dy) for the logarithm.
 */
import { div, exp, log, mul, sub } from "../ops/elementwise.ts"
import { reduceMax, reduceSum } from "../ops/reduce.ts"
import type { Composite, Tensor } from "../Tensor.ts"
import { applyComposite } from "../Tensor.ts"

const keepDims = { keepDims: true }
const shifted = (x: Tensor) => sub(x, reduceMax(x, -1, keepDims))

/** Inputs (x); outputs (y). Both float, over the last axis. */
export const softmaxOp: Composite = {
  name: "softmax",
  decompose: ([x]) => {
    const e = exp(shifted(x!))
    return [div(e, reduceSum(e, -1, keepDims))]
  },
  vjp: ({ outputs: [y], cotangents: [dy] }) => [mul(y!, sub(dy!, reduceSum(mul(dy!, y!), -1, keepDims)))]
}

/** Inputs (x); outputs (y). Both float, over the last axis. */
export const logSoftmaxOp: Composite = {
  name: "logSoftmax",
  decompose: ([x]) => {
    const z = shifted(x!)
    return [sub(z, log(reduceSum(exp(z), -1, keepDims)))]
  },
  vjp: ({ outputs: [y], cotangents: [dy] }) => [sub(dy!, mul(exp(y!), reduceSum(dy!, -1, keepDims)))]
}

/** Probabilities over the last axis. */
export const softmax = (x: Tensor): Tensor => applyComposite(softmaxOp, [x], {})[0]!

/** Log-probabilities over the last axis. */
export const logSoftmax = (x: Tensor): Tensor => applyComposite(logSoftmaxOp, [x], {})[0]!
