/** A pipeline of small real stages for the tests of the command: a drawn start, a climb in steps, an evaluation. */
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { Effect, Schema } from "effect"
import { Dataset } from "../../../../src/artifact/kinds.ts"
import * as Pipeline from "../../../../src/dsl/Pipeline.ts"
import * as Stage from "../../../../src/dsl/Stage.ts"
import { Task } from "../../../../src/dsl/Task.ts"

const int = (value: number) => Schema.Int.pipe(Schema.withDecodingDefaultKey(Effect.succeed(value)))
const number = (value: number) => Schema.Finite.pipe(Schema.withDecodingDefaultKey(Effect.succeed(value)))

const Heights = Dataset("heights", Schema.Struct({ id: Schema.String, height: Schema.Finite }))

const start = Stage.make("start", {
  module: import.meta.url,
  version: 1,
  params: Schema.Struct({ count: int(4) }),
  inputs: {},
  outputs: { heights: Heights },
  run: ({ params, outputs }) =>
    outputs.heights.write(Array.from({ length: params.count }, (_, i) => ({ id: `p${i}`, height: i })))
})

class Fell extends Schema.TaggedError<Fell>()("Fell", { step: Schema.Int }) {
  override get message() {
    return `fell at step ${this.step}`
  }
}

const climb = Stage.make("climb", {
  module: import.meta.url,
  version: 1,
  params: Schema.Struct({ steps: int(3), stride: number(1), ms: int(0), fallAt: int(-1) }),
  inputs: { heights: Heights },
  outputs: { heights: Heights },
  seeded: true,
  metrics: { reward: "higher" },
  run: Effect.fnUntraced(function* ({ params, inputs, outputs, seed }) {
    const task = yield* Task
    let heights = yield* inputs.heights.rows
    for (let step = 0; step < params.steps; step++) {
      yield* Effect.log(`step ${step}`)
      if (step === params.fallAt) return yield* new Fell({ step })
      if (params.ms > 0) yield* Effect.promise(() => sleep(params.ms))
      heights = heights.map(({ id, height }) => ({ id, height: height + params.stride + seed / 10 }))
      const parts = heights.map(({ id, height }) => ({
        step,
        promptId: id,
        idx: 0,
        prompt: `how high is ${id}?`,
        completion: String(height),
        reward: height,
        advantage: 0,
        parts: [{ name: "height", value: height, weight: 1 }]
      }))
      yield* task.samples(parts)
      yield* task.metrics(step, { reward: heights[0]?.height ?? 0 })
      yield* task.progress(step + 1, params.steps)
      // nothing is taken up again: it is where a run that ends stops it
      if (yield* task.checkpointDue) yield* task.checkpoint(step + 1, {}, () => Effect.void)
    }
    yield* outputs.heights.write(heights)
  })
})

const evaluate = Stage.make("evaluate", {
  module: import.meta.url,
  version: 1,
  params: Schema.Struct({ scale: number(1) }),
  inputs: { heights: Heights },
  outputs: { heights: Heights },
  items: { "eval/height": "higher" },
  run: Effect.fnUntraced(function* ({ params, inputs, outputs }) {
    const task = yield* Task
    const heights = yield* inputs.heights.rows
    yield* task.items(
      heights.map(({ id, height }) => ({
        promptId: id,
        split: "test",
        name: "eval/height",
        value: height * params.scale
      }))
    )
    yield* Effect.promise(async () => writeFileSync(join(outputs.heights.dir, "note.txt"), "evaluated"))
    yield* outputs.heights.write(heights)
  })
})

export default Pipeline.make(
  "climb",
  {
    start: Pipeline.section(start.params),
    climb: Pipeline.section(climb.params),
    evaluate: Pipeline.section(evaluate.params)
  },
  (p) => {
    const { heights } = start({}, p.start)
    const { heights: reached } = climb({ heights }, p.climb)
    return evaluate({ heights: reached }, p.evaluate)
  }
)
