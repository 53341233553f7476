/**
 * From logged slates to the rounds that estimators take: propensities, weights, rewards, and what a reward model says.
 *
 * The model predicts a response's votes, cross-fitted: from the other slates of its query that hold the same text, shrunk
 * by `shrink` pseudo-counts to the mean of all other queries. The reward follows from predicted votes as from counted
 * ones, and its expectation under the policy is a sum over the pool where that is known,
 *
 *     Q = sum_{a in pool} pi(a) q(a)      (joint weights: times pi(pool)^(K - 1), the chance that the other places are in it)
 *
 * and over the query's logged responses with the policy renormalised on them elsewhere: an approximation, so that DM and
 * the doubly robust estimators are then biased. `exact` takes the expected votes of the truth itself.
 */

import type { Round } from "./estimators.ts"
import { logPropensities, logSumExp, type Propensity, type Scored } from "./propensity.ts"
import type { SetProbability } from "./setProbability.ts"
import { expectedVotes, type KnownSlates } from "./truth.ts"
import { type RewardSettings, responseReward, scaleVotes } from "./votes.ts"
import { logWeights, type Weighting } from "./weights.ts"

export interface OpeSettings extends RewardSettings {
  readonly propensity: Propensity
  readonly set: SetProbability
  readonly weighting: Weighting
  /** Pseudo-counts of the fitted reward model. */
  readonly shrink: number
  readonly model: "fitted" | "exact"
}

/** A slate under both policies. */
export interface ScoredSlate {
  readonly query: string
  readonly texts: ReadonlyArray<string>
  readonly votes: ReadonlyArray<number>
  readonly exposure?: ReadonlyArray<number>
  readonly policy: ReadonlyArray<Scored>
  readonly behaviour: ReadonlyArray<Scored>
  /** All that may be answered, where that is known. */
  readonly pool?: {
    readonly texts: ReadonlyArray<string>
    readonly policy: ReadonlyArray<Scored>
    readonly behaviour: ReadonlyArray<Scored>
    readonly truth: KnownSlates
  }
}

export interface Rounds {
  /** Names of the queries, in the order of their first slate. */
  readonly queries: ReadonlyArray<string>
  readonly rounds: ReadonlyArray<Round>
  /** log (p / p0) of every logged response. */
  readonly logRatios: ReadonlyArray<number>
}

/** The distinct responses of some texts, by their first places. */
export const firsts = (texts: ReadonlyArray<string>): ReadonlyArray<number> =>
  texts.flatMap((text, k) => (texts.indexOf(text) === k ? [k] : []))

/** Log-propensities under both policies of a slate's responses, and of its pool where that is known. */
export const slatePropensities = (propensity: Propensity, slate: ScoredSlate) => {
  const distinct = firsts(slate.texts)
  const of = (who: "policy" | "behaviour") => {
    const pool = slate.pool?.[who] ?? distinct.map((k) => slate[who][k]!)
    return {
      logged: logPropensities(propensity, slate[who], pool),
      pool: slate.pool === undefined ? undefined : logPropensities(propensity, pool, pool)
    }
  }
  return { policy: of("policy"), behaviour: of("behaviour") }
}

const mean = (values: ReadonlyArray<number>) => values.reduce((sum, value) => sum + value, 0) / values.length

/** Predicted votes of a text at a place of slate i. */
export type VoteModel = (slate: number, text: string, place: number) => number

/** The cross-fitted model of scaled votes [slates][places]. */
export const fittedVotes = (
  slates: ReadonlyArray<Pick<ScoredSlate, "query" | "texts">>,
  votes: ReadonlyArray<ReadonlyArray<number>>,
  shrink: number
): VoteModel => {
  const total = { sum: 0, count: 0 }
  const byQuery = new Map<string, { sum: number; count: number }>()
  const byText = new Map<string, Array<{ readonly slate: number; readonly vote: number }>>()
  const key = (query: string, text: string) => `${query}\u0000${text}`
  slates.forEach(({ query, texts }, slate) => {
    const own = byQuery.get(query) ?? { sum: 0, count: 0 }
    byQuery.set(query, own)
    texts.forEach((text, k) => {
      const vote = votes[slate]![k]!
      for (const sums of [total, own]) {
        sums.sum += vote
        sums.count++
      }
      const known = byText.get(key(query, text)) ?? []
      byText.set(key(query, text), known)
      known.push({ slate, vote })
    })
  })
  return (slate, text) => {
    const { query } = slates[slate]!
    const own = byQuery.get(query)!
    const elsewhere = total.count - own.count
    const centre = elsewhere === 0 ? 0 : (total.sum - own.sum) / elsewhere
    const seen = (byText.get(key(query, text)) ?? []).filter((one) => one.slate !== slate)
    const sum = seen.reduce((all, { vote }) => all + vote, 0)
    return seen.length + shrink === 0 ? centre : (sum + shrink * centre) / (seen.length + shrink)
  }
}

