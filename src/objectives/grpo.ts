/**
 * Group-relative policy optimisation: the PPO clip on token ratios with one advantage per answer. Shao et al.,
 * "DeepSeekMath" (2402.03300), eq. 3; clip-higher and token mean from DAPO (2503.14476); dual clip from Ye et al.
 * (1912.09729); the two-sided clip `delta` from INTELLECT-2 (2505.07291).
 *
 *   ratio = exp(logp - old)
 *   l = max(-min(ratio, delta) A, -clip(ratio, 1 - low, 1 + high) A), and at most -dual A where A < 0
 *   loss = mean over tokens of (l + beta kl)
 *
 * OP-GRPO: clip 0.2/0.2, dual clip 3, k3 KL 0.001, token mean. Dr. GRPO (2503.20783): `aggregation: "constant"`, and
 * advantages that are centred only. DAPO: low 0.2, high 0.28, no KL. Without clips (high and delta infinite, low 1) it is
 * importance weighting; on policy it is the policy gradient.
 *
 * `dual` and `delta` bound the same thing, the loss of bad answers that the policy has come to prefer: `dual` the loss
 * (dual A), `delta` the ratio (delta A); with delta = dual they agree where A < 0.
 */

import { clamp, less, max, min, mul, neg, select } from "../tensor/ops/elementwise.ts"
import type { TokenObjective } from "./Objective.ts"
import { clipShares, outside, type PolicyGradientSettings, policyGradient } from "./policyGradient.ts"

export interface GrpoSettings extends PolicyGradientSettings {
  /** Below 1 by how much the ratio may go; default 0.2. */
  readonly clipLow?: number
  /** Above 1; default 0.2. */
  readonly clipHigh?: number
  /** Bound of the loss at negative advantages, as a multiple of |A|; > 1; none by default. */
  readonly dualClip?: number
  /** Bound of the ratio in the unclipped term, > 1 + clipHigh; none by default. */
  readonly delta?: number
}

/** Logs, beside those of `policyGradient`: `clip_ratio/low_mean`, `clip_ratio/high_mean`, `clip_ratio/region_mean`. */
export const grpo = (settings: GrpoSettings = {}): TokenObjective => {
  const { clipHigh = 0.2, clipLow = 0.2, delta, dualClip, ...common } = settings
  const name = `grpo(${[clipLow, clipHigh, dualClip ?? "none", delta ?? "none"].join(", ")})`
  if (!(clipLow >= 0 && clipHigh >= 0 && (dualClip === undefined || dualClip > 1))) {
    throw new RangeError(`${name}: clips must be >= 0, the dual clip > 1`)
  }
  if (delta !== undefined && !(delta > 1 + clipHigh)) {
    throw new RangeError(`${name}: delta must be > 1 + clipHigh, or the clip above never takes effect`)
  }
  return policyGradient(name, common, ({ advantages, outputs, ratio }) => {
    const unclipped = delta === undefined ? ratio : min(ratio, delta)
    const clipped = clamp(ratio, 1 - clipLow, 1 + clipHigh)
    const pessimistic = max(neg(mul(unclipped, advantages)), neg(mul(clipped, advantages)))
    const loss =
      dualClip === undefined
        ? pessimistic
        : select(less(advantages, 0), min(pessimistic, mul(advantages, -dualClip)), pessimistic)
    const [low, high] = outside(ratio, advantages, clipLow, clipHigh)
    return { loss, logs: clipShares(low, high, outputs) }
  })
}
