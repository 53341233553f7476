/**
 * OP-GRPO: group-relative policy optimisation on a reward of coverage and uniqueness (arXiv 2602.20759; `docs/stages/grpo.md`).
 *
 * A step: `promptsPerStep` prompts, `groupSize` answers each, drawn by the current policy; every answer scored by the
 * parts of the reward; advantages within the group,
 *
 *     A = (r - mean) / (std + epsilon),   0 in a group without variance       (`sum-then-normalize`; GDPO: `normalize-then-sum`)
 *
 * then `updatesPerStep` clipped updates on disjoint minibatches of the answers, with the sampler's log-probabilities as
 * the old policy's. Departures from the authors' run: any size; `profile: strict` closes the reward's exploits.
 *
 * Rollout and scoring are the functions of the stages `generate` and `score`; here they are steps, journaled and not cached.
 */
import { Effect, Schema } from "effect"
import { Encoder, Policy, Situations } from "../artifact/kinds.ts"
import type { Situation } from "../data/records.ts"
import { permutation, stream } from "../device/random.ts"
import * as Param from "../dsl/param.ts"
import * as Stage from "../dsl/Stage.ts"
import { type SampleRow, Task } from "../dsl/Task.ts"
import type { Completion } from "../models/generate.ts"
import * as PolicyModel from "../models/Policy.ts"
import { grpo as objective } from "../objectives/grpo.ts"
import { advantages } from "../rewards/advantage.ts"
import { coverage } from "../rewards/coverage.ts"
import { format } from "../rewards/format.ts"
import type { AnyRewardPart } from "../rewards/part.ts"
import { tag } from "../rewards/tag.ts"
import { uniqueness } from "../rewards/uniqueness.ts"
import { rollOut, samplingFields, samplingOf } from "./generate.ts"
import { openEncoder } from "./models.ts"
import { optimizerFields, optimizerSettings } from "./optimizing.ts"
import { stepRows } from "./order.ts"
import { differences } from "./samplerCheck.ts"
import { meanScores, rewardSchema, type Score, scoreBatch } from "./scoring.ts"
import { runSteps } from "./steps.ts"

export class GroupTooSmall extends Schema.TaggedError<GroupTooSmall>()("GroupTooSmall", {
  rows: Schema.Int,
  wanted: Schema.Int
}) {
  override get message() {
    return `grpo: ${this.rows} prompts for \`promptsPerStep: ${this.wanted}\`; prompts within a step are distinct, so ask for fewer`
  }
}

/** The parameters of a GRPO stage whose reward has these parts. */
const paramsOf = (parts: ReadonlyArray<AnyRewardPart>) =>
  Param.struct({
    steps: Param.int(30, "steps of rollout, scoring and updates", { min: 0 }),
    promptsPerStep: Param.int(16, "prompts per step, all distinct; a short last batch of a pass is dropped", {
      min: 1
    }),
    groupSize: Param.int(8, "answers per prompt", { min: 2 }),
    updatesPerStep: Param.int(2, "optimizer updates per step, on disjoint minibatches of the answers", { min: 1 }),
    ...samplingFields({ temperature: 1 }, { above: 0 }),
    ...optimizerFields({ learningRate: 3e-4, schedule: "constant", warmupSteps: 0, weightDecay: 0 }),
    clip: Param.struct({
      low: Param.number(0.2, "how far below 1 the ratio may go", { min: 0, max: 1 }),
      high: Param.number(0.2, "how far above 1 the ratio may go", { min: 0 }),
      dual: Param.optional(
        Schema.Finite.check(Schema.isGreaterThan(1)),
        "dual clip: bounds the loss at negative advantages at this multiple; the paper's code has 3"
      )
    }),
    klCoefficient: Param.number(0, "weight of the k3 KL to the policy that came in; the paper's is 0.001", { min: 0 }),
    advantage: Param.struct({ epsilon: Param.number(1e-6, "added to the group's standard deviation", { min: 0 }) }),
    rematerialise: Param.boolean(false, "recompute layers in the backward pass: less memory, a third more work"),
    reward: rewardSchema(parts)
  })

const mean = (values: ReadonlyArray<number>) => values.reduce((sum, value) => sum + value, 0) / values.length

/** Unbiased standard deviation of the rewards that are there; 0 for fewer than two. */
const deviation = (rewards: ReadonlyArray<number>): number => {
  const scored = rewards.filter((reward) => !Number.isNaN(reward))
  if (scored.length < 2) return 0
  const centre = mean(scored)
  return Math.sqrt(scored.reduce((sum, reward) => sum + (reward - centre) ** 2, 0) / (scored.length - 1))
}

/** Metrics of a step's rewards: TRL's names. */
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

/** The order cut into pieces whose sizes differ by one at most; as many as asked for, if there are as many rows. */
const minibatches = (order: Int32Array, count: number): ReadonlyArray<ReadonlyArray<number>> => {
  const pieces = Math.min(count, order.length)
  const edge = (i: number) => Math.floor((i * order.length) / pieces)
  return Array.from({ length: pieces }, (_, i) => Array.from(order.subarray(edge(i), edge(i + 1))))
}

const sampleRows = (
  step: number,
  situations: ReadonlyMap<string, Situation>,
  answers: ReadonlyArray<Completion>,
  scores: ReadonlyArray<Score>,
  advantage: Float64Array
): ReadonlyArray<SampleRow> =>
  answers.map(({ promptId, sample, text }, k) => ({
    step,
    promptId,
    idx: sample,
    prompt: situations.get(promptId)!.prompt,
    completion: text,
    reward: scores[k]!.reward,
    advantage: advantage[k]!,
    parts: scores[k]!.rows
  }))

