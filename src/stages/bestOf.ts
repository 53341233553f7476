/**
 * Best of G: the policy answers every prompt G times, the reward of GRPO scores the answers, and the best ones become
 * demonstrations. `sft` on them is best-of-G SFT (rejection sampling, RAFT: Dong et al., 2304.06767): what a reward brings
 * without a policy gradient.
 *
 * Answers that were cut at `maxNewTokens` teach no end, empty ones nothing, and unscorable ones have no place in an order: none
 * of them is kept. A prompt without any other answer gives no demonstration, and is counted. Ties go to the earlier sample.
 * Every answer is journaled with its reward and parts, as in `grpo`.
 */
import { readFile, writeFile } from "node:fs/promises"
import { Effect, Option, Schema } from "effect"
import { Demonstrations, Encoder, Policy, Situations } from "../artifact/kinds.ts"
import type { PromptCompletion } from "../data/records.ts"
import * as Param from "../dsl/param.ts"
import * as Stage from "../dsl/Stage.ts"
import { Task } from "../dsl/Task.ts"
import * as PolicyModel from "../models/Policy.ts"
import type { AnyRewardPart } from "../rewards/part.ts"
import { decodingMetrics, watchDecoding } from "./decoding.ts"
import { rollOut, samplingFields, samplingOf } from "./generate.ts"
import { opGrpoParts } from "./grpo.ts"
import { openEncoder } from "./models.ts"
import { meanScores, openReward, rewardSchema } from "./scoring.ts"

export class NothingIsBest extends Schema.TaggedError<NothingIsBest>()("NothingIsBest", { prompts: Schema.Int }) {
  override get message() {
    return `best-of: none of the answers to ${this.prompts} prompts can be learnt from: they are empty, cut at \`maxNewTokens\` or unscorable. Raise \`maxNewTokens\`, or start from a policy that ends its answers.`
  }
}

/** What is kept of an answer; NaN (unscorable) has no JSON of its own. */
const Answer = Schema.Struct({
  id: Schema.String,
  text: Schema.String,
  tokens: Schema.Int,
  clipped: Schema.Boolean,
  reward: Schema.NullOr(Schema.Finite),
  parts: Schema.Array(
    Schema.Struct({ name: Schema.String, value: Schema.NullOr(Schema.Finite), weight: Schema.Finite })
  )
})
type Answer = typeof Answer.Type
const decodeAnswers = Schema.decodeUnknownSync(Schema.fromJsonString(Schema.Array(Answer)))
const answersFile = (dir: string) => `${dir}/answers.json`

const finiteOrNull = (value: number) => (Number.isNaN(value) ? null : value)
const number = (value: number | null) => value ?? Number.NaN
const mean = (values: ReadonlyArray<number>) => values.reduce((sum, value) => sum + value, 0) / values.length

/** The `keep` best answers of a prompt that can be learnt from, best first. */
export const bestAnswers = (answers: ReadonlyArray<Answer>, keep: number): ReadonlyArray<Answer> =>
  answers
    .filter(({ clipped, reward, text }) => !clipped && reward !== null && text.trim() !== "")
    .toSorted((a, b) => b.reward! - a.reward!)
    .slice(0, keep)

/** Prompts that are answered and scored in one go. */
const chunk = 32