const exactVotes =
  (slates: ReadonlyArray<ScoredSlate>, settings: OpeSettings): VoteModel =>
  (slate, text, place) => {
    const pool = slates[slate]!.pool
    const at = pool?.texts.indexOf(text) ?? -1
    const of = pool?.truth.approvals[at]
    // What a response earns does not depend on the others: any slate with it at this place will do.
    const votes =
      pool === undefined || of === undefined || settings.votes === "slate-normalised"
        ? null
        : expectedVotes(
            settings.votes,
            pool.truth,
            Array.from({ length: place + 1 }, () => of)
          )
    if (votes === null) {
      throw new RangeError(
        "an `exact` reward model needs a log whose truth is known, and votes on the scale `rate` or `raw`; take `fitted`"
      )
    }
    return votes[place]!
  }

/** The rounds of a log. Throws RangeErrors of what it is made of: votes, propensities, set probabilities. */
export const makeRounds = (slates: ReadonlyArray<ScoredSlate>, settings: OpeSettings): Rounds => {
  const queries = [...new Set(slates.map(({ query }) => query))]
  const place = new Map(queries.map((query, k) => [query, k]))
  const slatesOf = new Map<string, number>()
  for (const { query } of slates) slatesOf.set(query, (slatesOf.get(query) ?? 0) + 1)
  const votes = slates.map(({ exposure, votes }) => scaleVotes(settings.votes, votes, exposure))
  const predict =
    settings.model === "exact" ? exactVotes(slates, settings) : fittedVotes(slates, votes, settings.shrink)
  const pooled = new Map<string, ReadonlyArray<{ readonly text: string; readonly scored: Scored }>>()
  for (const { policy, pool, query, texts } of slates) {
    const known = pooled.get(query) ?? []
    const fresh = pool === undefined ? texts : []
    const added = fresh.flatMap((text, k) =>
      known.some((one) => one.text === text) || texts.indexOf(text) < k ? [] : [{ text, scored: policy[k]! }]
    )
    pooled.set(query, [...known, ...added])
  }

  const logRatios: Array<number> = []
  const rounds = slates.flatMap((slate, i): ReadonlyArray<Round> => {
    const size = slate.texts.length
    const { behaviour, policy } = slatePropensities(settings.propensity, slate)
    const ratios = policy.logged.map((logp, k) => logp - behaviour.logged[k]!)
    logRatios.push(...ratios)
    const rewards = votes[i]!.map((vote, k) => responseReward(settings, vote, policy.logged[k]!, size))
    const modelled = slate.texts.map((text, k) =>
      responseReward(settings, predict(i, text, k), policy.logged[k]!, size)
    )
    const direct = expectation(slate, i, policy.pool, size)
    const shares = slatesOf.get(slate.query)!
    const logs = logWeights(settings.weighting, settings.set, policy.logged, behaviour.logged)
    const query = place.get(slate.query)!
    return settings.weighting === "joint"
      ? [
          {
            query,
            share: 1 / shares,
            logWeight: logs[0]!,
            reward: mean(rewards),
            model: mean(modelled),
            direct: mean(direct)
          }
        ]
      : logs.map((logWeight, k) => ({
          query,
          share: 1 / shares / size,
          logWeight,
          reward: rewards[k]!,
          model: modelled[k]!,
          direct: direct[k]!
        }))
  })
  return { queries, rounds, logRatios }

  /** The model's reward of one draw of the policy, by place. */
  function expectation(
    slate: ScoredSlate,
    i: number,
    known: ReadonlyArray<number> | undefined,
    size: number
  ): ReadonlyArray<number> {
    const logged = pooled.get(slate.query)!
    const texts = slate.pool?.texts ?? logged.map(({ text }) => text)
    const logp =
      known ??
      logPropensities(
        settings.propensity,
        logged.map(({ scored }) => scored)
      )
    const mass = logSumExp(logp)
    // A log-probability that is one is taken as it is where the pool is whole; all else is renormalised.
    const whole = slate.pool !== undefined && settings.propensity === "sequence"
    const rest = whole && settings.weighting === "joint" ? Math.exp((size - 1) * mass) : 1
    return Array.from({ length: size }, (_, k) =>
      texts.reduce((sum, text, a) => {
        const chance = Math.exp(logp[a]! - (whole ? 0 : mass)) * rest
        return chance === 0 ? sum : sum + chance * responseReward(settings, predict(i, text, k), logp[a]!, size)
      }, 0)
    )
  }
}
