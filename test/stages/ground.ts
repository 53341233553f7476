/** A world small enough for tests, its policy, and an estimator, made once per test file by the stages themselves. */
import { Effect, Schema } from "effect"
import { basePolicy } from "../../src/stages/basePolicy.ts"
import { estimator } from "../../src/stages/estimator.ts"
import { sft } from "../../src/stages/sft.ts"
import { triplets } from "../../src/stages/triplets.ts"
import { world } from "../../src/stages/world.ts"
import type { Said } from "../support/memoryTask.ts"
import { runStage } from "../support/runStage.ts"

export const tinySettings = {
  train: 48,
  development: 12,
  test: 12,
  perspectives: 16,
  clusters: 4,
  pretrainingDraws: 4,
  nliPairs: 240
} as const

export const tinyPolicyParams = {
  source: "scratch",
  hiddenSize: 32,
  layers: 2,
  heads: 2,
  intermediateSize: 64
} as const

export const tinyEncoderParams = { hiddenSize: 32, layers: 1, heads: 2, intermediateSize: 64 } as const

export const tinyWorld = (fresh: () => string) =>
  Effect.map(runStage(world, { dir: fresh(), params: tinySettings }), ({ out }) => out)

/** Random weights. */
export const tinyPolicy = (fresh: () => string, worldDir: string) =>
  Effect.map(
    runStage(basePolicy, { dir: fresh(), params: tinyPolicyParams, inputs: { world: worldDir } }),
    ({ out }) => out.policy
  )

/** A policy that has learnt the form of an answer. */
export const warmPolicy = (fresh: () => string, policy: string, data: string) =>
  Effect.map(
    runStage(sft, {
      dir: fresh(),
      params: { steps: 80, batchSize: 32, learningRate: 1e-2 },
      inputs: { policy, data }
    }),
    ({ out }) => out.policy
  )

/** An estimator; with 0 steps untrained but calibrated. */
export const tinyEstimator = (fresh: () => string, worldDir: string, steps: number, seed = 0) =>
  Effect.gen(function* () {
    const made = yield* runStage(triplets, {
      dir: fresh(),
      params: { count: 512, heldOut: 64, pairs: 128 },
      inputs: { world: worldDir },
      seed
    })
    const { out, said } = yield* runStage(estimator, {
      dir: fresh(),
      params: { ...tinyEncoderParams, steps },
      inputs: made.out,
      seed
    })
    return { dir: out.estimator, said, triplets: made.out }
  })

/** What must be equal between two runs: steps with their metrics, times apart. */
export const timeless = ({ metrics }: Said) =>
  metrics.map(({ step, values }) => [
    step,
    Object.fromEntries(Object.entries(values).filter(([name]) => !/^perf\/.*second/.test(name)))
  ])

/** A reward part of one's own: the fewer lines, the more. */
export const brief = {
  name: "brief",
  module: import.meta.url,
  embeddings: false,
  fields: { weight: Schema.Finite },
  defaults: { weight: 1 },
  help: { weight: "weight in the reward" },
  score: ({ answer }: { readonly answer: { readonly candidates: ReadonlyArray<string> } }) => ({
    value: 4 - answer.candidates.length
  })
}
