/**
 * TIS-DPO: DPO whose tokens weigh by what a contrastive pair of models says of them. Liu et al. (2410.04350).
 *
 *     d_t = log p+(y_t) - log p-(y_t), on the rejected answer its negative
 *     rank          w_t = 1 - spread + 2 spread * (place of d_t among the answer's n, from 0) / (n - 1)
 *     exponential   w_t = k exp(mu clamp(log p+(y_t) - log p-(y_t), L, U)),     mu > 0 on the chosen answer, < 0 on the rejected
 *     loss = - log sigmoid( beta sum_t w_t (log p - log p_ref)(chosen) - beta sum_t w_t (log p - log p_ref)(rejected) )
 *
 * p+ is a model of good answers, p- of bad ones; weights carry no gradient. With weights 1 it is DPO. The loss, beta 0.1, the
 * sign of d and `rank` with spread 0.3 are those of the authors' public code (github.com/exlaw/TIS-DPO, commit cbad7c1, the
 * command of its README). That code has no exponential: its form and constants (k 1, |mu| 1, bounds -0.5 and 1.5) are
 * **unchecked** against the paper.
 */

import { logSigmoid } from "../tensor/composites/activation.ts"
import { stopGradient } from "../tensor/ops/control.ts"
import { mul, neg, sub } from "../tensor/ops/elementwise.ts"
import { inputOf, type TokenObjective } from "./Objective.ts"
import { onBoth, pairLogs, pairSums, refLogprobs, type Weighted, weightedMean, weightInput } from "./pairs.ts"

export interface TisDpoSettings extends Weighted {
  /** > 0; default 0.1. */
  readonly beta?: number
}

/** How token weights follow from the contrastive pair. */
export interface TokenWeighting {
  /** Default `exponential`. */
  readonly weighting?: "exponential" | "rank"
  /** `rank`: how far weights are from 1 at most, in [0, 1]; default 0.3. */
  readonly spread?: number
  /** k > 0; default 1. */
  readonly scale?: number
  /** |mu| >= 0; default 1. 0 gives every token the weight k. */
  readonly mu?: number
  /** L; default -0.5. */
  readonly low?: number
  /** U >= L; default 1.5. */
  readonly high?: number
}

/**
 * The weights of an answer's tokens, from their log-probabilities under p+ and p-. Throws a RangeError where those differ in
 * length.
 */
export const tokenWeights = (
  positive: ArrayLike<number>,
  negative: ArrayLike<number>,
  side: "chosen" | "rejected",
  { high = 1.5, low = -0.5, mu = 1, scale = 1, spread = 0.3, weighting = "exponential" }: TokenWeighting = {}
): Float64Array => {
  if (positive.length !== negative.length) {
    throw new RangeError(`token weights: log-probabilities of [${positive.length}] and of [${negative.length}] tokens`)
  }
  if (weighting === "rank") {
    const sign = side === "chosen" ? 1 : -1
    return ranked(
      Float64Array.from(positive, (logp, t) => sign * (logp - negative[t]!)),
      spread
    )
  }
  const slope = side === "chosen" ? mu : -mu
  return Float64Array.from(
    positive,
    (logp, t) => scale * Math.exp(slope * Math.min(high, Math.max(low, logp - negative[t]!)))
  )
}

/** From 1 - spread to 1 + spread by the order of some values; equal ones keep theirs, and one by itself weighs 1. */
const ranked = (values: Float64Array, spread: number): Float64Array => {
  const weights = new Float64Array(values.length).fill(1)
  const order = Array.from(values.keys()).sort((a, b) => values[a]! - values[b]! || a - b)
  if (values.length > 1) {
    order.forEach((t, place) => {
      weights[t] = 1 - spread + (2 * spread * place) / (values.length - 1)
    })
  }
  return weights
}

/** Batch tensors: `refLogprobs` and `tokenWeights` [tokens]; `weights` [rows] where given. Rewards are of the weighted sums. */
export const tisDpo = (settings: TisDpoSettings = {}): TokenObjective => {
  const { beta = 0.1 } = settings
  const name = `tis-dpo(${beta}, ${settings.weights ?? "equal"})`
  if (!(beta > 0)) throw new RangeError(`${name}: beta must be > 0`)
  return {
    name,
    groupSize: 2,
    inputs: { ...refLogprobs, tokenWeights: { per: "token", dtype: "f32" }, ...weightInput(settings) },
    build: (outputs, inputs) => {
      const ratio = sub(outputs.logprobs, inputOf(name, inputs, "refLogprobs"))
      const weighted = mul(ratio, stopGradient(inputOf(name, inputs, "tokenWeights")))
      const rewards = onBoth((sum) => mul(sum!, beta), pairSums(weighted, outputs))
      const losses = neg(logSigmoid(sub(rewards.chosen, rewards.rejected)))
      return {
        loss: weightedMean(name, losses, settings, outputs, inputs),
        logs: pairLogs(rewards, outputs)
      }
    }
  }
}
