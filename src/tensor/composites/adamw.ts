/**
 * AdamW with decoupled decay (https://arxiv.org/abs/1711.05101), as PyTorch computes it:
 *   m' = beta1 m + (1 - beta1) g,   v' = beta2 v + (1 - beta2) g^2
 *   p' = p (1 - lr decay) - lr (m' / c1) / (sqrt(v' / c2) + epsilon),   c_i = 1 - beta_i^step
 * The corrections come in as scalars: in float32 `1 - 0.999^step` would lose its digits at the first steps.
 */
import { add, div, mul, sqrt, square, sub } from "../ops/elementwise.ts"
import type { Composite, Tensor } from "../Tensor.ts"
import { applyComposite, checkShape } from "../Tensor.ts"

type AdamwAttributes = {
  readonly beta1: number
  readonly beta2: number
  readonly epsilon: number
  readonly weightDecay: number
}

/** Inputs (param, grad, m, v, learningRate, correction1, correction2, the last three scalars); outputs (param, m, v). */
export const adamwOp: Composite<AdamwAttributes> = {
  name: "adamw",
  decompose: (inputs, { beta1, beta2, epsilon, weightDecay }) => {
    const [p, g, m, v] = [inputs[0]!, inputs[1]!, inputs[2]!, inputs[3]!]
    for (const x of [g, m, v]) checkShape("adamw: a parameter's gradient or state", x, p.shape)
    const [learningRate, correction1, correction2] = [inputs[4]!, inputs[5]!, inputs[6]!]
    const nextM = add(mul(m, beta1), mul(g, 1 - beta1))
    const nextV = add(mul(v, beta2), mul(square(g), 1 - beta2))
    const deviation = add(sqrt(div(nextV, correction2)), epsilon)
    const step = mul(div(nextM, deviation), div(learningRate, correction1))
    const kept = weightDecay === 0 ? p : mul(p, sub(1, mul(learningRate, weightDecay)))
    return [sub(kept, step), nextM, nextV]
  }
}

export interface AdamwState {
  readonly param: Tensor
  readonly grad: Tensor
  /** Running mean of gradients. */
  readonly m: Tensor
  /** Running mean of squared gradients. */
  readonly v: Tensor
}

export interface AdamwOptions {
  /** Scalar. */
  readonly learningRate: Tensor
  /** Scalar `1 - beta1^step`, with steps counted from 1. */
  readonly correction1: Tensor
  /** Scalar `1 - beta2^step`. */
  readonly correction2: Tensor
  readonly beta1?: number
  readonly beta2?: number
  readonly epsilon?: number
  readonly weightDecay?: number
}

/** One update of one parameter, all four of one shape and dtype. */
export const adamw = ({ param, grad, m, v }: AdamwState, options: AdamwOptions): Omit<AdamwState, "grad"> => {
  const { learningRate, correction1, correction2 } = options
  const { beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weightDecay = 0 } = options
  const inputs = [param, grad, m, v, learningRate, correction1, correction2]
  const [nextParam, nextM, nextV] = applyComposite(adamwOp, inputs, { beta1, beta2, epsilon, weightDecay })
  return { param: nextParam!, m: nextM!, v: nextV! }
}
