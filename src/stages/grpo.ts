/**
 * OP-GRPO: group-relative policy optimisation on a reward of coverage and uniqueness (arXiv 2602.20759; `docs/stages/grpo.md`).
 *
 * A step: `promptsPerStep` prompts, `groupSize` answers each, drawn by the current policy; every answer scored by the
 * parts of the reward; advantages within the group,
 *
 *     A = (r - mean) / (std + epsilon),   0 in a group without variance       (`sum-then-normalize`; GDPO: `normalize-then-sum`)
 *
 * then `updatesPerStep` updates on disjoint minibatches of the answers by the loss of `grpo.loss` (the PPO clip by default),
 * with the sampler's log-probabilities as the old policy's. Other losses, advantages and the rest of what current libraries
 * treat as standard are options of `grpo/params.ts`; by default none of them is on. Departures from the authors' run: any
 * size; `profile: strict` closes the reward's exploits.
 *
 * Rollout and scoring are the functions of the stages `generate` and `score`; here they are steps, journaled and not cached.
 */
import { Effect, Schema } from "effect"
import { optional } from "../artifact/Kind.ts"
import { Checkpoint, Encoder, Policy, Situations } from "../artifact/kinds.ts"
import type { Situation } from "../data/records.ts"
import * as Stage from "../dsl/Stage.ts"
import { type SampleRow, Task } from "../dsl/Task.ts"
import { klValue } from "../objectives/kl.ts"
import { coverage } from "../rewards/coverage.ts"
import { format } from "../rewards/format.ts"
import type { AnyRewardPart } from "../rewards/part.ts"
import { tag } from "../rewards/tag.ts"
import { uniqueness } from "../rewards/uniqueness.ts"
import { watchDecoding } from "./decoding.ts"
import { rollOut, samplingOf } from "./generate.ts"
import { assignCredit } from "./grpo/credit.ts"
import { measureOn } from "./grpo/development.ts"
import { learn } from "./grpo/learn.ts"
import { grpoRefusals, objectiveOf, paramsOf } from "./grpo/params.ts"
import { openReference } from "./grpo/reference.ts"
import { collect, type Rollouts } from "./grpo/rollouts.ts"
import { developmentRows, openKeeper } from "./keeping.ts"
import { openTrained } from "./lora.ts"
import { openEncoder } from "./models.ts"
import { finalOf, growing, optimizerSettings } from "./optimizing.ts"
import { stepRows } from "./order.ts"
import { meanScores, openReward, type Score } from "./scoring.ts"
import { runSteps } from "./steps.ts"

export class GroupTooSmall extends Schema.TaggedError<GroupTooSmall>()("GroupTooSmall", {
  rows: Schema.Int,
  wanted: Schema.Int
}) {
  override get message() {
    return `grpo: ${this.rows} prompts for \`promptsPerStep: ${this.wanted}\`; prompts within a step are distinct, so ask for fewer`
  }
}

/** Parameters that mean nothing together. */
export class GrpoRefused extends Schema.TaggedError<GrpoRefused>()("GrpoRefused", {
  path: Schema.String,
  detail: Schema.String
}) {
  override get message() {
    return `grpo.${this.path}: ${this.detail}`
  }
}

const mean = (values: ReadonlyArray<number>) => values.reduce((sum, value) => sum + value, 0) / values.length

/** Unbiased standard deviation of the rewards that are there; 0 for fewer than two. */
const deviation = (rewards: ReadonlyArray<number>): number => {
  const scored = rewards.filter((reward) => !Number.isNaN(reward))
  if (scored.length < 2) return 0
  const centre = mean(scored)
  return Math.sqrt(scored.reduce((sum, reward) => sum + (reward - centre) ** 2, 0) / (scored.length - 1))
}

/** Metrics of a step's rewards, all groups sampled: TRL's names. */
const rewardMetrics = (scores: ReadonlyArray<Score>, groupSize: number): Readonly<Record<string, number>> => {
  const rewards = scores.map(({ reward }) => reward)
  const groups = Array.from({ length: rewards.length / groupSize }, (_, g) =>
    deviation(rewards.slice(g * groupSize, (g + 1) * groupSize))
  )
  return {
    ...meanScores(scores),
    reward_std: mean(groups),
    frac_reward_zero_std: groups.filter((std) => std < 1e-9).length / groups.length
  }
}

const sampleRows = (
  step: number,
  situations: ReadonlyMap<string, Situation>,
  { answers, scores }: Rollouts,
  advantageOf: ReadonlyMap<number, number>
): ReadonlyArray<SampleRow> =>
  answers.map(({ promptId, sample, text }, row) => ({
    step,
    promptId,
    idx: sample,
    prompt: situations.get(promptId)!.prompt,
    completion: text,
    reward: scores[row]!.reward,
    // Answers of groups that were replaced teach nothing.
    advantage: advantageOf.get(row) ?? 0,
    parts: scores[row]!.rows
  }))

const evaluated = {
  "eval/reward": "higher",
  "eval/rewards/*/mean": "higher",
  "eval/completions/mean_length": "none",
  "eval/completions/clipped_ratio": "lower",
  "eval/kept_step": "none"
} as const

