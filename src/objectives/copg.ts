/**
 * Clipped-objective policy gradient: PPO's pessimistic clip with the log-probability in place of the ratio. Markowitz and
 * Staley (2311.05846).
 *
 *   l = -min( A logp, A clip(logp, old + log(1 - low), old + log(1 + high)) )
 *
 * It clips where PPO does. In between its gradient is A grad logp, PPO's without the factor of the ratio: smaller than
 * PPO's where the ratio is above 1 and larger where it is below, so steps are more cautious and entropy lasts longer.
 * With clips that are never reached it is REINFORCE.
 */
import { add, max, min, mul, neg } from "../tensor/ops/elementwise.ts"
import type { TokenObjective } from "./Objective.ts"
import { clipShares, outside, type PolicyGradientSettings, policyGradient } from "./policyGradient.ts"

export interface CopgSettings extends PolicyGradientSettings {
  /** Below 1 by how much the ratio may go, in [0, 1); default 0.2. */
  readonly clipLow?: number
  /** Above 1; default 0.2. */
  readonly clipHigh?: number
}

/** Logs `clip_ratio/*`, as `grpo` does. */
export const copg = (settings: CopgSettings = {}): TokenObjective => {
  const { clipHigh = 0.2, clipLow = 0.2, ...common } = settings
  const name = `copg(${clipLow}, ${clipHigh})`
  if (!(clipLow >= 0 && clipLow < 1 && clipHigh >= 0)) {
    throw new RangeError(`${name}: clips must be >= 0, the lower one < 1`)
  }
  return policyGradient(name, common, ({ advantages, logprobs, old, outputs, ratio }) => {
    const clipped = min(max(logprobs, add(old, Math.log1p(-clipLow))), add(old, Math.log1p(clipHigh)))
    const [low, high] = outside(ratio, advantages, clipLow, clipHigh)
    return {
      loss: max(neg(mul(advantages, logprobs)), neg(mul(advantages, clipped))),
      logs: clipShares(low, high, outputs)
    }
  })
}