/** A best-of stage whose reward is composed of the parts given. */
export const bestOfWith = (parts: ReadonlyArray<AnyRewardPart>) =>
  Stage.make("best-of", {
    module: import.meta.url,
    parts: parts.map((part) => part.module),
    version: 1,
    params: Param.struct({
      prompts: Param.int(0, "use the first prompts only; 0 uses all", { min: 0 }),
      groupSize: Param.int(8, "answers per prompt", { min: 1 }),
      keep: Param.int(1, "how many of them become demonstrations", { min: 1 }),
      ...samplingFields({ temperature: 1 }, { above: 0 }),
      reward: rewardSchema(parts)
    }),
    inputs: { policy: Policy, prompts: Situations, estimator: Encoder },
    outputs: { demonstrations: Demonstrations },
    seeded: true,
    device: true,
    metrics: {
      reward: "higher",
      "rewards/*/mean": "higher",
      "best/reward": "higher",
      "best/prompts": "higher",
      "completions/mean_length": "none",
      "completions/clipped_ratio": "lower",
      ...decodingMetrics
    },
    run: Effect.fn("stage.best-of")(function* ({ inputs, outputs, params, seed }) {
      const task = yield* Task
      const policy = yield* PolicyModel.load(inputs.policy.dir)
      const estimator = yield* openEncoder(inputs.estimator.dir)
      const reward = yield* openReward(parts, params.reward)
      const all = yield* inputs.prompts.rows
      const situations = params.prompts > 0 ? all.slice(0, params.prompts) : all
      const sampling = samplingOf(params, seed, "best-of", params.groupSize)
      const resumed = Option.getOrUndefined(yield* task.resume)
      const answers: Array<Answer> =
        resumed === undefined
          ? []
          : [...decodeAnswers(yield* Effect.promise(() => readFile(answersFile(resumed.dir), "utf8")))]
      const decoding = yield* watchDecoding(policy)
      yield* task.progress(resumed?.step ?? 0, situations.length)
      for (let at = resumed?.step ?? 0; at < situations.length; at += chunk) {
        const done = Math.min(at + chunk, situations.length)
        const batch = situations.slice(at, done)
        const byId = new Map(batch.map((situation) => [situation.id, situation]))
        const said = yield* rollOut(policy, batch, sampling)
        const scores = yield* reward.score(
          estimator,
          said.map(({ promptId, text }) => {
            const situation = byId.get(promptId)!
            return { situation, chat: policy.chat.render(situation.prompt) ?? situation.prompt, completion: text }
          })
        )
        yield* task.samples(
          said.map(({ promptId, sample, text }, k) => ({
            step: 0,
            promptId,
            idx: sample,
            prompt: byId.get(promptId)!.prompt,
            completion: text,
            reward: scores[k]!.reward,
            advantage: null,
            parts: scores[k]!.rows
          }))
        )
        said.forEach(({ finish, ids, promptId, text }, k) => {
          answers.push({
            id: promptId,
            text,
            tokens: ids.length,
            clipped: finish === "length",
            reward: finiteOrNull(scores[k]!.reward),
            parts: scores[k]!.rows.map(({ name, value, weight }) => ({ name, value: finiteOrNull(value), weight }))
          })
        })
        yield* task.progress(done, situations.length)
        if (done < situations.length && (yield* task.checkpointDue)) {
          yield* task.checkpoint(done, null, (dir) =>
            Effect.promise(() => writeFile(answersFile(dir), JSON.stringify(answers)))
          )
        }
      }
      const ofPrompt = Map.groupBy(answers, ({ id }) => id)
      const best = situations.map(({ id, prompt }) => ({
        prompt,
        answers: bestAnswers(ofPrompt.get(id) ?? [], params.keep)
      }))
      const rows = best.flatMap(({ answers: kept, prompt }) =>
        kept.map(({ id, text }, k): PromptCompletion => ({ id: `${id}/best/${k}`, prompt, completion: text }))
      )
      if (rows.length === 0) return yield* new NothingIsBest({ prompts: situations.length })
      yield* task.metrics(0, {
        ...meanScores(
          answers.map((answer) => ({
            reward: number(answer.reward),
            rows: answer.parts.map((part) => ({ ...part, value: number(part.value) }))
          }))
        ),
        "best/reward": mean(best.flatMap(({ answers: kept }) => kept.map((answer) => number(answer.reward)))),
        "best/prompts": best.filter(({ answers: kept }) => kept.length > 0).length / best.length,
        "completions/mean_length": mean(answers.map(({ tokens }) => tokens)),
        "completions/clipped_ratio": answers.filter(({ clipped }) => clipped).length / answers.length,
        ...(yield* decoding.metrics)
      })
      yield* outputs.demonstrations.write(rows)
    })
  })

/** The stage with OP-GRPO's reward. */
export const bestOf = bestOfWith(opGrpoParts)
