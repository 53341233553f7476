/**
 * Part b: training and generation as stages do them, by `Policy` and its trainers, over random weights made on the device.
 *
 *   sft       all weights: float32 with AdamW, products in bf16, layers rematerialised
 *   lora      GRPO's update of an adapter, the model below it kept in bf16
 *   decode    `batch` rows at temperature 1: prompts once, then token by token; weights kept in bf16, or in float32 as a policy
 *             that is trained whole has them
 *   logprobs  sampler against scorer, bf16 against float32
 */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { Effect, Layer, type Scope } from "effect"
import type { FileSystem } from "effect/FileSystem"
import { Device } from "../../src/device/Device.ts"
import { integers, stream, uniforms } from "../../src/device/random.ts"
import { acquire } from "../../src/device/xla/acquire.ts"
import type { Sequence } from "../../src/models/batching.ts"
import type { DecoderConfig } from "../../src/models/decoderConfig.ts"
import * as Policy from "../../src/models/Policy.ts"
import { samplingDifference } from "../../src/models/samplingDifference.ts"
import { wordLevelFiles } from "../../src/models/wordLevel.ts"
import { grpo } from "../../src/objectives/grpo.ts"
import { sft } from "../../src/objectives/sft.ts"
import { median } from "../median.ts"
import { draw } from "./draw.ts"
import { deviceOf, pluginOf, type Setting, type Step } from "./Setting.ts"
import { batchOf, type Shape, type ShapeName, shapeOf } from "./shapes.ts"
import { timed } from "./timing.ts"

/** Words of prompts; the model's other tokens have no text, and need none. */
const words = 400
const tokenizerFiles = wordLevelFiles({
  phrases: [{ text: "<pad>", special: true }],
  words: Array.from({ length: words }, (_, i) => `w${i}`),
  roles: { pad_token: "<pad>" }
})

const newPolicy = (config: DecoderConfig, lora?: number) =>
  Policy.create({
    config,
    tokenizerFiles,
    seed: 0,
    draw,
    ...(lora === undefined
      ? {}
      : { lora: { rank: lora, alpha: 2 * lora, dropout: 0, rslora: false, targets: "all-linear" } })
  })

const ids = (name: string, count: number): Array<number> => [...integers(stream(0, "gpu", name), count, 1, words)]

const sequences = (rows: number, prompt: number, answer: number): ReadonlyArray<Sequence> =>
  Array.from({ length: rows }, (_, row) => ({
    prompt: ids(`prompt ${row}`, prompt),
    completion: ids(`answer ${row}`, answer)
  }))

const prompts = (count: number, context: number) =>
  Array.from({ length: count }, (_, i) => ({
    promptId: `p${i}`,
    prompt: ids(`context ${i}`, context)
      .map((id) => `w${id - 1}`)
      .join(" ")
  }))

/** Seconds of compiling and loading programs so far; bytes by the device's own account, and by tensors and XLA's plans. */
const account = (setting: Setting) =>
  Effect.gen(function* () {
    const client = yield* acquire(pluginOf(setting), undefined)
    const { compiled, loadMs, paddingShare, peakBytes, reloaded } = yield* (yield* Device).stats
    return {
      compileSeconds: loadMs / 1000,
      compiled,
      reloaded,
      paddingShare,
      devicePeakBytes: client.memoryOf(client.devices[0]!)?.peakBytes ?? null,
      planPeakBytes: peakBytes
    }
  }).pipe(Effect.scoped)

/** A step that is run with a device of class bf16, timed, and given as tokens a second. */
const rated = <E1, E2, R>(
  prepare: (setting: Setting) => Effect.Effect<{ readonly once: Effect.Effect<number, E1> }, E2, R>,
  repeats: (setting: Setting) => number
) =>
  Effect.fnUntraced(function* (setting: Setting) {
    const start = performance.now()
    const { once } = yield* prepare(setting)
    const prepareSeconds = (performance.now() - start) / 1000
    setting.keep({ prepareSeconds, ...(yield* account(setting)) })
    const tokens = yield* once
    setting.keep({ prepareSeconds, tokens, ...(yield* account(setting)) })
    // twice untimed: the second may still find sizes that were not compiled for
    const seconds = yield* timed(once, repeats(setting))
    return { tokensPerSecond: tokens / median(seconds), tokens, seconds, prepareSeconds, ...(yield* account(setting)) }
  })

type Computing<A> = Effect.Effect<A, unknown, Device | FileSystem | Scope.Scope>

