/**
 * Off-policy estimators of a policy's value from rounds that a behaviour policy logged (formulas: Open Bandit Pipeline,
 * `obp/ope/estimators.py`; the slate forms SIPS and IIPS are IPS on joint and on per-response rounds).
 *
 *     w = pi / pi0,   r reward,   q = q(x, a) the model's reward of what was logged,   Q = q(x, pi) its expectation under pi
 *     ips         mean w r                                ips_clipped   mean min(w, clip) r
 *     snips       sum w r / sum w                         dm            mean Q
 *     dr          mean [ Q + w (r - q) ]                  sndr          mean Q + sum w (r - q) / sum w
 *     switch_dr   mean [ Q + w 1[w <= switch] (r - q) ]   dros          mean [ Q + w' (r - q) ],  w' = s w / (w^2 + s)
 *
 * Each is a mean over queries: a query's rounds share a weight of 1. Self-normalised ones are computed relative to the
 * largest weight, so nothing overflows; in the others weights are cut off at exp(300).
 */
import { percentile } from "../metrics/resampling.ts"
import { weightOf } from "./weights.ts"

/** One logged decision. */
export interface Round {
  /** Index of the query, from 0. */
  readonly query: number
  /** The round's part of its query; the parts of a query sum to 1. */
  readonly share: number
  readonly logWeight: number
  readonly reward: number
  /** The reward model's value of what was logged. */
  readonly model: number
  /** The reward model's expectation under the policy. */
  readonly direct: number
}

export const estimatorNames = ["ips", "ips_clipped", "snips", "dm", "dr", "sndr", "switch_dr", "dros"] as const
export type EstimatorName = (typeof estimatorNames)[number]

export interface EstimatorSettings {
  /** Largest weight of `ips_clipped`. */
  readonly clip: number
  /** Above this weight `switch_dr` trusts the model alone. */
  readonly switch: number
  /** `dros`: 0 is the model alone, infinity is doubly robust. */
  readonly shrinkage: number
}

export const defaultEstimatorSettings: EstimatorSettings = { clip: 10, switch: 10, shrinkage: 100 }

/** An estimator's parts by query: its value is mean(plain) + sum(numerator) / sum(denominator). */
interface Parts {
  readonly plain: Float64Array
  readonly numerator: Float64Array
  readonly denominator: Float64Array
}

const queriesOf = (rounds: ReadonlyArray<Round>): number => {
  if (rounds.length === 0) throw new RangeError("an estimate needs at least one round")
  const queries = rounds.reduce((most, { query }) => Math.max(most, query), 0) + 1
  const shares = new Float64Array(queries)
  for (const { query, share } of rounds) shares[query]! += share
  shares.forEach((share, query) => {
    if (Math.abs(share - 1) > 1e-9) throw new RangeError(`the rounds of query ${query} have shares of ${share}, not 1`)
  })
  return queries
}

const partsOf = (name: EstimatorName, rounds: ReadonlyArray<Round>, settings: EstimatorSettings): Parts => {
  const queries = queriesOf(rounds)
  const [plain, numerator, denominator] = [
    new Float64Array(queries),
    new Float64Array(queries),
    new Float64Array(queries).fill(0)
  ]
  const selfNormalised = name === "snips" || name === "sndr"
  const top = selfNormalised ? rounds.reduce((most, { logWeight }) => Math.max(most, logWeight), -Infinity) : 0
  const modelled = name === "dm" || name === "dr" || name === "sndr" || name === "switch_dr" || name === "dros"
  const weight = (logWeight: number): number => {
    if (selfNormalised) return Math.exp(logWeight - top)
    const w = weightOf(logWeight)
    switch (name) {
      case "ips_clipped":
        return Math.min(w, settings.clip)
      case "dm":
        return 0
      case "switch_dr":
        return w <= settings.switch ? w : 0
      case "dros":
        // s w / (w^2 + s) with both divided by w, for large weights.
        return w === 0 ? 0 : settings.shrinkage / (w + settings.shrinkage / w)
      default:
        return w
    }
  }
  for (const { direct, logWeight, model, query, reward, share } of rounds) {
    const w = weight(logWeight)
    plain[query]! += modelled ? share * direct : 0
    numerator[query]! += share * w * (modelled ? reward - model : reward)
    denominator[query]! += selfNormalised ? share * w : 0
  }
  if (!selfNormalised) denominator.fill(1)
  return { plain, numerator, denominator }
}

const sum = (values: ArrayLike<number>): number => {
  let total = 0
  for (let i = 0; i < values.length; i++) total += values[i]!
  return total
}

export interface Estimate {
  readonly value: number
  /** What each query contributes: their mean is `value`. */
  readonly perQuery: Float64Array
  /** Percentile bootstrap over queries; both ends are `value` where there is but one query. */
  readonly low: number
  readonly high: number
}

export interface BootstrapOptions {
  readonly confidence?: number
  readonly resamples?: number
  /** Uniforms in [0, 1): `resamples * queries` are drawn, in order. */
  readonly uniform: () => number
}

/** A policy's value by one estimator, with an interval. Throws a RangeError without rounds or where a query's shares are not 1. */
export const estimate = (
  name: EstimatorName,
  rounds: ReadonlyArray<Round>,
  bootstrap: BootstrapOptions,
  settings: EstimatorSettings = defaultEstimatorSettings
): Estimate => {
  const { denominator, numerator, plain } = partsOf(name, rounds, settings)
  const queries = plain.length
  const value = sum(plain) / queries + sum(numerator) / sum(denominator)
  const each = sum(denominator) / queries
  const perQuery = plain.map((q, i) => q + numerator[i]! / each)
  if (queries === 1) return { value, perQuery, low: value, high: value }
  const { confidence = 0.95, resamples = 2000, uniform } = bootstrap
  const values = new Float64Array(resamples)
  for (let k = 0; k < resamples; k++) {
    let [p, n, d] = [0, 0, 0]
    for (let i = 0; i < queries; i++) {
      const at = Math.floor(uniform() * queries)
      p += plain[at]!
      n += numerator[at]!
      d += denominator[at]!
    }
    // A resample of queries whose weights all vanish beside the largest one says nothing of the ratio.
    values[k] = p / queries + (d === 0 ? 0 : n / d)
  }
  const tail = (1 - confidence) / 2
  return { value, perQuery, low: percentile(values, tail), high: percentile(values, 1 - tail) }
}

/** The value alone. */
export const valueOf = (
  name: EstimatorName,
  rounds: ReadonlyArray<Round>,
  settings: EstimatorSettings = defaultEstimatorSettings
): number => {
  const { denominator, numerator, plain } = partsOf(name, rounds, settings)
  return sum(plain) / plain.length + sum(numerator) / sum(denominator)
}
