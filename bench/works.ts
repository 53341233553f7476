/**
 * The works that `exp bench` times: what each computes, how many tokens and floating-point operations one step of it is.
 * Training counts 6 operations per weight and token (forward and backward; the embedding has no product) and half of the
 * attention square; decoding counts 2 per weight and row. Weights are arbitrary numbers: values do not change the time.
 */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { Effect, type Scope } from "effect"
import { Device, type DeviceTensor } from "../src/device/Device.ts"
import type { DeviceError } from "../src/device/DeviceError.ts"
import type { HostTensor } from "../src/device/HostTensor.ts"
import { integers, stream } from "../src/device/random.ts"
import { type Attend, decoderParameters, headWeight, hidden } from "../src/models/decoder.ts"
import type { DecoderConfig } from "../src/models/decoderConfig.ts"
import type { ModelError } from "../src/models/ModelError.ts"
import * as Policy from "../src/models/Policy.ts"
import { countParameters, type ParameterSpec, parameterInputs } from "../src/models/parameters.ts"
import { wordLevelFiles } from "../src/models/wordLevel.ts"
import { sft } from "../src/objectives/sft.ts"
import { cachedAttention } from "../src/tensor/composites/cachedAttention.ts"
import { linear } from "../src/tensor/composites/linear.ts"
import { linearLogprobs } from "../src/tensor/composites/linearLogprobs.ts"
import { gradient } from "../src/tensor/gradient.ts"
import { neg } from "../src/tensor/ops/elementwise.ts"
import { reduceMean } from "../src/tensor/ops/reduce.ts"
import { expandDims, flatten } from "../src/tensor/ops/shape.ts"
import { type Program, program, specialise } from "../src/tensor/Program.ts"
import { input, type Tensor } from "../src/tensor/Tensor.ts"

/** A work that is set up: one call of `step` does it once. */
export interface Ready {
  readonly step: Effect.Effect<unknown, DeviceError | ModelError>
  readonly tokens: number
  readonly flop: number
}

export interface Work {
  readonly name: "train17m" | "decode135m" | "tinyTrain" | "tinyDecode"
  /** Steps that are timed, by default. */
  readonly steps: number
  readonly prepare: Effect.Effect<Ready, DeviceError, Device | Scope.Scope>
}

const llama = (sizes: Partial<DecoderConfig>): DecoderConfig => ({
  kind: "decoder",
  vocabularySize: 8192,
  hiddenSize: 384,
  intermediateSize: 1024,
  layers: 6,
  heads: 6,
  keyValueHeads: 6,
  headSize: 64,
  maxPositions: 512,
  ropeTheta: 10_000,
  normEpsilon: 1e-5,
  tied: false,
  qkvBias: false,
  outputBias: false,
  feedForwardBias: false,
  eosIds: [],
  ...sizes
})

const small = llama({})
const smol = llama({
  vocabularySize: 49_152,
  hiddenSize: 576,
  intermediateSize: 1536,
  layers: 30,
  heads: 9,
  keyValueHeads: 3,
  tied: true
})
/** The quickstart's policy. */
const tiny = llama({
  vocabularySize: 483,
  hiddenSize: 112,
  intermediateSize: 304,
  layers: 3,
  heads: 4,
  keyValueHeads: 4,
  headSize: 28,
  maxPositions: 128,
  tied: true
})

/** Numbers in [-deviation, deviation), cheaply. */
const anything = (count: number, deviation: number): Float32Array => {
  const values = new Float32Array(count)
  let state = 1
  for (let i = 0; i < count; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0
    values[i] = (state / 2 ** 31) * deviation
  }
  return values
}

const size = (shape: ReadonlyArray<number>) => shape.reduce((n, dim) => n * dim, 1)

const weightsOf = (table: ReadonlyArray<ParameterSpec>) =>
  Effect.gen(function* () {
    const device = yield* Device
    const weights: Record<string, DeviceTensor> = {}
    for (const { name, shape, init } of table) {
      const values = init.kind === "constant" ? new Float32Array(size(shape)).fill(1) : anything(size(shape), 0.03)
      weights[name] = yield* device.tensor({ name, dtype: "f32", shape }, values)
    }
    return weights
  })

