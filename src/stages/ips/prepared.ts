/** Logged slates as POPE's objective takes them: token ids, odds, votes on their scale, and rows of the batch. */
import { Effect } from "effect"
import type { LoggedSlate } from "../../data/records.ts"
import type * as PolicyModel from "../../models/Policy.ts"
import { logPropensities, type Scored } from "../../ope/propensity.ts"
import { firsts, fittedVotes } from "../../ope/rounds.ts"
import { logSetProbability } from "../../ope/setProbability.ts"
import { scaleVotes, voteFactor } from "../../ope/votes.ts"
import { type OpeParams, refusing, scoredSlates, unscored } from "./settings.ts"

/** A slate as the objective takes it: its rows, absent responses included, and what is known before training. */
export interface Prepared {
  readonly id: string
  readonly sequences: ReadonlyArray<{
    readonly prompt: ReadonlyArray<number>
    readonly completion: ReadonlyArray<number>
  }>
  readonly size: number
  /** Log-propensities under the behaviour policy. */
  readonly behaviour: ReadonlyArray<number>
  readonly texts: ReadonlyArray<string>
  /** Scaled, times K where they are shares; counted and predicted. */
  readonly votes: ReadonlyArray<number>
  readonly model: ReadonlyArray<number>
}

const factorial = (n: number): number => (n <= 1 ? 1 : n * factorial(n - 1))

/** What every row of a slate is fed, by input. */
export const rowsOf = (slate: Prepared, groupSize: number, { set, weights }: OpeParams) => {
  const slots = Array.from({ length: groupSize }, (_, k) => k)
  const distinct = firsts(slate.texts)
  const setBehaviour = () =>
    Math.log(factorial(groupSize) / factorial(slate.size)) + logSetProbability(set, slate.behaviour)
  return {
    present: slots.map((k) => (k < slate.size ? 1 : 0)),
    distinct: slots.map((k) => (distinct.includes(k) ? 1 : 0)),
    behaviour:
      weights === "joint" && set === "plackett-luce"
        ? slots.map((k) => (k === 0 ? setBehaviour() : 0))
        : slots.map((k) => slate.behaviour[k] ?? 0),
    votes: slots.map((k) => slate.votes[k] ?? 0),
    model: slots.map((k) => slate.model[k] ?? 0)
  }
}

/** Policy log-propensities of a slate's responses from their tokens' log-probabilities. */
export const propensitiesOf = (slate: Prepared, rows: ReadonlyArray<ArrayLike<number>>, { propensity }: OpeParams) => {
  const scored = rows.slice(0, slate.size).map((logprobs): Scored => {
    let logprob = 0
    for (let i = 0; i < logprobs.length; i++) logprob += logprobs[i]!
    return { logprob, tokens: logprobs.length }
  })
  return logPropensities(
    propensity,
    scored,
    firsts(slate.texts).map((k) => scored[k]!)
  )
}

/** Slates with what is known of them before training; fails where a log cannot be trained on. */
export const prepare = Effect.fnUntraced(function* (
  policy: PolicyModel.Policy,
  slates: ReadonlyArray<LoggedSlate>,
  params: OpeParams
) {
  const logged = yield* scoredSlates("ips", slates, () => unscored, params.votes)
  const groupSize = Math.max(...slates.map(({ responses }) => responses.length))
  const votes = logged.map(({ exposure, votes }) => scaleVotes(params.votes, votes, exposure))
  const predict = fittedVotes(logged, votes, params.shrink)
  const none = { prompt: [], completion: [] }
  const prepared: Array<Prepared> = []
  for (const [i, { id, prompt, responses }] of slates.entries()) {
    const sequences = yield* Effect.forEach(responses, ({ text }) => policy.sequence(prompt, text))
    const { behaviour, texts } = logged[i]!
    const size = responses.length
    const factor = voteFactor(params.votes, size)
    const odds = yield* refusing("ips", id, () => {
      if (params.weights === "joint" && params.set === "plackett-luce" && new Set(texts).size < size) {
        throw new RangeError(
          "holds a text twice, which draws without replacement (`set: plackett-luce`) cannot have given"
        )
      }
      return logPropensities(
        params.propensity,
        behaviour,
        firsts(texts).map((k) => behaviour[k]!)
      )
    })
    prepared.push({
      id,
      size,
      texts,
      behaviour: odds,
      sequences: Array.from({ length: groupSize }, (_, k) => sequences[k] ?? none),
      votes: votes[i]!.map((vote) => factor * vote),
      model: texts.map((text, k) => factor * predict(i, text, k))
    })
  }
  return { groupSize, prepared }
})
