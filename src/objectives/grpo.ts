/**
 * Group-relative policy optimisation: the PPO clip on token ratios with one advantage per answer, and a KL penalty in the
 * loss. Shao et al., "DeepSeekMath" (2402.03300), eq. 3; clip-higher and token mean from DAPO (2503.14476); dual clip from
 * Ye et al. (1912.09729). OP-GRPO's settings: clip 0.2/0.2, dual clip 3, k3 KL 0.001, token mean.
 *
 *   ratio = exp(logp - old);   l = max(-ratio A, -clip(ratio, 1 - low, 1 + high) A), and at most -dual A where A < 0
 *   k3 = exp(ref - logp) - (ref - logp) - 1;   loss = mean over tokens of (l + beta k3)
 *
 * With one update per generation, `old` is `stopGradient(logp)`: the ratio is exactly 1 and its gradient that of the policy
 * gradient. With several, the caller gives log-probabilities from before the first update: the sampler's (the stage `grpo`,
 * which compares them with the trainer's every step) or the policy's own. verl clamps ref - logp to +-20 and k3 to +-10;
 * here nothing is clamped, and a loss that overflows is an error.
 */

import { stopGradient } from "../tensor/ops/control.ts"
import {
  add,
  and,
  clamp,
  exp,
  expm1,
  greater,
  less,
  max,
  min,
  mul,
  neg,
  or,
  select,
  sub
} from "../tensor/ops/elementwise.ts"
import { ones, zeros } from "../tensor/ops/leaf.ts"
import type { Tensor } from "../tensor/Tensor.ts"
import { type Aggregation, aggregate, tokenMean } from "./aggregate.ts"
import { type BatchInput, inputOf, perToken, type TokenObjective } from "./Objective.ts"

export interface GrpoSettings {
  /** Below 1 by how much the ratio may go; default 0.2. */
  readonly clipLow?: number
  /** Above 1; default 0.2. */
  readonly clipHigh?: number
  /** Bound of the loss at negative advantages, as a multiple of |A|; > 1; none by default. */
  readonly dualClip?: number
  /** Coefficient beta of the k3 KL to the reference policy; 0 (default) needs no reference. */
  readonly klCoefficient?: number
  /** `detached` (default): one update per generation. `given`: the batch has `oldLogprobs`. */
  readonly old?: "detached" | "given"
  /** Default `token-mean`. */
  readonly aggregation?: Aggregation
}

/**
 * Batch tensors: `advantages` [rows]; `oldLogprobs` [tokens] where `old` is `given`; `refLogprobs` [tokens] where
 * `klCoefficient` > 0. Logs: `entropy`, `clip_ratio/low_mean`, `clip_ratio/high_mean`, `clip_ratio/region_mean`, `kl`.
 */
export const grpo = (settings: GrpoSettings = {}): TokenObjective => {
  const {
    aggregation = "token-mean",
    clipHigh = 0.2,
    clipLow = 0.2,
    dualClip,
    klCoefficient = 0,
    old = "detached"
  } = settings
  const name = `grpo(${[clipLow, clipHigh, dualClip ?? "none", klCoefficient, old, aggregation].join(", ")})`
  if (!(clipLow >= 0 && clipHigh >= 0 && klCoefficient >= 0 && (dualClip === undefined || dualClip > 1))) {
    throw new RangeError(`${name}: clips and the KL coefficient must be >= 0, the dual clip > 1`)
  }
  const given: BatchInput = { per: "token", dtype: "f32" }
  return {
    name,
    inputs: {
      advantages: { per: "row", dtype: "f32" },
      ...(old === "given" ? { oldLogprobs: given } : {}),
      ...(klCoefficient > 0 ? { refLogprobs: given } : {})
    },
    build: (outputs, inputs) => {
      const { logprobs } = outputs
      const advantages = perToken(inputOf(name, inputs, "advantages"), outputs)
      const before = old === "given" ? inputOf(name, inputs, "oldLogprobs") : stopGradient(logprobs)
      const ratio = exp(sub(logprobs, before))
      const clipped = clamp(ratio, 1 - clipLow, 1 + clipHigh)
      const pessimistic = max(neg(mul(ratio, advantages)), neg(mul(clipped, advantages)))
      const bounded =
        dualClip === undefined
          ? pessimistic
          : select(less(advantages, 0), min(pessimistic, mul(advantages, -dualClip)), pessimistic)

      const indicator = (condition: Tensor) => {
        const [yes, no] = [ones(logprobs.shape), zeros(logprobs.shape)]
        return tokenMean(select(condition, yes, no), outputs)
      }
      const low = and(less(ratio, 1 - clipLow), less(advantages, 0))
      const high = and(greater(ratio, 1 + clipHigh), greater(advantages, 0))
      const logs = {
        entropy: tokenMean(stopGradient(outputs.entropies), outputs),
        "clip_ratio/low_mean": indicator(low),
        "clip_ratio/high_mean": indicator(high),
        "clip_ratio/region_mean": indicator(or(low, high))
      }
      if (klCoefficient === 0) return { loss: aggregate(aggregation, bounded, outputs), logs }
      const difference = sub(inputOf(name, inputs, "refLogprobs"), logprobs)
      const k3 = sub(expm1(difference), difference)
      return {
        loss: aggregate(aggregation, add(bounded, mul(k3, klCoefficient)), outputs),
        logs: { ...logs, kl: tokenMean(k3, outputs) }
      }
    }
  }
}
