/** Stages that do nothing, shaped like Overtone's own: what the planner's tests wire up. */
import { Effect, Schema } from "effect"
import { Checkpoint, Dataset, Encoder, Policy, Report } from "../../../../src/artifact/kinds.ts"
import * as Param from "../../../../src/dsl/param.ts"
import * as Stage from "../../../../src/dsl/Stage.ts"

export const Situations = Dataset("situation", Schema.Struct({ id: Schema.String }))

export const world = Stage.make("world", {
  module: import.meta.url,
  version: 1,
  params: Param.struct({
    source: Param.choice(
      "kind",
      { world: { situations: Param.int(100, "situations", { min: 1 }) }, file: { path: Param.file("rows") } },
      "world",
      "where situations come from"
    )
  }),
  inputs: {},
  outputs: { situations: Situations },
  seeded: true,
  run: () => Effect.void
})

export const estimator = Stage.make("estimator", {
  module: import.meta.url,
  version: 1,
  params: Param.struct({
    steps: Param.int(180, "optimizer updates", { min: 0 }),
    encoder: Param.optional(Param.ModelParam, "start from this one")
  }),
  inputs: { situations: Situations },
  outputs: { encoder: Encoder },
  seeded: true,
  device: true,
  metrics: { loss: "lower" },
  run: () => Effect.void
})

export const sft = Stage.make("sft", {
  module: import.meta.url,
  version: 2,
  params: Param.struct({
    steps: Param.int(100, "optimizer updates", { min: 0 }),
    learningRate: Param.number(1e-3, "peak learning rate", { min: 0 })
  }),
  inputs: { situations: Situations },
  outputs: { policy: Policy, checkpoint: Checkpoint },
  grows: { param: "steps", unless: ({ learningRate }) => (learningRate > 1 ? "so fast it must be planned" : null) },
  seeded: true,
  device: true,
  metrics: { loss: "lower", updates: "none" },
  run: () => Effect.void
})

const part = (weight: number) =>
  Param.struct({
    weight: Param.number(weight, "weight in the sum", { min: 0 }),
    shape: Param.literal(["ladder", "linear"], "ladder", "shaping of the rate")
  })

export const grpo = Stage.make("grpo", {
  module: import.meta.url,
  version: 1,
  params: Param.struct({
    steps: Param.int(30, "optimizer updates", { min: 0 }),
    groupSize: Param.int(8, "samples of a prompt", { min: 2 }),
    prompts: Param.int(16, "prompts of a step", { min: 1 }),
    reward: Param.struct({
      coverage: part(0.3),
      uniqueness: part(0.3),
      aggregate: Param.literal(["sum-then-normalize", "normalize-then-sum"], "sum-then-normalize", "how parts join")
    })
  }),
  inputs: { policy: Policy, situations: Situations, estimator: Encoder },
  outputs: { policy: Policy },
  seeded: true,
  device: true,
  metrics: { "rewards/*/mean": "higher", reward: "higher" },
  run: () => Effect.void
})

export const evaluate = Stage.make("evaluate", {
  module: import.meta.url,
  version: 1,
  params: Param.struct({ prompts: Param.int(200, "held-out prompts", { min: 1 }) }),
  inputs: { policy: Policy, situations: Situations },
  outputs: { report: Report },
  device: true,
  items: { "eval/coverage/exact": "higher", "eval/uniqueness/exact": "higher" },
  run: () => Effect.void
})
