/**
 * Clipped importance-sampling policy optimisation: REINFORCE whose importance weights are capped, so that no token is ever
 * cut off from learning, however far its ratio went. MiniMax-M1 (2506.13585), eq. 4-5; ScaleRL (2510.13786) caps at 5.
 *
 *   l = -stopGradient( clip(ratio, floor, cap) ) A logp
 *
 * On policy the gradient is that of the policy gradient. verl's clip(ratio, 1 - low, 1 + high) is floor 1 - low, cap 1 + high.
 */
import { stopGradient } from "../tensor/ops/control.ts"
import { and, clamp, greater, min, mul, neg } from "../tensor/ops/elementwise.ts"
import type { TokenObjective } from "./Objective.ts"
import { type PolicyGradientSettings, policyGradient, share } from "./policyGradient.ts"

export interface CispoSettings extends PolicyGradientSettings {
  /** The largest weight; default 5. */
  readonly cap?: number
  /** The smallest weight; default 0. */
  readonly floor?: number
}

/** Logs `cispo_clip_ratio`, TRL's: share of tokens with A > 0 whose ratio is above the cap. */
export const cispo = (settings: CispoSettings = {}): TokenObjective => {
  const { cap = 5, floor = 0, ...common } = settings
  const name = `cispo(${floor}, ${cap})`
  if (!(floor >= 0 && cap > floor)) throw new RangeError(`${name}: the cap must be above the floor, the floor >= 0`)
  return policyGradient(name, common, ({ advantages, logprobs, outputs, ratio }) => {
    const weight = stopGradient(floor === 0 ? min(ratio, cap) : clamp(ratio, floor, cap))
    const capped = and(greater(ratio, cap), greater(advantages, 0))
    return {
      loss: neg(mul(mul(weight, advantages), logprobs)),
      logs: { cispo_clip_ratio: share(capped, outputs) }
    }
  })
}