const tokenIds = (name: string, shape: ReadonlyArray<number>, vocabulary: number): HostTensor => ({
  dtype: "i32",
  shape,
  data: integers(stream(0, "bench", name), size(shape), 0, vocabulary)
})

/** Weights that take part in products, and operations of attention over `pairs` (query, key) pairs a row and layer. */
const matrixWeights = (config: DecoderConfig, table: ReadonlyArray<ParameterSpec>) =>
  countParameters(table) - (config.tied ? 0 : config.vocabularySize * config.hiddenSize)
const attentionFlop = ({ heads, headSize, layers }: DecoderConfig, rows: number, pairs: number) =>
  4 * rows * heads * headSize * layers * pairs

/** Forward and backward pass of a batch, its derivatives as outputs. */
const trainingProgram = (config: DecoderConfig, batch: number, time: number): Program => {
  const table = decoderParameters(config)
  const parameters = parameterInputs(table)
  const ids = input("ids", "i32", ["batch", "time"])
  const targets = input("targets", "i32", ["batch", "time"])
  const states = hidden(config, parameters, ids)
  const { logprob } = linearLogprobs(flatten(states, 0, 1), headWeight(config, parameters), flatten(targets))
  const loss = neg(reduceMean(logprob))
  const by = gradient(loss, parameters.all)
  const outputs = Object.fromEntries(table.map(({ name }, i): [string, Tensor] => [`grad:${name}`, by[i]!]))
  return specialise(program("train", { outputs: { loss, ...outputs } }), { batch, time })
}

const training = (config: DecoderConfig, batch: number, time: number): Work["prepare"] =>
  Effect.gen(function* () {
    const device = yield* Device
    const table = decoderParameters(config)
    const loaded = yield* device.load(trainingProgram(config, batch, time))
    const gradients: Record<string, DeviceTensor> = {}
    for (const { name, shape } of table) {
      gradients[`grad:${name}`] = yield* device.tensor({ name: `grad:${name}`, dtype: "f32", shape })
    }
    const shape = [batch, time]
    const feeds = {
      ...(yield* weightsOf(table)),
      ids: tokenIds("ids", shape, config.vocabularySize),
      targets: tokenIds("targets", shape, config.vocabularySize)
    }
    return {
      step: device.run(loaded, feeds, gradients),
      tokens: batch * time,
      flop: 6 * matrixWeights(config, table) * batch * time + (3 * attentionFlop(config, batch, time * time)) / 2
    }
  })

/** One token for each row over a cache that holds `context` positions; the cache is written in place, weights are constants. */
const decoding = (config: DecoderConfig, batch: number, context: number): Work["prepare"] =>
  Effect.gen(function* () {
    const device = yield* Device
    const { headSize, keyValueHeads, layers, vocabularySize } = config
    const table = decoderParameters(config)
    const parameters = parameterInputs(table)
    const ids = input("ids", "i32", ["batch", 1])
    const lengths = input("lengths", "i32", ["batch"])
    const shape = ["batch", keyValueHeads, "capacity", headSize] as const
    const caches = Array.from({ length: layers }, (_, i) => ({
      k: input(`k${i}`, "f32", shape),
      v: input(`v${i}`, "f32", shape)
    }))
    const next: Record<string, Tensor> = {}
    const attend: Attend = (q, k, v, layer) => {
      const { cache, out } = cachedAttention(q, k, v, caches[layer]!, lengths)
      next[`k${layer}`] = cache.k
      next[`v${layer}`] = cache.v
      return out
    }
    const states = hidden(config, parameters, ids, { positions: expandDims(lengths, 1), attend })
    const logits = linear(flatten(states, 0, 1), headWeight(config, parameters))
    const donate = Object.fromEntries(Object.keys(next).map((name) => [name, name]))
    const step = program("decode", { outputs: { logits, ...next }, donate })
    const loaded = yield* device.load(step, { constants: yield* weightsOf(table) })
    const cache: Record<string, DeviceTensor> = {}
    for (const name of Object.keys(next)) {
      const sizes = [batch, keyValueHeads, 2 * context, headSize]
      cache[name] = yield* device.tensor({ name, dtype: "f32", shape: sizes }, anything(size(sizes), 0.1))
    }
    const place = yield* device.tensor({ name: "logits", dtype: "f32", shape: [batch, vocabularySize] })
    const feeds = {
      ...cache,
      ids: tokenIds("decode", [batch, 1], vocabularySize),
      lengths: { dtype: "i32", shape: [batch], data: new Int32Array(batch).fill(context) } as const
    }
    return {
      step: device.run(loaded, feeds, { ...cache, logits: place }),
      tokens: batch,
      flop: 2 * countParameters(table) * batch + attentionFlop(config, batch, context)
    }
  })

