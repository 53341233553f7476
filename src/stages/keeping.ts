/**
 * Evaluation during training on development data, and which policy comes of it: the last one, or the best by a metric.
 *
 *     best <- (step, value) where value is better than the best so far; of equals the first stays, NaN never counts
 *
 * Both lie with the checkpoints, weights included, so a resumed run keeps what an undisturbed one does. An evaluation
 * touches neither weights nor random streams: training is the same to the last bit with and without.
 */
import { existsSync, rmSync } from "node:fs"
import { cp, mkdir } from "node:fs/promises"
import { join } from "node:path"
import { Effect, Schema } from "effect"
import * as Param from "../dsl/param.ts"
import { didYouMean } from "../dsl/problems.ts"
import type { Direction } from "../dsl/Stage.ts"
import { Task } from "../dsl/Task.ts"
import type { Policy } from "../models/Policy.ts"

const evaluateEvery = Param.int(
  0,
  "steps after which the policy is measured on development data, and once more at the end; 0: never",
  { min: 0 }
)
const kept = "publishes the policy that was best by this metric of an evaluation, not the last one"

/** The knobs of a stage that measures these metrics. */
export const keepingFields = <const M extends ReadonlyArray<string>>(metrics: M) => ({
  evaluateEvery,
  keepBest: Param.literal(["none", ...metrics] as ReadonlyArray<"none" | M[number]>, "none", kept)
})

/** The same where parameters add metrics to these: `unmeasuredRefusals` then refuses what is none of them. */
export const openKeepingFields = (metrics: ReadonlyArray<string>) => ({
  evaluateEvery,
  keepBest: Param.withDefault(Schema.Union([Schema.Literals(["none", ...metrics]), Schema.String]), "none", kept)
})

/** A best policy by a metric that no evaluation has. */
export const unmeasuredRefusals = ({ keepBest }: KeepingParams, metrics: ReadonlyArray<string>) => {
  if (keepBest === "none" || metrics.includes(keepBest)) return []
  const meant = didYouMean(keepBest, metrics)
  const message = `no evaluation has the metric ${keepBest}: one of none, ${metrics.join(", ")}`
  return [{ path: "keepBest", message, ...(meant === null ? {} : { hint: meant }) }]
}

export interface KeepingParams {
  readonly evaluateEvery: number
  readonly keepBest: string
}

/** What the parameters cannot mean, with the key to change. */
export const keepingRefusals = ({ evaluateEvery, keepBest }: KeepingParams) =>
  keepBest !== "none" && evaluateEvery === 0
    ? [
        {
          path: "keepBest",
          message: `the best policy by ${keepBest} is asked for, and nothing is measured (\`evaluateEvery: 0\`)`,
          hint: "write evaluateEvery: 10"
        }
      ]
    : []

/** Evaluations were asked for, and there is nothing to evaluate on, or they were not and are needed. */
export class NotEvaluable extends Schema.TaggedError<NotEvaluable>()("NotEvaluable", {
  stage: Schema.String,
  detail: Schema.String
}) {
  override get message() {
    return `${this.stage}: ${this.detail}`
  }
}

/**
 * The rows that evaluations are made on: none where none are asked for, an error where they are and there are none.
 * @param key what holds rows out
 */
export const developmentRows = Effect.fnUntraced(function* <Row, E>(
  stage: string,
  params: KeepingParams,
  input: { readonly rows: Effect.Effect<ReadonlyArray<Row>, E> } | undefined,
  key = "data.development"
) {
  const [refused] = keepingRefusals(params)
  if (refused !== undefined) return yield* new NotEvaluable({ stage, detail: refused.message })
  if (params.evaluateEvery === 0) return []
  const rows = input === undefined ? [] : yield* input.rows
  if (rows.length > 0) return rows
  const lacking = input === undefined ? "the pipeline gives none" : `it has no rows; hold some out (\`${key}\`)`
  const detail = `\`evaluateEvery: ${params.evaluateEvery}\` asks for development data, and ${lacking}`
  return yield* new NotEvaluable({ stage, detail })
})

const Best = Schema.Struct({ step: Schema.Int, value: Schema.Finite })
type Best = typeof Best.Type
const decodeState = Schema.decodeUnknownSync(Schema.NullOr(Schema.Struct({ best: Schema.NullOr(Best) })))

/** Remembers the best policy so far, in the task's scratch folder. Directions are those of the stage's metrics. */
export const openKeeper = Effect.fnUntraced(function* (
  policy: Policy,
  params: KeepingParams,
  directions: Readonly<Record<string, Direction>>
) {
  const task = yield* Task
  const keeps = params.keepBest !== "none"
  const sign = directions[params.keepBest] === "lower" ? -1 : 1
  const held = join(task.scratch, "best")
  const inside = (dir: string) => join(dir, "best")
  let best: Best | null = null
  const copy = (from: string, to: string) =>
    Effect.promise(async () => {
      await mkdir(to, { recursive: true })
      await cp(from, to, { recursive: true })
    })
  return {
    /** Of an evaluation after step `step` (from 0). */
    consider: Effect.fnUntraced(function* (step: number, metrics: Readonly<Record<string, number>>) {
      const value = metrics[params.keepBest]
      if (!keeps || value === undefined || !Number.isFinite(value)) return
      if (best !== null && sign * value <= sign * best.value) return
      yield* Effect.promise(async () => {
        rmSync(held, { recursive: true, force: true })
        await mkdir(held, { recursive: true })
      })
      yield* policy.save(held, { part: "trained" })
      best = { step, value }
    }),
    state: () => (keeps ? { best } : null),
    save: (dir: string) => (best === null ? Effect.void : copy(held, inside(dir))),
    restore: Effect.fnUntraced(function* (dir: string, state: unknown) {
      best = decodeState(state)?.best ?? null
      if (best !== null && existsSync(inside(dir))) yield* copy(inside(dir), held)
    }),
    /** Writes the policy that is kept, and says after which of `steps` steps it was. */
    publish: Effect.fnUntraced(function* (dir: string, steps: number) {
      if (best === null) yield* policy.save(dir)
      else {
        yield* policy.save(dir, { part: "frozen" })
        yield* copy(held, dir)
      }
      if (keeps && steps > 0) yield* task.metrics(steps - 1, { "eval/kept_step": best?.step ?? steps - 1 })
    })
  }
})