const inBf16 =
  (work: (setting: Setting) => Computing<unknown>, loopBytes?: number): Step =>
  (setting) =>
    work(setting).pipe(
      Effect.scoped,
      Effect.provide(Layer.merge(NodeFileSystem.layer, deviceOf(setting, "bf16", loopBytes)))
    )

const repeatsOf = (name: ShapeName) => (setting: Setting) => shapeOf(name, setting.tiny).repeats

/** Places of a batch: what training computes, prompts included. */
const places = ({ answer, prompt, rows }: Shape) => rows * (prompt + answer - 1)

/** How training has the layers: as the device would, as a loop, or one after the other. */
export type Layers = "chosen" | "loop" | "unrolled"
const loopBytes = { chosen: undefined, loop: Number.POSITIVE_INFINITY, unrolled: 0 } as const

const updating = (name: ShapeName, adapted: boolean, layers: Layers): Step =>
  inBf16(
    rated(
      Effect.fnUntraced(function* (setting: Setting) {
        const shape = shapeOf(name, setting.tiny)
        const policy = yield* newPolicy(shape.config, adapted ? shape.rank : undefined)
        const trainer = yield* policy.trainer(
          adapted ? grpo() : sft(),
          { learningRate: adapted ? 1e-4 : 1e-5 },
          { microBatchTokens: places(shape), rematerialise: true }
        )
        const batch = {
          sequences: sequences(shape.rows, shape.prompt, shape.answer),
          ...(adapted ? { inputs: { advantages: [...uniforms(stream(0, "gpu", "advantages"), shape.rows)] } } : {})
        }
        return { once: Effect.as(trainer.update(batch), places(shape)) }
      }),
      repeatsOf(name)
    ),
    loopBytes[layers]
  )

export const sftStep = (name: ShapeName, layers: Layers = "chosen"): Step => updating(name, false, layers)
export const loraStep = (name: ShapeName, layers: Layers = "chosen"): Step => updating(name, true, layers)

const sampling = (shape: Shape, rows: number) => ({
  seed: 0,
  purpose: "gpu",
  maxNewTokens: shape.written,
  samples: shape.samples,
  maxRows: rows,
  cacheBytes: 2 ** 40
})

export const decodeStep = (name: ShapeName, batch: 64 | 256, stored: "bf16" | "f32"): Step =>
  inBf16(
    rated(
      Effect.fnUntraced(function* (setting: Setting) {
        const shape = shapeOf(name, setting.tiny)
        const rows = batchOf(batch, setting.tiny)
        const { config } = shape
        const policy = yield* newPolicy(stored === "bf16" ? { ...config, stored } : config)
        const requests = prompts(rows / shape.samples, shape.context)
        const once = Effect.map(policy.generate(requests, sampling(shape, rows)), (completions) =>
          completions.reduce((n, completion) => n + completion.ids.length, 0)
        )
        return { once }
      }),
      repeatsOf(name)
    )
  )

/** Log-probabilities of one set of answers: by the sampler and the scorer in bf16, and by the scorer in float32. */
export const logprobsStep =
  (name: ShapeName): Step =>
  (setting) =>
    Effect.gen(function* () {
      const shape = shapeOf(name, setting.tiny)
      const rows = shape.samples * 2
      const narrow = yield* Effect.gen(function* () {
        const policy = yield* newPolicy(shape.config)
        const completions = yield* policy.generate(prompts(2, shape.context), sampling(shape, rows))
        const answers = completions.map(({ ids, prompt }) => ({ prompt, completion: ids }))
        const scores = yield* policy.logprobs(answers)
        return { answers, sampled: completions.map(({ logprobs }) => logprobs), scored: scores.map((s) => s.logprobs) }
      }).pipe(Effect.scoped, Effect.provide(deviceOf(setting, "bf16")))
      const samplerAgainstScorer = samplingDifference(narrow.sampled, narrow.scored)
      setting.keep({ samplerAgainstScorer })
      const exact = yield* Effect.gen(function* () {
        const policy = yield* newPolicy(shape.config)
        const scores = yield* policy.logprobs(narrow.answers)
        return scores.map(({ logprobs }) => logprobs)
      }).pipe(Effect.scoped, Effect.provide(deviceOf(setting, "f32")))
      return {
        tokens: narrow.scored.reduce((n, { length }) => n + length, 0),
        samplerAgainstScorer,
        bf16AgainstFloat32: samplingDifference(narrow.scored, exact),
        // the bounds of a training step's check of sampler against trainer
        right: samplerAgainstScorer.mean < 0.01 && samplerAgainstScorer.p99 < 0.08
      }
    }).pipe(Effect.provide(NodeFileSystem.layer))