/** A GRPO stage whose reward is composed of the parts given. */
export const grpoWith = (parts: ReadonlyArray<AnyRewardPart>) =>
  Stage.make("grpo", {
    module: import.meta.url,
    parts: parts.map((part) => part.module),
    version: 1,
    params: paramsOf(parts),
    inputs: { policy: Policy, prompts: Situations, estimator: Encoder },
    outputs: { policy: Policy },
    seeded: true,
    device: true,
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
      kl: "none",
      entropy: "none",
      "clip_ratio/*": "none",
      "sampling/logp_difference/*": "lower",
      "perf/*": "none"
    },
    run: Effect.fn("stage.grpo")(function* ({ inputs, outputs, params, seed }) {
      const task = yield* Task
      const policy = yield* PolicyModel.load(inputs.policy.dir)
      const reference = params.klCoefficient > 0 ? yield* PolicyModel.load(inputs.policy.dir) : undefined
      const estimator = yield* openEncoder(inputs.estimator.dir)
      const situations = yield* inputs.prompts.rows
      if (params.steps > 0 && situations.length < params.promptsPerStep) {
        return yield* new GroupTooSmall({ rows: situations.length, wanted: params.promptsPerStep })
      }
      const { clip, klCoefficient, updatesPerStep } = params
      const trainer = yield* policy.trainer(
        objective({
          clipLow: clip.low,
          clipHigh: clip.high,
          ...(clip.dual === undefined ? {} : { dualClip: clip.dual }),
          klCoefficient,
          // With one update per generation the ratio is exactly 1; with several the sampler's log-probabilities are the old ones.
          old: updatesPerStep === 1 ? "detached" : "given"
        }),
        optimizerSettings(params, params.steps * updatesPerStep),
        { temperature: params.temperature, rematerialise: params.rematerialise }
      )
      const rowsOf = stepRows(seed, "grpo", situations.length, params.promptsPerStep)

      const step = Effect.fnUntraced(function* (k: number) {
        const batch = rowsOf(k).map((row) => situations[row]!)
        const byId = new Map(batch.map((situation) => [situation.id, situation]))
        const answers = yield* rollOut(policy, batch, samplingOf(params, seed, `grpo/${k}`, params.groupSize))
        const scores = yield* scoreBatch(
          parts,
          params.reward,
          estimator,
          answers.map(({ promptId, text }) => {
            const situation = byId.get(promptId)!
            return { situation, chat: policy.chat.render(situation.prompt) ?? situation.prompt, completion: text }
          })
        )
        const advantage = advantages(
          params.reward.aggregate,
          {
            totals: scores.map(({ reward }) => reward),
            parts: parts.map((_, p) => ({
              weight: scores[0]!.rows[p]!.weight,
              values: scores.map(({ rows }) => rows[p]!.value)
            }))
          },
          { groupSize: params.groupSize, epsilon: params.advantage.epsilon }
        )
        yield* task.samples(sampleRows(k, byId, answers, scores, advantage))

        const sequences = answers.map(({ ids, prompt }) => ({ prompt, completion: ids }))
        const refLogprobs = reference ? yield* reference.logprobs(sequences, { temperature: params.temperature }) : []
        const order = permutation(stream(seed, "grpo", "minibatches", k), answers.length)
        const pieces = minibatches(order, updatesPerStep)
        const updates: Array<PolicyModel.PolicyUpdate> = []
        for (const rows of pieces) {
          updates.push(
            yield* trainer.update({
              sequences: rows.map((row) => sequences[row]!),
              inputs: {
                advantages: rows.map((row) => advantage[row]!),
                oldLogprobs: rows.map((row) => answers[row]!.logprobs),
                ...(reference ? { refLogprobs: rows.map((row) => refLogprobs[row]!.logprobs) } : {})
              }
            })
          )
        }
        const check = yield* differences(
          policy.parameterCount,
          pieces[0]!.map((row) => answers[row]!.logprobs),
          updates[0]!.logprobs
        )
        const last = updates.at(-1)!.metrics
        const averaged = Object.keys(last).map((name) => [name, mean(updates.map(({ metrics }) => metrics[name]!))])
        const lengths = answers.map(({ ids }) => ids.length)
        return {
          ...Object.fromEntries(averaged),
          learning_rate: last["learning_rate"]!,
          updates: last["updates"]!,
          ...rewardMetrics(scores, params.groupSize),
          ...check,
          "completions/mean_length": mean(lengths),
          "completions/clipped_ratio": answers.filter(({ finish }) => finish === "length").length / answers.length,
          "perf/padding": mean(updates.map(({ padding }) => padding)),
          tokens: lengths.reduce((sum, length) => sum + length, 0)
        }
      })

      yield* runSteps({
        total: params.steps,
        restore: (dir) => trainer.restore(`${dir}/trainer.safetensors`),
        save: (dir) => trainer.checkpoint(`${dir}/trainer.safetensors`),
        step
      })
      yield* policy.save(outputs.policy.dir)
    })
  })

/** OP-GRPO's parts, in the order of its equation. */
export const opGrpoParts = [coverage, uniqueness, format, tag] as const

/** The stage with OP-GRPO's reward. */
export const grpo = grpoWith(opGrpoParts)