/** A new policy of the quickstart's size over invented words. */
export const tinyPolicyOf = (own: Partial<DecoderConfig>) =>
  Effect.suspend(() =>
    Policy.create({
      config: { ...tiny, ...own },
      tokenizerFiles: wordLevelFiles({
        phrases: [{ text: "<pad>", special: true }],
        words: Array.from({ length: tiny.vocabularySize - 1 }, (_, i) => `w${i}`),
        roles: { pad_token: "<pad>" }
      }),
      seed: 0
    })
  )
export const tinyPolicy = tinyPolicyOf({})

/** An update of the policy as stages do it: packing, gradients over micro-batches, AdamW. */
const updating = (rows: number, prompt: number, completion: number): Work["prepare"] =>
  Effect.gen(function* () {
    const policy = yield* tinyPolicy
    const trainer = yield* policy.trainer(sft(), { learningRate: 1e-3 }, { microBatchTokens: 2048 })
    const ids = (name: string, count: number) => [...integers(stream(0, "bench", name), count, 1, tiny.vocabularySize)]
    const sequences = Array.from({ length: rows }, (_, row) => ({
      prompt: ids(`prompt ${row}`, prompt),
      completion: ids(`completion ${row}`, completion)
    }))
    const time = prompt + completion
    return {
      step: trainer.update({ sequences }),
      tokens: rows * time,
      flop: 6 * policy.parameterCount * rows * time + (3 * attentionFlop(tiny, rows, time * time)) / 2
    }
  }).pipe(Effect.orDie, Effect.provide(NodeFileSystem.layer))

/** Generation as stages do it: prompts once each, then token by token to the full length. */
const generating = (prompts: number, samples: number, prompt: number, tokens: number): Work["prepare"] =>
  Effect.gen(function* () {
    const policy = yield* tinyPolicy
    const requests = Array.from({ length: prompts }, (_, i) => ({
      promptId: `p${i}`,
      prompt: Array.from({ length: prompt }, (_, j) => `w${(i * 31 + j * 7) % (tiny.vocabularySize - 1)}`).join(" ")
    }))
    const rows = prompts * samples
    const sampling = { seed: 0, purpose: "bench", maxNewTokens: tokens, samples, temperature: 0.7 }
    return {
      step: policy.generate(requests, sampling),
      tokens: rows * tokens,
      flop: tokens * (2 * policy.parameterCount * rows + attentionFlop(tiny, rows, prompt + tokens / 2))
    }
  }).pipe(Effect.orDie, Effect.provide(NodeFileSystem.layer))

/** The program of the work of this name. */
export const train17m = (): Program => trainingProgram(small, 8, 256)

export const works: ReadonlyArray<Work> = [
  { name: "train17m", steps: 7, prepare: training(small, 8, 256) },
  { name: "decode135m", steps: 24, prepare: decoding(smol, 8, 256) },
  { name: "tinyTrain", steps: 12, prepare: updating(64, 16, 56) },
  { name: "tinyDecode", steps: 6, prepare: generating(16, 8, 16, 56) }
]

/** A square matrix product: what the runtime reaches at best. */
export const matrixProduct = (n: number): Effect.Effect<Ready, DeviceError, Device | Scope.Scope> =>
  Effect.gen(function* () {
    const device = yield* Device
    const [a, b] = [input("a", "f32", [n, n]), input("b", "f32", [n, n])]
    const loaded = yield* device.load(program("matmul", { outputs: { y: linear(a, b) } }))
    const tensor = (name: string) => device.tensor({ name, dtype: "f32", shape: [n, n] }, anything(n * n, 1))
    const feeds = { a: yield* tensor("a"), b: yield* tensor("b") }
    return { step: device.run(loaded, feeds, { y: yield* tensor("y") }), tokens: n, flop: 2 * n ** 3 }
  })
