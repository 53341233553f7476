/**
 * Two lower bounds of the slate estimate that provably hold (POPE's theorem 4.1, arXiv 2509.19333, reconstructed from its
 * proof's words; a bound of the *value*. The abstract speaks of one of the variance; none is claimed here). For w, r >= 0:
 *
 *     V^ = mean_i (prod_k w_ik) (1/K) sum_k r_ik
 *        >= mean_i exp{ sum_k log w_ik + (1/K) sum_k log r_ik }                                     [AM-GM; equal iff all r_ik are]
 *        >= mean_i exp{ sum_k log w_ik + log 2 + (1/2K) sum_k log hh_ik + (1/2K) sum_k log(lambda d_ik) }      [r = hh + lambda d]
 *
 * A reward of zero makes a slate's bound 0, which holds still.
 */

/** A slate: log-weights, and the two parts of the reward of each response (`utility` + `diversity`, both >= 0), all [K]. */
export interface BoundedSlate {
  readonly logWeights: ReadonlyArray<number>
  readonly utility: ReadonlyArray<number>
  /** With lambda multiplied in. */
  readonly diversity: ReadonlyArray<number>
}

const mean = (values: ReadonlyArray<number>) => values.reduce((sum, value) => sum + value, 0) / values.length
const total = (values: ReadonlyArray<number>) => values.reduce((sum, value) => sum + value, 0)

const check = ({ diversity, logWeights, utility }: BoundedSlate) => {
  if (utility.length !== logWeights.length || diversity.length !== logWeights.length) {
    throw new RangeError(
      `a slate of [${logWeights.length}] weights has [${utility.length}] utilities and [${diversity.length}] diversities`
    )
  }
  const wrong = [...utility, ...diversity].find((value) => !(value >= 0))
  if (wrong !== undefined) throw new RangeError(`the bounds hold for rewards of at least 0, not for ${wrong}`)
}

/** The estimate and its two bounds, bound2 <= bound1 <= value. Throws a RangeError for negative rewards. */
export const valueBounds = (slates: ReadonlyArray<BoundedSlate>) => {
  slates.forEach(check)
  const over = (f: (slate: BoundedSlate) => number) => mean(slates.map(f))
  const rewards = ({ diversity, utility }: BoundedSlate) => utility.map((u, k) => u + diversity[k]!)
  return {
    value: over((s) => Math.exp(total(s.logWeights)) * mean(rewards(s))),
    bound1: over((s) => Math.exp(total(s.logWeights) + mean(rewards(s).map(Math.log)))),
    bound2: over((s) =>
      Math.exp(total(s.logWeights) + Math.LN2 + mean(s.utility.map(Math.log)) / 2 + mean(s.diversity.map(Math.log)) / 2)
    )
  }
}
