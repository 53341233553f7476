/**
 * The same models on the CPU and on another device, for the tests of every such device: losses and gradients within 1e-3, what is
 * sampled within float32's rounding of what is scored, embeddings alike. Prompts and answers of many lengths.
 */
import { assert, it } from "@effect/vitest"
import { Effect, type Layer } from "effect"
import { Device, type DeviceInfo, type DeviceStats } from "../../src/device/Device.ts"
import type { DeviceError } from "../../src/device/DeviceError.ts"
import * as SentenceEncoder from "../../src/models/SentenceEncoder.ts"
import { samplingDifference } from "../../src/models/samplingDifference.ts"
import { wordLevelFiles } from "../../src/models/wordLevel.ts"
import { contrastive } from "../../src/objectives/contrastive.ts"
import { grpo } from "../../src/objectives/grpo.ts"
import { sft } from "../../src/objectives/sft.ts"
import { tinyPolicy } from "../models/tinyPolicy.ts"
import { worldSpec } from "../models/world.ts"
import { besideCpu, near, phrase } from "./agreement.ts"

export interface Sizes {
  /** Prompts with answers: how many, and in how many lengths each. */
  readonly rows: { readonly count: number; readonly prompts: number; readonly answers: number }
  readonly layers: number
  /** Of the encoder; a multiple of 8. */
  readonly width: number
  /** Of the policy and of the encoder. */
  readonly updates: number
  readonly rollouts: {
    readonly prompts: number
    readonly maxNewTokens: number
    readonly samples: number
    readonly updates: number
  }
}

/** What the other device says of itself after a test. */
export type Also = (what: "policy" | "rollouts" | "encoder", info: DeviceInfo, stats: DeviceStats) => void

const after = Effect.gen(function* () {
  const device = yield* Device
  return { info: device.info, stats: yield* device.stats }
})

/** The tests, to be called in a `describe`. */
export const modelsAgree = (
  other: Layer.Layer<Device, DeviceError>,
  { layers, rollouts, rows: lengths, updates, width }: Sizes,
  also: Also
): void => {
  const onBoth = besideCpu(other)
  const rows = Array.from(
    { length: lengths.count },
    (_, i) => [phrase(3 + (i % lengths.prompts), i), phrase(5 + ((i * 5) % lengths.answers), i + 1)] as const
  )

  it.effect("SFT: updates have the same losses, and the policy scores alike after them", () =>
    Effect.gen(function* () {
      const [one, two] = yield* onBoth(
        Effect.gen(function* () {
          const policy = yield* tinyPolicy(2, {}, { layers })
          const sequences = yield* Effect.forEach(rows, ([prompt, answer]) => policy.sequence(prompt, answer))
          const trainer = yield* policy.trainer(sft(), { learningRate: 5e-3 }, { microBatchTokens: 80 })
          const losses: Array<number> = []
          for (let i = 0; i < updates; i++) losses.push((yield* trainer.update({ sequences })).metrics["loss"]!)
          const scores = yield* policy.logprobs(sequences)
          return { losses, scores: scores.flatMap(({ logprobs }) => [...logprobs]), ...(yield* after) }
        }).pipe(Effect.scoped)
      )
      near(one!.losses, two!.losses, 1e-3, "loss")
      near(one!.scores, two!.scores, 1e-3, "log-probability")
      also("policy", two!.info, two!.stats)
    })
  )

  it.effect("samples what it scores, the same tokens for the same numbers; GRPO's updates agree", () =>
    Effect.gen(function* () {
      const [one, two] = yield* onBoth(
        Effect.gen(function* () {
          const policy = yield* tinyPolicy(1, {}, { layers })
          const prompts = rows.slice(0, rollouts.prompts).map(([prompt], i) => ({ promptId: `p${i}`, prompt }))
          const { maxNewTokens, samples } = rollouts
          const found = yield* policy.generate(prompts, { seed: 0, purpose: "test", maxNewTokens, samples })
          const sequences = found.map(({ ids, prompt }) => ({ prompt, completion: ids }))
          const scores = yield* policy.logprobs(sequences)
          const { max } = samplingDifference(
            found.map(({ logprobs }) => logprobs),
            scores.map(({ logprobs }) => logprobs)
          )
          const trainer = yield* policy.trainer(grpo(), { learningRate: 1e-3 }, { microBatchTokens: 128 })
          const advantages = sequences.map((_, i) => (i % 3) - 1)
          const norms: Array<number> = []
          for (let i = 0; i < rollouts.updates; i++) {
            const { metrics } = yield* trainer.update({ sequences, inputs: { advantages } })
            norms.push(metrics["grad_norm"]!)
          }
          return { max, ids: found.map(({ ids }) => [...ids]), norms, ...(yield* after) }
        }).pipe(Effect.scoped)
      )
      assert.isBelow(two!.max, 5e-5)
      assert.deepStrictEqual(two!.ids, one!.ids)
      near(one!.norms, two!.norms, 1e-3, "gradient norm")
      also("rollouts", two!.info, two!.stats)
    })
  )

  it.effect("encoder: training losses and embeddings agree", () =>
    Effect.gen(function* () {
      const phrases = [...worldSpec.phrases, { text: "[CLS]", special: true }]
      const tokenizerFiles = wordLevelFiles({
        ...worldSpec,
        phrases,
        roles: { ...worldSpec.roles, cls_token: "[CLS]" }
      })
      const config = {
        kind: "encoder" as const,
        vocabularySize: phrases.length + worldSpec.words.length,
        hiddenSize: width,
        intermediateSize: 2 * width,
        layers,
        heads: width / 8,
        maxPositions: 24,
        segments: 2,
        normEpsilon: 1e-12,
        labels: []
      }
      const texts = rows.map(([, answer]) => answer)
      const triplets = texts.slice(1).map((_, i) => [texts[i]!, phrase(5, i + 2), phrase(9, i * 2)] as const)
      const [one, two] = yield* onBoth(
        Effect.gen(function* () {
          const encoder = yield* SentenceEncoder.create({ config, seed: 1, tokenizerFiles, wordDeviation: 0.1 })
          const trainer = yield* encoder.trainer(contrastive(), { learningRate: 1e-3 })
          const losses: Array<number> = []
          for (let i = 0; i < updates; i++) losses.push((yield* trainer.update(triplets)).metrics["loss"]!)
          const embeddings = (yield* encoder.embed(texts)).flatMap((x) => [...x])
          return { losses, embeddings, ...(yield* after) }
        }).pipe(Effect.scoped)
      )
      near(one!.losses, two!.losses, 1e-3, "loss")
      one!.embeddings.forEach((x, i) => {
        assert.isAtMost(Math.abs(x - two!.embeddings[i]!), 1e-3)
      })
      also("encoder", two!.info, two!.stats)
    })
  )
}
