/**
 * The loop that every training stage runs: steps with metrics, progress and checkpoints, resumed where an interrupted
 * attempt stopped, or where a shorter run ended. A step draws its data and its randomness by its number alone, so N steps
 * equal k steps, a kill and the rest, bit for bit.
 */
import { Clock, Effect, Option, Schema } from "effect"
import { Device } from "../device/Device.ts"
import { Task } from "../dsl/Task.ts"
import { ModelError, type NonFinite } from "../models/ModelError.ts"
import { bucketPadding } from "./bucketPadding.ts"

/** A number that training cannot go on with; weights before it are in the last checkpoint. */
export class NotFinite extends Schema.TaggedError<NotFinite>()("NotFinite", {
  stage: Schema.String,
  step: Schema.Int,
  metric: Schema.String,
  value: Schema.String,
  checkpoint: Schema.NullOr(Schema.Int)
}) {
  override get message() {
    const kept =
      this.checkpoint === null ? "there is no checkpoint yet" : `the last good checkpoint is at step ${this.checkpoint}`
    return `${this.stage}: ${this.metric} is ${this.value} at step ${this.step}; ${kept}. Lower the learning rate or the maximal gradient norm, or look at the data of that step.`
  }
}

export interface Steps<E, R> {
  readonly total: number
  /** Brings weights, optimizer and whatever else `save` wrote back. */
  readonly restore: (dir: string, state: unknown) => Effect.Effect<void, E, R>
  readonly save: (dir: string) => Effect.Effect<void, E, R>
  /** Small JSON kept beside the checkpoint. */
  readonly state?: () => unknown
  /** Does step `k` (from 0) and returns its metrics; `tokens`, if given, becomes `perf/tokens_per_second`. */
  readonly step: (k: number) => Effect.Effect<Readonly<Record<string, number>>, E, R>
  /** Measures after every `every` steps and after the last one; its metrics are rows of the step just done. */
  readonly evaluate?: {
    readonly every: number
    readonly measure: (k: number) => Effect.Effect<Readonly<Record<string, number>>, E, R>
  }
  /** Where the state after the last step is left for a longer run (`Stage.grows`); nowhere if it is left out. */
  readonly final?: string | undefined
  /** Metrics that must be finite; `loss` and `grad_norm` unless said otherwise. */
  readonly finite?: ReadonlyArray<string>
}

type NonFiniteError = ModelError & { readonly reason: NonFinite }
const isNonFinite = <E>(error: E): error is E & NonFiniteError =>
  error instanceof ModelError && error.reason._tag === "NonFinite"

export const runSteps = Effect.fn("steps")(function* <E, R>(options: Steps<E, R>) {
  const task = yield* Task
  const resumed = yield* task.resume
  let checkpoint: number | null = null
  if (Option.isSome(resumed)) {
    checkpoint = resumed.value.step
    yield* options.restore(resumed.value.dir, resumed.value.state)
  }
  yield* task.progress(checkpoint ?? 0, options.total)
  const device = yield* Effect.serviceOption(Device)
  const filling = Option.isSome(device) ? Effect.asSome(device.value.stats) : Effect.succeedNone
  const broken = Effect.fnUntraced(function* (step: number, metric: string, value: string) {
    yield* task.event("not-finite", { step, metric, value })
    return yield* new NotFinite({ stage: task.stage, step, metric, value, checkpoint })
  })
  const every = options.evaluate?.every ?? 0
  const measure = Effect.fnUntraced(function* (k: number) {
    if (options.evaluate) yield* task.metrics(k, yield* options.evaluate.measure(k))
  })
  for (let k = checkpoint ?? 0; k < options.total; k++) {
    const [before, from] = [yield* Clock.currentTimeNanos, yield* filling]
    const { tokens, ...metrics } = yield* options.step(k).pipe(
      // Models notice by themselves, but know neither the stage nor its checkpoints.
      Effect.catchIf(isNonFinite, ({ reason }) => broken(k, reason.what, reason.value))
    )
    const seconds = Number((yield* Clock.currentTimeNanos) - before) / 1e9
    for (const metric of options.finite ?? ["loss", "grad_norm"]) {
      const value = metrics[metric]
      if (value !== undefined && !Number.isFinite(value)) return yield* broken(k, metric, String(value))
    }
    const rate = tokens === undefined ? {} : { "perf/tokens_per_second": tokens / seconds }
    const filled = Option.map(Option.all([from, yield* filling]), ([start, end]) => bucketPadding(start, end))
    yield* task.metrics(k, {
      ...metrics,
      ...Option.getOrElse(filled, () => ({})),
      ...rate,
      "perf/step_seconds": seconds
    })
    yield* task.progress(k + 1, options.total)
    if (every > 0 && (k + 1) % every === 0) yield* measure(k)
    if (k + 1 < options.total && (yield* task.checkpointDue)) {
      checkpoint = k + 1
      yield* task.checkpoint(k + 1, options.state?.() ?? null, options.save)
    }
  }
  if (options.total === 0) return
  if (options.final !== undefined) {
    yield* options.save(options.final)
    yield* task.handOver(options.total, options.state?.() ?? null)
  }
  // Only because this is the end: a longer run does not have it.
  if (every > 0 && options.total % every !== 0) yield* measure(options.total - 1)
})
