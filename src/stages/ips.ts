/**
 * POPE (arXiv 2509.19333; `docs/ope.md`): a policy is trained on logged slates by raising an importance-weighted estimate
 * of its value, collaborative utility plus lambda times diversity.
 *
 *     maximise  mean over slates of  W (1/K) sum_k r_k,   W = prod_k p_k / p0_k   or   (1/K) sum_k w_k r_k
 *
 * by AdamW on minibatches of slates; no answer is ever drawn. Weights are cut at `clip` in log space unless `estimator: plain`.
 * `self-normalised` takes a pass before each update for the batch's sum of weights and its value; `doubly-robust` adds a
 * cross-fitted model of the votes (`ope/rounds.ts`), a baseline that plain weighting lacks: with rewards of at least 0, plain
 * V rises by making every logged response likelier. `log_ratio/top` against `log_ratio/bottom` shows whether more happened.
 *
 * The paper publishes no formula in readable form, nor whether it clipped: what is reconstructed is named so in the options.
 */
import { Effect } from "effect"
import { Checkpoint, LoggedSlates, Policy } from "../artifact/kinds.ts"
import type { LoggedSlate } from "../data/records.ts"
import * as Param from "../dsl/param.ts"
import * as Stage from "../dsl/Stage.ts"
import type * as PolicyModel from "../models/Policy.ts"
import { ips as objective } from "../objectives/ips.ts"
import { logPropensities, type Scored } from "../ope/propensity.ts"
import { firsts, fittedVotes } from "../ope/rounds.ts"
import { logSetProbability } from "../ope/setProbability.ts"
import { responseReward, scaleVotes, voteFactor } from "../ope/votes.ts"
import { logWeights, weightOf, weightReport } from "../ope/weights.ts"
import { checkOpe, type OpeParams, opeFields, refusing, scoredSlates } from "./ips/settings.ts"
import { loraField, openTrained } from "./lora.ts"
import { finalOf, growing, optimizerFields, optimizerSettings } from "./optimizing.ts"
import { stepRows } from "./order.ts"
import { runSteps } from "./steps.ts"

export const IpsParams = Param.struct({
  steps: Param.int(60, "optimizer updates", { min: 0 }),
  batchSize: Param.int(16, "slates per update, all distinct; a short last batch of a pass is dropped", { min: 1 }),
  ...opeFields,
  estimator: Param.literal(
    ["plain", "clipped", "self-normalised", "doubly-robust"],
    "clipped",
    "what is maximised; the paper mentions neither clipping nor a baseline (plain). self-normalised and doubly-robust are clipped too"
  ),
  ...optimizerFields({ learningRate: 1e-4, schedule: "constant", warmupSteps: 0, weightDecay: 0 }),
  ...loraField,
  rematerialise: Param.boolean(false, "recompute layers in the backward pass: less memory, a third more work")
})

