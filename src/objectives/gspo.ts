/**
 * Group sequence policy optimisation: the clip on one ratio per answer, the geometric mean of its tokens' ratios. Zheng et
 * al. (2507.18071), eq. 5-7, in the token form (eq. 14-15), which has the same values and the same gradient:
 *
 *   s = exp( sum over the row's tokens of (logp - old) / tokens of the row )
 *   r = stopGradient(s) * exp(logp - stopGradient(logp))
 *   l = max(-r A, -clip(r, 1 - low, 1 + high) A);   loss = mean over rows of the row's mean
 *
 * Clips are narrow, 3e-4 / 4e-4: s is a mean of many ratios and stays near 1. With one token a row it is GRPO.
 * LUSPO (2602.05261) multiplies a row's loss by its length, so that long answers are not learnt from less: `constant`, which
 * divides by the most tokens an answer may have beside, with clips 2e-3 / 2.5e-3.
 */
import { stopGradient } from "../tensor/ops/control.ts"
import { clamp, div, exp, max, mul, neg, sub } from "../tensor/ops/elementwise.ts"
import { ones } from "../tensor/ops/leaf.ts"
import { perRow, perToken, type TokenObjective } from "./Objective.ts"
import { clipShares, outside, type PolicyGradientSettings, policyGradient } from "./policyGradient.ts"

export interface GspoSettings extends PolicyGradientSettings {
  /** Below 1 by how much the row's ratio may go; default 3e-4. */
  readonly clipLow?: number
  /** Above 1; default 4e-4. */
  readonly clipHigh?: number
}

/** The aggregation is `sequence-mean` unless said otherwise. Logs: shares of tokens in rows that are clipped. */
export const gspo = (settings: GspoSettings = {}): TokenObjective => {
  const { clipHigh = 4e-4, clipLow = 3e-4, ...common } = settings
  const name = `gspo(${clipLow}, ${clipHigh})`
  if (!(clipLow >= 0 && clipHigh >= 0)) throw new RangeError(`${name}: clips must be >= 0`)
  return policyGradient(name, { aggregation: "sequence-mean", ...common }, ({ advantages, logprobs, old, outputs }) => {
    const detached = stopGradient(logprobs)
    const lengths = max(perRow(ones(logprobs.shape), outputs), 1)
    const sequence = perToken(exp(div(perRow(sub(detached, old), outputs), lengths)), outputs)
    const ratio = mul(sequence, exp(sub(logprobs, detached)))
    const clipped = clamp(ratio, 1 - clipLow, 1 + clipHigh)
    const [low, high] = outside(ratio, advantages, clipLow, clipHigh)
    return {
      loss: max(neg(mul(ratio, advantages)), neg(mul(clipped, advantages))),
      logs: clipShares(low, high, outputs)
    }
  })
}
