/**
 * A pipeline of small real stages for the runner's tests: `numbers` writes a dataset, `walk` is a loop with weights, a
 * random state and checkpoints, `round` throws digits away (so that its output may be equal for different inputs),
 * `judge` writes items. `walk` can be told to misbehave at a step, and be held at one by a file (`hold`).
 */
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { Effect, Option, Schema } from "effect"
import { Checkpoint, Dataset, Report } from "../../src/artifact/kinds.ts"
import * as Pipeline from "../../src/dsl/Pipeline.ts"
import * as Stage from "../../src/dsl/Stage.ts"
import { Task } from "../../src/dsl/Task.ts"

const withDefault = <S extends Schema.Codec<unknown, unknown>>(schema: S, value: S["Encoded"]) =>
  schema.pipe(Schema.withDecodingDefaultKey(Effect.succeed(value as never)))
const int = (value: number) => withDefault(Schema.Int, value)

const Numbers = Dataset("numbers", Schema.Struct({ value: Schema.Finite }))

export const numbers = Stage.make("numbers", {
  module: import.meta.url,
  version: 1,
  params: Schema.Struct({ count: int(5), times: int(1) }),
  inputs: {},
  outputs: { data: Numbers },
  seeded: true,
  run: ({ params, outputs, seed }) =>
    outputs.data.write(Array.from({ length: params.count }, (_, i) => ({ value: (i + seed) * params.times })))
})

const Mood = Schema.Literals(["well", "typed", "defect", "abort", "segv", "nan", "badState", "full"])

type Mood = typeof Mood.Type

const holdFile = (root: string, mood: Mood): string => join(root, `hold-${mood}`)

/**
 * Lets each walk of a mood go `steps` steps on from where it begins, and no further before `release`, or before it is asked to
 * stop: so a test strikes it there, however slow the machine is. No key knows of it.
 */
export const hold = (root: string, steps: number, mood: Mood = "well"): void =>
  writeFileSync(holdFile(root, mood), `${steps}`)

export const release = (root: string, mood: Mood = "well"): void => rmSync(holdFile(root, mood), { force: true })

class WalkLost extends Schema.TaggedError<WalkLost>()("WalkLost", { step: Schema.Int }) {
  override get message() {
    return `the walk lost its way at step ${this.step}`
  }
}

export const walk = Stage.make("walk", {
  module: import.meta.url,
  version: 1,
  params: Schema.Struct({
    steps: int(6),
    /** Steps of a phase before those, which a family has in common. */
    before: int(0),
    /** Of each step. */
    ms: int(0),
    /** Checkpoints after every step instead of every two seconds. */
    eager: withDefault(Schema.Boolean, false),
    mood: withDefault(Mood, "well"),
    at: int(3),
    /** A longer walk goes on where this one ends. */
    grow: withDefault(Schema.Boolean, false)
  }),
  inputs: { data: Numbers },
  outputs: { state: Report, checkpoint: Checkpoint },
  seeded: true,
  grows: { param: "steps", unless: ({ grow }) => (grow ? null : "the walk is planned as a whole") },
  run: Effect.fnUntraced(function* ({ params, inputs, outputs, seed }) {
    const task = yield* Task
    const total = params.before + params.steps
    const rows = yield* inputs.data.rows
    const resumed = yield* task.resume
    const from = Option.getOrUndefined(resumed)
    let step = from?.step ?? 0
    let random = (from?.state as { readonly random: number } | undefined)?.random ?? seed + 1
    const weights =
      from === undefined
        ? new Float64Array(rows.map((row) => row.value))
        : new Float64Array(new Uint8Array(readFileSync(join(from.dir, "weights.bin"))).buffer)
    const save = (dir: string): void => writeFileSync(join(dir, "weights.bin"), new Uint8Array(weights.buffer))
    // a warehouse is what holds `attempts/ID/out/state`
    const held = holdFile(join(outputs.state.dir, "..", "..", "..", ".."), params.mood)
    const last = existsSync(held) ? step + Number(readFileSync(held, "utf8")) : Number.POSITIVE_INFINITY
    let asked = false
    process.once("SIGTERM", () => {
      asked = true
    })
    for (; step < total; step++) {
      while (step === last && !asked && existsSync(held)) {
        yield* Effect.promise(() => sleep(60))
        // what was said of the step before is seen outside
        yield* task.progress(step, total)
      }
      if (step === params.at) yield* misbehave(params.mood, step)
      random = (Math.imul(random, 1664525) + 1013904223) >>> 0
      for (let i = 0; i < weights.length; i++) weights[i] = (weights[i] ?? 0) * 0.9 + (random / 2 ** 32 - 0.5) * (i + 1)
      if (params.ms > 0) yield* Effect.promise(() => sleep(params.ms))
      const loss = weights.reduce((sum, w) => sum + w * w, 0)
      yield* task.metrics(step, {
        loss,
        "perf/pid": process.pid,
        ...(params.mood === "nan" ? { odd: Number.NaN } : {})
      })
      yield* task.samples([
        { step, promptId: "p", idx: 0, prompt: "walk", completion: `${loss}`, reward: 1, advantage: 0, parts: [] }
      ])
      yield* task.progress(step + 1, total)
      const due = yield* task.checkpointDue
      if ((due || params.eager) && step + 1 < total) {
        const state = params.mood === "badState" ? { best: Number.NEGATIVE_INFINITY } : { random }
        yield* task.checkpoint(step + 1, state, (dir) => Effect.sync(() => save(dir)))
      }
    }
    if (params.grow) {
      save(outputs.checkpoint.dir)
      yield* task.handOver(total, { random })
      yield* task.metrics(total - 1, { end: total })
    }
    writeFileSync(join(outputs.state.dir, "weights.json"), JSON.stringify([...weights]))
  })
})