/** A GRPO stage whose reward is composed of the parts given. */
export const grpoWith = (parts: ReadonlyArray<AnyRewardPart>) =>
  Stage.make("grpo", {
    module: import.meta.url,
    parts: parts.map((part) => part.module),
    version: 1,
    params: paramsOf(parts),
    inputs: { policy: Policy, prompts: Situations, estimator: Encoder, development: optional(Situations) },
    outputs: { policy: Policy, checkpoint: Checkpoint },
    seeded: true,
    device: true,
    grows: growing,
    metrics: {
      loss: "none",
      grad_norm: "none",
      learning_rate: "none",
      updates: "none",
      reward: "higher",
      reward_std: "none",
      frac_reward_zero_std: "lower",
      "rewards/*/mean": "higher",
      "completions/mean_length": "none",
      "completions/clipped_ratio": "lower",
      "completions/masked_ratio": "none",
      kl: "none",
      entropy: "none",
      "clip_ratio/*": "none",
      cispo_clip_ratio: "none",
      "ratio/*": "none",
      "sampling/logp_difference/*": "lower",
      "sampling/importance_sampling_ratio/*": "none",
      "sampling/rounds": "none",
      "sampling/groups": "none",
      ...evaluated,
      "perf/*": "none"
    },
    run: Effect.fn("stage.grpo")(function* ({ inputs, outputs, params, seed }) {
      const task = yield* Task
      const [refused] = grpoRefusals(params)
      if (refused !== undefined) return yield* new GrpoRefused({ path: refused.path, detail: refused.message })
      const policy = yield* openTrained(inputs.policy.dir, params, seed)
      const reference = yield* openReference(inputs.policy.dir, params, policy)
      const estimator = yield* openEncoder(inputs.estimator.dir)
      const reward = yield* openReward(parts, params.reward)
      const situations = yield* inputs.prompts.rows
      if (params.steps > 0 && situations.length < params.promptsPerStep) {
        return yield* new GroupTooSmall({ rows: situations.length, wanted: params.promptsPerStep })
      }
      const development = yield* developmentRows("grpo", params, inputs.development)
      const byId = new Map(situations.map((situation) => [situation.id, situation]))
      const { groupSize, kl, temperature, updatesPerStep } = params
      const trainer = yield* policy.trainer(
        objectiveOf(params),
        optimizerSettings(params, params.steps * updatesPerStep),
        { temperature, rematerialise: params.rematerialise }
      )
      const rowsOf = stepRows(seed, "grpo", situations.length, params.promptsPerStep)

      const step = Effect.fnUntraced(function* (k: number) {
        const answer = Effect.fnUntraced(function* (batch: ReadonlyArray<Situation>) {
          const answers = yield* rollOut(policy, batch, samplingOf(params, seed, `grpo/${k}`, groupSize))
          const scores = yield* reward.score(
            estimator,
            answers.map(({ promptId, text }) => {
              const situation = byId.get(promptId)!
              return { situation, chat: policy.chat.render(situation.prompt) ?? situation.prompt, completion: text }
            }),
            k
          )
          return { answers, scores }
        })
        const decoding = yield* watchDecoding(policy)
        const found = yield* collect(params, seed, k, rowsOf(k), situations, answer)
        const answers = found.kept.map((row) => found.answers[row]!)
        const sequences = answers.map(({ ids, prompt }) => ({ prompt, completion: ids }))
        const referred = reference && (yield* reference.logprobs(sequences, { temperature })).map((row) => row.logprobs)
        const penalties =
          kl.in === "reward" && referred
            ? answers.map(({ logprobs }, row) =>
                Float64Array.from(logprobs, (logprob, t) => klValue(kl.estimator, logprob, referred[row]![t]!))
              )
            : undefined
        const credit = assignCredit(
          params,
          found.kept.map((row) => found.scores[row]!),
          answers.map(({ ids }) => ids.length),
          penalties
        )
        const advantageOf = new Map(found.kept.map((row, i) => [row, credit.perAnswer[i]!]))
        yield* task.samples(sampleRows(k, byId, found, advantageOf))

        const trained = yield* learn(params, seed, k, policy, trainer, { answers, credit, reference: referred })
        if (reference) yield* reference.afterStep(k, policy)
        const lengths = found.answers.map(({ ids }) => ids.length)
        return {
          ...trained,
          ...rewardMetrics(found.scores, groupSize),
          ...(penalties ? { kl: mean(penalties.flatMap((row) => Array.from(row))) } : {}),
          "completions/mean_length": mean(lengths),
          "completions/clipped_ratio":
            found.answers.filter(({ finish }) => finish === "length").length / lengths.length,
          ...(params.dynamicSampling.rounds === 0
            ? {}
            : { "sampling/rounds": found.rounds, "sampling/groups": found.kept.length / groupSize }),
          ...(yield* decoding.metrics),
          tokens: lengths.reduce((sum, length) => sum + length, 0)
        }
      })

      const measure = measureOn({ policy, estimator, reward }, development, params, seed)
      const keeper = yield* openKeeper(policy, params, evaluated)
      const file = (dir: string) => `${dir}/trainer.safetensors`
      yield* runSteps({
        total: params.steps,
        final: finalOf(params, outputs.checkpoint),
        restore: Effect.fnUntraced(function* (dir, state) {
          yield* trainer.restore(file(dir))
          if (reference) yield* reference.restore(dir)
          yield* keeper.restore(dir, state)
        }),
        save: Effect.fnUntraced(function* (dir) {
          yield* trainer.checkpoint(file(dir))
          if (reference) yield* reference.save(dir)
          yield* keeper.save(dir)
        }),
        state: keeper.state,
        evaluate: {
          every: params.evaluateEvery,
          measure: (k) => Effect.tap(measure(k), (metrics) => keeper.consider(k, metrics))
        },
        step
      })
      yield* keeper.publish(outputs.policy.dir, params.steps)
    })
  })

/** OP-GRPO's parts, in the order of its equation. */
export const opGrpoParts = [coverage, uniqueness, format, tag] as const

/** The stage with OP-GRPO's reward. */
export const grpo = grpoWith(opGrpoParts)
