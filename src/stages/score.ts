/**
 * Rewards of given answers, by the parts that GRPO would use: what a reward would have said of anybody's answers. One
 * sample row per answer, with every part. The scoring is GRPO's own function; there is
 * no policy here, so the prompt is the situation's, without a chat template (pitfall P1 masks less).
 *
 * An interrupted attempt goes on after the answers that it has scored, in the same batches, so with the same bits.
 */
import { readFile, writeFile } from "node:fs/promises"
import { Effect, Option, Schema } from "effect"
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

/** What is kept of a scored answer; NaN (unscorable) has no JSON of its own. */
const Kept = Schema.Array(
  Schema.Struct({
    reward: Schema.NullOr(Schema.Finite),
    rows: Schema.Array(
      Schema.Struct({ name: Schema.String, value: Schema.NullOr(Schema.Finite), weight: Schema.Finite })
    )
  })
)
const decodeKept = Schema.decodeUnknownSync(Schema.fromJsonString(Kept))
const keptFile = (dir: string) => `${dir}/scores.json`
const number = (value: number | null) => value ?? Number.NaN
type Scored = Pick<Score, "reward" | "rows">

const readKept = (dir: string) =>
  Effect.promise(async () =>
    decodeKept(await readFile(keptFile(dir), "utf8")).map(
      ({ reward, rows }): Scored => ({
        reward: number(reward),
        rows: rows.map(({ name, value, weight }) => ({ name, value: number(value), weight }))
      })
    )
  )

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
      const resumed = Option.getOrUndefined(yield* task.resume)
      const first = resumed?.step ?? 0
      const scored: Array<Scored> = resumed === undefined ? [] : yield* readKept(resumed.dir)
      const said = new Map<string, number>()
      for (const { situation } of answers.slice(0, first)) said.set(situation.id, (said.get(situation.id) ?? 0) + 1)
      yield* task.progress(first, answers.length)
      for (let at = first; at < answers.length; at += chunk) {
        const done = Math.min(at + chunk, answers.length)
        const batch = answers.slice(at, done)
        const scores = yield* reward.score(estimator, batch)
        for (const { reward, rows } of scores) scored.push({ reward, rows })
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
        yield* task.progress(done, answers.length)
        if (done < answers.length && (yield* task.checkpointDue)) {
          yield* task.checkpoint(done, null, (dir) =>
            Effect.promise(() => writeFile(keptFile(dir), JSON.stringify(scored)))
          )
        }
      }
      const means = meanScores(scored)
      yield* task.metrics(0, means)
      yield* writeSummary(outputs.report.dir, { answers: answers.length, ...means })
    })
  })

/** The stage with OP-GRPO's reward. */
export const score = scoreWith(opGrpoParts)