/** A slate as the objective takes it: its rows, absent responses included, and what is known before training. */
interface Prepared {
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
const rowsOf = (slate: Prepared, groupSize: number, { set, weights }: OpeParams) => {
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
const propensitiesOf = (slate: Prepared, rows: ReadonlyArray<ArrayLike<number>>, { propensity }: OpeParams) => {
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

const mean = (values: ReadonlyArray<number>) => values.reduce((sum, value) => sum + value, 0) / values.length

/**
 * What weights are like, and which responses have become likelier than they were when logged: of the most- and the
 * least-voted ones, where there are such; slates of equal votes have neither.
 */
const batchReport = (
  batch: ReadonlyArray<Prepared>,
  logp: ReadonlyArray<ReadonlyArray<number>>,
  params: OpeParams
): Readonly<Record<string, number>> => {
  const logs = batch.flatMap((slate, i) => logWeights(params.weights, params.set, logp[i]!, slate.behaviour))
  const { clipped, ess, essShare, max, overflowed } = weightReport(logs, params.clip)
  const ratios = batch.map(({ behaviour }, i) => logp[i]!.map((x, k) => x - behaviour[k]!))
  const extreme = (name: string, pick: (...votes: ReadonlyArray<number>) => number) => {
    const found = batch.flatMap(({ votes }, i) => {
      const wanted = pick(...votes)
      return Math.min(...votes) === Math.max(...votes) ? [] : ratios[i]!.filter((_, k) => votes[k] === wanted)
    })
    return found.length === 0 ? {} : { [name]: mean(found) }
  }
  return {
    "ope/ess": ess,
    "ope/ess_share": essShare,
    "ope/max_weight": max,
    "ope/clipped": clipped,
    "ope/overflowed": overflowed,
    "log_ratio/mean": mean(ratios.flat()),
    ...extreme("log_ratio/top", Math.max),
    ...extreme("log_ratio/bottom", Math.min)
  }
}

/** Sum of weights and self-normalised value of a batch, each slate's mean where weights are independent. */
const batchTotals = (batch: ReadonlyArray<Prepared>, logp: ReadonlyArray<ReadonlyArray<number>>, params: OpeParams) => {
  let [weightSum, weighted] = [0, 0]
  batch.forEach((slate, i) => {
    // Votes are scaled and multiplied already.
    const rewards = slate.votes.map((vote, k) =>
      responseReward({ ...params, votes: "raw" }, vote, logp[i]![k]!, slate.size)
    )
    const w = logWeights(params.weights, params.set, logp[i]!, slate.behaviour).map((log) =>
      Math.min(weightOf(log), params.clip)
    )
    weightSum += mean(w)
    weighted += params.weights === "joint" ? w[0]! * mean(rewards) : mean(w.map((x, k) => x * rewards[k]!))
  })
  return { weightSum, value: weighted / weightSum }
}

const prepare = Effect.fnUntraced(function* (
  policy: PolicyModel.Policy,
  slates: ReadonlyArray<LoggedSlate>,
  params: OpeParams
) {
  const unscored: Scored = { logprob: 0, tokens: 1 }
  const logged = yield* scoredSlates("ips", slates, () => unscored, params.votes === "rate")
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

export const ips = Stage.make("ips", {
  module: import.meta.url,
  version: 1,
  params: IpsParams,
  inputs: { policy: Policy, slates: LoggedSlates },
  outputs: { policy: Policy, checkpoint: Checkpoint },
  seeded: true,
  device: true,
  grows: growing,
  metrics: {
    loss: "lower",
    "ope/value": "higher",
    "ope/ess": "higher",
    "ope/ess_share": "higher",
    "ope/max_weight": "none",
    "ope/clipped": "none",
    "ope/overflowed": "lower",
    "log_ratio/mean": "none",
    "log_ratio/top": "higher",
    "log_ratio/bottom": "lower",
    grad_norm: "none",
    learning_rate: "none",
    updates: "none",
    "perf/tokens_per_second": "none",
    "perf/step_seconds": "none",
    "perf/padding": "none"
  },
  run: Effect.fn("stage.ips")(function* ({ inputs, outputs, params, seed }) {
    yield* checkOpe("ips", params)
    const policy = yield* openTrained(inputs.policy.dir, params, seed)
    const slates = yield* inputs.slates.rows
    const { groupSize, prepared } = yield* prepare(policy, slates, params)
    const { clip, estimator } = params
    const loss = yield* refusing("ips", "", () =>
      objective({
        ...params,
        groupSize,
        estimator: estimator === "clipped" ? "plain" : estimator,
        clip: estimator === "plain" ? Number.POSITIVE_INFINITY : clip
      })
    )
    const trainer = yield* policy.trainer(loss, optimizerSettings(params, params.steps), {
      rematerialise: params.rematerialise
    })
    const order = stepRows(seed, "ips", prepared.length, params.batchSize)

    const step = Effect.fnUntraced(function* (k: number) {
      const batch = order(k).map((row) => prepared[row]!)
      const sequences = batch.flatMap((slate) => slate.sequences)
      const propensities = (rows: ReadonlyArray<ArrayLike<number>>) =>
        batch.map((slate, i) => propensitiesOf(slate, rows.slice(i * groupSize, (i + 1) * groupSize), params))
      const rows = yield* refusing("ips", "", () => batch.map((slate) => rowsOf(slate, groupSize, params)))
      const given = (name: keyof (typeof rows)[number]) => rows.flatMap((slate) => slate[name])
      const totals =
        estimator === "self-normalised"
          ? batchTotals(
              batch,
              propensities((yield* policy.logprobs(sequences)).map(({ logprobs }) => logprobs)),
              params
            )
          : {}
      const { logprobs, metrics, padding, tokens } = yield* trainer.update({
        sequences,
        inputs: {
          present: given("present"),
          behaviour: given("behaviour"),
          votes: given("votes"),
          distinct: given("distinct"),
          model: given("model"),
          ...totals
        }
      })
      const report = yield* refusing("ips", "", () => batchReport(batch, propensities(logprobs), params))
      return {
        loss: metrics["loss"]!,
        "ope/value": metrics["value"]!,
        ...report,
        grad_norm: metrics["grad_norm"]!,
        learning_rate: metrics["learning_rate"]!,
        updates: metrics["updates"]!,
        tokens,
        "perf/padding": padding
      }
    })

    yield* runSteps({
      total: params.steps,
      final: finalOf(params, outputs.checkpoint),
      restore: (dir) => trainer.restore(`${dir}/trainer.safetensors`),
      save: (dir) => trainer.checkpoint(`${dir}/trainer.safetensors`),
      step
    })
    yield* policy.save(outputs.policy.dir)
  })
})
