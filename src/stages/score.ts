/**
 * Rewards of given answers, by the parts that GRPO would use: what a reward would have said of anybody's answers. One
 * sample row per answer, with every part. The scoring is GRPO's own function; there is
 * no policy here, so the prompt is the situation's, without a chat template (pitfall P1 masks less).
 */
import { Effect, Schema } from "effect"
import { Completions, Encoder, Report, Situations } from "../artifact/kinds.ts"
import * as Param from "../dsl/param.ts"
import * as Stage from "../dsl/Stage.ts"
import { Task } from "../dsl/Task.ts"
import type { AnyRewardPart } from "../rewards/part.ts"
import { opGrpoParts } from "./grpo.ts"
import { openEncoder } from "./models.ts"
import { meanScores, openReward, rewardSchema, type Scorable, type Score } from "./scoring.ts"
import { writeSummary } from "./summary.ts"

export class NothingToScore extends Schema.TaggedError<NothingToScore>()("NothingToScore", {
  detail: Schema.String
}) {
  override get message() {
    return `score: ${this.detail}`
  }
}

/** Answers that are scored in one go. */
const chunk = 256

/** A score stage whose reward is composed of the parts given. */
export const scoreWith = (parts: ReadonlyArray<AnyRewardPart>) =>
  Stage.make("score", {
    module: import.meta.url,
    parts: parts.map((part) => part.module),
    version: 1,
    params: Param.struct({ reward: rewardSchema(parts) }),
    inputs: { completions: Completions, situations: Situations, estimator: Encoder },
    outputs: { report: Report },
    device: true,
    metrics: { reward: "higher", "rewards/*/mean": "higher" },
    run: Effect.fn("stage.score")(function* ({ inputs, outputs, params }) {
      const task = yield* Task
      const estimator = yield* openEncoder(inputs.estimator.dir)
      const situations = new Map((yield* inputs.situations.rows).map((situation) => [situation.id, situation]))
      const answers: Array<Scorable> = []
      for (const { id, text } of yield* inputs.completions.rows) {
        const situation = situations.get(id)
        if (situation === undefined) {
          return yield* new NothingToScore({ detail: `the answer to ${id} has no situation to be scored against` })
        }
        answers.push({ situation, chat: situation.prompt, completion: text })
      }
      if (answers.length === 0) return yield* new NothingToScore({ detail: "there are no answers" })
      const reward = yield* openReward(parts, params.reward)
      const said = new Map<string, number>()
      const scored: Array<Score> = []
      yield* task.progress(0, answers.length)
      for (let at = 0; at < answers.length; at += chunk) {
        const batch = answers.slice(at, at + chunk)
        const scores = yield* reward.score(estimator, batch)
        scored.push(...scores)
        yield* task.samples(
          batch.map(({ completion, situation }, k) => {
            const idx = said.get(situation.id) ?? 0
            said.set(situation.id, idx + 1)
            const { reward, rows } = scores[k]!
            return {
              step: 0,
              promptId: situation.id,
              idx,
              prompt: situation.prompt,
              completion,
              reward,
              advantage: null,
              parts: rows
            }
          })
        )
        yield* task.progress(Math.min(at + chunk, answers.length), answers.length)
      }
      const means = meanScores(scored)
      yield* task.metrics(0, means)
      yield* writeSummary(outputs.report.dir, { answers: answers.length, ...means })
    })
  })

/** The stage with OP-GRPO's reward. */
export const score = scoreWith(opGrpoParts)
