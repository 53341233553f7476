/**
 * TIS-DPO: DPO whose tokens weigh by what a contrastive pair of models says of them. Liu et al. (2410.04350). The form of the
 * weights and their constants (k 1, |mu| 1, bounds -0.5 and 1.5) are from general knowledge and not yet checked against
 * the paper.
 *
 *     w_t = k exp(mu clamp(log p+(y_t) - log p-(y_t), L, U)),     mu > 0 on the chosen answer, < 0 on the rejected one
 *     loss = - log sigmoid( beta sum_t w_t (log p - log p_ref)(chosen) - beta sum_t w_t (log p - log p_ref)(rejected) )
 *
 * p+ is a model of good answers, p- of bad ones; weights carry no gradient. With weights 1 it is DPO.
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
  { high = 1.5, low = -0.5, mu = 1, scale = 1 }: TokenWeighting = {}
): Float64Array => {
  if (positive.length !== negative.length) {
    throw new RangeError(`token weights: log-probabilities of [${positive.length}] and of [${negative.length}] tokens`)
  }
  const slope = side === "chosen" ? mu : -mu
  return Float64Array.from(
    positive,
    (logp, t) => scale * Math.exp(slope * Math.min(high, Math.max(low, logp - negative[t]!)))
  )
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
