/**
 * Divergence proximal policy optimisation: a token is masked when it would move the policy further from the one that drew
 * it than a trust region allows, measured by the divergence of "this token or not" rather than by the ratio, which is noise
 * for rare tokens and no bound at all for frequent ones. Qi et al. (2602.04879).
 *
 *   p = exp(logp), mu = exp(old)
 *   tv:  D = |p - mu|      kl:  D = mu (log mu - log p) + (1 - mu) log((1 - mu + 1e-8) / (1 - p + 1e-8))
 *   m = 0 where A > 0, p > mu and D > high, or A <= 0, p < mu and D > low; else 1
 *   l = -stopGradient( min(p / mu, cap) ) m A logp
 *
 * As in the authors' code (Stable-RL; cap 10). SkyRL's and prime-rl's thresholds for tv are 0.2 / 0.2; the paper's own are
 * not known to us, and kl has none that is published: choose one. With infinite thresholds it is importance-weighted policy
 * gradient. The variants over the top-K tokens are not here: they need the distribution, and the authors saw no benefit.
 */
import { stopGradient } from "../tensor/ops/control.ts"
import {
  abs,
  add,
  and,
  exp,
  greater,
  less,
  lessEqual,
  log,
  min,
  mul,
  neg,
  or,
  select,
  sub
} from "../tensor/ops/elementwise.ts"
import type { Tensor } from "../tensor/Tensor.ts"
import type { TokenObjective } from "./Objective.ts"
import { clipShares, type PolicyGradientSettings, policyGradient } from "./policyGradient.ts"

export interface DppoSettings extends PolicyGradientSettings {
  /** Default tv. */
  readonly divergence?: "tv" | "kl"
  /** Largest divergence downward, for tokens with A <= 0; default 0.2. */
  readonly low?: number
  /** Largest divergence upward, for tokens with A > 0; default 0.2. */
  readonly high?: number
  /** The largest importance weight; default 10. */
  readonly cap?: number
}

/** Keeps both sides of "or not" away from 0. */
const epsilon = 1e-8

/** D(mu || p) of drawing the token or not, [tokens]. */
const binary = (divergence: "tv" | "kl", p: Tensor, mu: Tensor, logRatio: Tensor): Tensor => {
  if (divergence === "tv") return abs(sub(p, mu))
  const other = (x: Tensor) => log(add(sub(1, x), epsilon))
  return sub(mul(sub(1, mu), sub(other(mu), other(p))), mul(mu, logRatio))
}

/** Logs `clip_ratio/*`: shares of tokens that are masked. */
export const dppo = (settings: DppoSettings = {}): TokenObjective => {
  const { cap = 10, divergence = "tv", high = 0.2, low = 0.2, ...common } = settings
  const name = `dppo(${[divergence, low, high, cap].join(", ")})`
  if (!(low >= 0 && high >= 0 && cap > 0)) throw new RangeError(`${name}: thresholds must be >= 0, the cap > 0`)
  return policyGradient(name, common, ({ advantages, logprobs, old, outputs, ratio }) => {
    const logRatio = stopGradient(sub(logprobs, old))
    const [p, mu] = [exp(stopGradient(logprobs)), exp(old)]
    const distance = binary(divergence, p, mu, logRatio)
    const up = and(and(greater(advantages, 0), greater(logRatio, 0)), greater(distance, high))
    const down = and(and(lessEqual(advantages, 0), less(logRatio, 0)), greater(distance, low))
    const weight = min(stopGradient(ratio), cap)
    const kept = select(or(up, down), mul(weight, 0), weight)
    return { loss: neg(mul(mul(kept, advantages), logprobs)), logs: clipShares(down, up, outputs) }
  })
}
