/**
 * Importance weights in log space, and what they are worth.
 *
 *     joint         W = P(S) / P0(S)                  one weight a slate
 *     independent   w_k = p_k / p0_k                  one weight a response
 *     effective sample size   (sum w)^2 / sum w^2     in [1, n]
 */
import { logSumExp } from "./propensity.ts"
import { logSetProbability, type SetProbability } from "./setProbability.ts"

export const weightings = ["joint", "independent"] as const
export type Weighting = (typeof weightings)[number]

/**
 * The logarithm above which a weight is cut off: its square would leave the range of a double. Whoever meets it says so
 * (`overflowed`).
 */
export const overflow = 300

/** exp(log w), cut off at `overflow`. */
export const weightOf = (logWeight: number): number => Math.exp(Math.min(logWeight, overflow))

/** Log-weights of a slate: one for `joint`, one per response for `independent`. */
export const logWeights = (
  weighting: Weighting,
  set: SetProbability,
  policy: ReadonlyArray<number>,
  behaviour: ReadonlyArray<number>
): ReadonlyArray<number> => {
  if (policy.length !== behaviour.length) {
    throw new RangeError(`[${policy.length}] propensities of the policy, [${behaviour.length}] of the behaviour policy`)
  }
  return weighting === "independent"
    ? policy.map((logp, k) => logp - behaviour[k]!)
    : set === "product"
      ? [policy.reduce((sum, logp, k) => sum + (logp - behaviour[k]!), 0)]
      : [logSetProbability(set, policy) - logSetProbability(set, behaviour)]
}

export interface WeightReport {
  /** Effective sample size, in [1, count]; 0 without weights. */
  readonly ess: number
  /** The same as a share of the count. */
  readonly essShare: number
  readonly max: number
  /** Share of weights above `clip`. */
  readonly clipped: number
  /** Share of weights whose logarithm is above `overflow`. */
  readonly overflowed: number
  readonly meanLog: number
}

export const weightReport = (logs: ReadonlyArray<number>, clip: number): WeightReport => {
  const count = logs.length
  if (count === 0) return { ess: 0, essShare: 0, max: 0, clipped: 0, overflowed: 0, meanLog: 0 }
  // At most `count`, whatever rounding says.
  const ess = Math.min(count, Math.exp(2 * logSumExp(logs) - logSumExp(logs.map((x) => 2 * x))))
  const share = (bound: number) => logs.filter((x) => x > bound).length / count
  let max = Number.NEGATIVE_INFINITY
  let sum = 0
  for (const x of logs) {
    max = Math.max(max, x)
    sum += x
  }
  return {
    ess,
    essShare: ess / count,
    max: weightOf(max),
    clipped: share(Math.log(clip)),
    overflowed: share(overflow),
    meanLog: sum / count
  }
}