const misbehave = Effect.fnUntraced(function* (mood: Mood, step: number) {
  switch (mood) {
    case "typed":
      return yield* new WalkLost({ step })
    case "defect":
      return yield* Effect.die(new RangeError("shapes [2, 3] and [4] do not fit"))
    case "abort":
      console.log(
        "about to abort\nF0000 computation.h:44] Check failed: count > 0 (0 vs. 0) \n*** Check failure stack trace: ***"
      )
      return process.abort()
    case "segv":
      process.kill(process.pid, "SIGSEGV")
      return yield* Effect.never
    case "full":
      return yield* Effect.die(Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" }))
    default:
  }
})

export const round = Stage.make("round", {
  module: import.meta.url,
  version: 1,
  params: Schema.Struct({ to: int(1000000) }),
  inputs: { state: Report },
  outputs: { state: Report },
  run: ({ params, inputs, outputs }) =>
    Effect.sync(() => {
      const weights: ReadonlyArray<number> = JSON.parse(readFileSync(join(inputs.state.dir, "weights.json"), "utf8"))
      const rounded = weights.map((w) => Math.round(w / params.to))
      writeFileSync(join(outputs.state.dir, "weights.json"), JSON.stringify(rounded))
    })
})

export const judge = Stage.make("judge", {
  module: import.meta.url,
  version: 1,
  params: Schema.Struct({ scale: int(1) }),
  inputs: { state: Report },
  outputs: { report: Report },
  run: Effect.fnUntraced(function* ({ params, inputs, outputs }) {
    const task = yield* Task
    const weights: ReadonlyArray<number> = JSON.parse(readFileSync(join(inputs.state.dir, "weights.json"), "utf8"))
    yield* task.items(
      weights.map((w, i) => ({ promptId: `p${i}`, split: "test", name: "eval/w", value: w * params.scale }))
    )
    writeFileSync(join(outputs.report.dir, "report.json"), JSON.stringify(weights.length))
  })
})

export default Pipeline.make(
  "counting",
  {
    numbers: Pipeline.section(numbers.params),
    walk: Pipeline.section(walk.params),
    other: Pipeline.section(walk.params),
    round: Pipeline.section(round.params),
    judge: Pipeline.section(judge.params)
  },
  (p) => {
    const { data } = numbers({}, p.numbers)
    const { state } = walk({ data }, p.walk)
    const { state: other } = walk({ data }, p.other)
    const { state: rounded } = round({ state }, p.round)
    const { report } = judge({ state: rounded }, p.judge)
    return { report, other }
  }
)
