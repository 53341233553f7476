/**
 * The same models on XLA and on onnxruntime: losses of the first five steps within 1e-3, what is sampled within float32's
 * rounding of what is scored, embeddings alike. Prompts and answers of many lengths, so that most programs are padded.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Device } from "../../../src/device/Device.ts"
import * as SentenceEncoder from "../../../src/models/SentenceEncoder.ts"
import { samplingDifference } from "../../../src/models/samplingDifference.ts"
import { wordLevelFiles } from "../../../src/models/wordLevel.ts"
import { contrastive } from "../../../src/objectives/contrastive.ts"
import { grpo } from "../../../src/objectives/grpo.ts"
import { sft } from "../../../src/objectives/sft.ts"
import { tinyPolicy } from "../../models/tinyPolicy.ts"
import { worldSpec } from "../../models/world.ts"
import { besideCpu, near, phrase } from "../agreement.ts"
import { absent, titled, xlaCpu } from "./support.ts"

const onBoth = besideCpu(xlaCpu)
const rows = Array.from({ length: 12 }, (_, i) => [phrase(3 + (i % 5), i), phrase(5 + ((i * 5) % 13), i + 1)] as const)

describe.skipIf(absent !== undefined)(titled("models on XLA and on onnxruntime"), () => {
  it.effect("SFT: five updates have the same losses, and the policy scores alike after them", () =>
    Effect.gen(function* () {
      const [one, two] = yield* onBoth(
        Effect.gen(function* () {
          const policy = yield* tinyPolicy(2)
          const sequences = yield* Effect.forEach(rows, ([prompt, answer]) => policy.sequence(prompt, answer))
          const trainer = yield* policy.trainer(sft(), { learningRate: 5e-3 }, { microBatchTokens: 80 })
          const losses: Array<number> = []
          for (let i = 0; i < 5; i++) losses.push((yield* trainer.update({ sequences })).metrics["loss"]!)
          const scores = yield* policy.logprobs(sequences)
          const device = yield* Device
          return { losses, scores: scores.flatMap(({ logprobs }) => [...logprobs]), stats: yield* device.stats }
        }).pipe(Effect.scoped)
      )
      near(one!.losses, two!.losses, 1e-3, "loss")
      near(one!.scores, two!.scores, 1e-3, "log-probability")
      assert.isAbove(two!.stats.paddingShare!, 0)
      assert.isBelow(two!.stats.paddingShare!, 0.1)
    })
  )

  it.effect("samples what it scores, the same tokens for the same numbers; GRPO's updates agree", () =>
    Effect.gen(function* () {
      const [one, two] = yield* onBoth(
        Effect.gen(function* () {
          const policy = yield* tinyPolicy(1)
          const prompts = rows.slice(0, 7).map(([prompt], i) => ({ promptId: `p${i}`, prompt }))
          const found = yield* policy.generate(prompts, { seed: 0, purpose: "test", maxNewTokens: 24, samples: 3 })
          const sequences = found.map(({ ids, prompt }) => ({ prompt, completion: ids }))
          const scores = yield* policy.logprobs(sequences)
          const { max } = samplingDifference(
            found.map(({ logprobs }) => logprobs),
            scores.map(({ logprobs }) => logprobs)
          )
          const trainer = yield* policy.trainer(grpo(), { learningRate: 1e-3 }, { microBatchTokens: 128 })
          const advantages = sequences.map((_, i) => (i % 3) - 1)
          const norms: Array<number> = []
          for (let i = 0; i < 2; i++) {
            const { metrics } = yield* trainer.update({ sequences, inputs: { advantages } })
            norms.push(metrics["grad_norm"]!)
          }
          const stats = yield* (yield* Device).stats
          return { max, ids: found.map(({ ids }) => [...ids]), norms, stats }
        }).pipe(Effect.scoped)
      )
      assert.isBelow(two!.max, 5e-5)
      assert.deepStrictEqual(two!.ids, one!.ids)
      near(one!.norms, two!.norms, 1e-3, "gradient norm")
      // a tenth of the tokens at most; keys and values in coarser steps
      assert.isBelow(two!.stats.paddingShare!, 0.1)
      assert.isAbove(two!.stats.cachePaddingShare!, two!.stats.paddingShare!)
      assert.isBelow(two!.stats.cachePaddingShare!, 0.4)
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
        hiddenSize: 32,
        intermediateSize: 64,
        layers: 2,
        heads: 4,
        maxPositions: 24,
        segments: 2,
        normEpsilon: 1e-12,
        labels: []
      }
      const texts = rows.map(([, answer]) => answer)
      const triplets = Array.from({ length: 11 }, (_, i) => [texts[i]!, phrase(5, i + 2), phrase(9, i * 2)] as const)
      const [one, two] = yield* onBoth(
        Effect.gen(function* () {
          const encoder = yield* SentenceEncoder.create({ config, seed: 1, tokenizerFiles, wordDeviation: 0.1 })
          const trainer = yield* encoder.trainer(contrastive(), { learningRate: 1e-3 })
          const losses: Array<number> = []
          for (let i = 0; i < 5; i++) losses.push((yield* trainer.update(triplets)).metrics["loss"]!)
          return { losses, embeddings: (yield* encoder.embed(texts)).flatMap((x) => [...x]) }
        }).pipe(Effect.scoped)
      )
      near(one!.losses, two!.losses, 1e-3, "loss")
      one!.embeddings.forEach((x, i) => {
        assert.isAtMost(Math.abs(x - two!.embeddings[i]!), 1e-3)
      })
    })
  )
})
