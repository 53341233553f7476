/**
 * A policy: a decoder's weights on the device with the tokenizer and chat that go with them, and what stages do with it:
 * generate, score, train, save. All programs and tensors live as long as the scope that it was loaded in.
 */
import { Effect, Schema, Scope } from "effect"
import { FileSystem } from "effect/FileSystem"
import { Device } from "../device/Device.ts"
import type { DeviceError } from "../device/DeviceError.ts"
import type { TokenObjective } from "../objectives/Objective.ts"
import { type BatchValues, packInputs } from "./batchInputs.ts"
import {
  byRow,
  packSequences,
  planGroups,
  planMicroBatches,
  type Sequence,
  scalar,
  sequenceLength
} from "./batching.ts"
import { type Chat, fromTokenizer, type Prompt } from "./chat.ts"
import { readConfigText, readOptional } from "./config.ts"
import { decoderParameters } from "./decoder.ts"
import { type DecoderConfig, decoderConfig, decoderConfigJson } from "./decoderConfig.ts"
import { saveFolder } from "./folder.ts"
import { type Completion, type GenerationStats, makeSampler, type SamplerOptions } from "./generate.ts"
import { BadConfig, BadRequest, fail, type ModelError, TextTooLong } from "./ModelError.ts"
import type { OptimizerSettings } from "./optimizer.ts"
import { countParameters, initialise, readFolder, type Weights } from "./parameters.ts"
import type { Sampling } from "./sampling.ts"
import { placesPerMicroBatch, policyLoss, scoreProgram } from "./score.ts"
import { makeTrainer, type Trainer } from "./Trainer.ts"
import * as tokenizers from "./tokenizer.ts"

export interface PolicyPrompt {
  /** Names the prompt in random streams and results. */
  readonly promptId: string
  readonly prompt: Prompt
}

/** Scores of a completion's tokens, at the temperature asked for. */
export interface TokenScores {
  /** [completion tokens], <= 0. */
  readonly logprobs: Float32Array
  /** Nats, [completion tokens]. */
  readonly entropies: Float32Array
}

export interface PolicyBatch {
  readonly sequences: ReadonlyArray<Sequence>
  /** What the objective asks for, by name, in the order of the sequences. */
  readonly inputs?: Readonly<Record<string, BatchValues>>
}

/** One optimizer update. `metrics` has TRL's names: loss, grad_norm, learning_rate, updates, and the objective's logs. */
export interface PolicyUpdate {
  readonly metrics: Readonly<Record<string, number>>
  /** Log-probabilities of the completions' tokens before the update, in the order of the sequences. */
  readonly logprobs: ReadonlyArray<Float32Array>
  /** Completion tokens of the batch. */
  readonly tokens: number
  readonly microBatches: number
  /** Share of padding in the batch's tensors. */
  readonly padding: number
}

export interface TrainingOptions {
  /** Divides the logits, as when sampling: GRPO trains at the sampling temperature. Default 1. */
  readonly temperature?: number
  /** Most places (rows x longest) of a micro-batch; default: 1024, less where activations would exceed 1 GiB. */
  readonly microBatchTokens?: number
  /** Recomputes layers in the backward pass instead of keeping what is inside them. Default false. */
  readonly rematerialise?: boolean
}

export interface PolicyTrainer extends Pick<Trainer, "checkpoint" | "restore" | "updates"> {
  readonly update: (batch: PolicyBatch) => Effect.Effect<PolicyUpdate, ModelError | DeviceError>
}

export interface Policy {
  readonly config: DecoderConfig
  readonly tokenizer: tokenizers.Tokenizer
  readonly chat: Chat
  readonly parameterCount: number
  /** Its tensors on the device, by name: what training changes in place. */
  readonly weights: Weights
  /** The ids of a prompt and of an answer that ends; TextTooLong where they do not fit the model's context. */
  readonly sequence: (prompt: Prompt, completion: string) => Effect.Effect<Sequence, ModelError>
  /** Answers, in the order of the prompts, samples of a prompt together. */
  readonly generate: (
    prompts: ReadonlyArray<PolicyPrompt>,
    sampling: Sampling
  ) => Effect.Effect<ReadonlyArray<Completion>, ModelError | DeviceError>
  /** Rows x steps and tokens of all generation so far. */
  readonly generationStats: Effect.Effect<GenerationStats>
  /** Log-probabilities and entropies of given completions, in the order of the sequences. */
  readonly logprobs: (
    sequences: ReadonlyArray<Sequence>,
    options?: Pick<TrainingOptions, "temperature" | "microBatchTokens">
  ) => Effect.Effect<ReadonlyArray<TokenScores>, ModelError | DeviceError>
  /** A trainer of these weights, with optimizer state of its own. */
  readonly trainer: (
    objective: TokenObjective,
    optimizer: OptimizerSettings,
    options?: TrainingOptions
  ) => Effect.Effect<PolicyTrainer, ModelError | DeviceError, Scope.Scope>
  /** Writes a Hugging Face folder; equal weights give equal bytes. The folder must exist. */
  readonly save: (
    folder: string,
    options?: { readonly dtype?: "F32" | "BF16" | "F16" }
  ) => Effect.Effect<void, ModelError | DeviceError>
}

/** Loads a policy from a Hugging Face folder (`config.json`, safetensors, `tokenizer.json`, chat template). */
export const load = Effect.fn("Policy.load")(function* (
  folder: string,
  options: SamplerOptions = {}
): Effect.fn.Return<Policy, ModelError | DeviceError, Device | FileSystem | Scope.Scope> {
  const configText = yield* readConfigText(folder)
  const config = yield* decoderConfig(`${folder}/config.json`, configText)
  const tokenizer = yield* tokenizers.load(folder)
  const generation = yield* readOptional(`${folder}/generation_config.json`)
  const weights = yield* readFolder(decoderParameters(config), folder)
  const stopIds = [...config.eosIds, ...(yield* generationStops(folder, generation ?? "{}"))]
  const files = {
    "config.json": configText,
    ...(generation === undefined ? {} : { "generation_config.json": generation })
  }
  return yield* make(folder, config, tokenizer, stopIds, weights, files, options)
})

export interface NewPolicy {
  readonly config: DecoderConfig
  /** The tokenizer's files (`wordLevelFiles`, or those of another model). */
  readonly tokenizerFiles: Readonly<Record<string, string>>
  readonly seed: number
}

/** A policy with random weights (`decoderParameters` says how they are drawn). */
export const create = Effect.fn("Policy.create")(function* (
  { config, seed, tokenizerFiles }: NewPolicy,
  options: SamplerOptions = {}
): Effect.fn.Return<Policy, ModelError | DeviceError, Device | FileSystem | Scope.Scope> {
  const tokenizer = yield* Effect.fromResult(tokenizers.fromFiles("new policy", tokenizerFiles))
  const weights = yield* initialise(decoderParameters(config), seed)
  const files = { "config.json": decoderConfigJson(config) }
  return yield* make("new policy", config, tokenizer, config.eosIds, weights, files, options)
})

const GenerationConfig = Schema.fromJsonString(
  Schema.Struct({
    eos_token_id: Schema.optionalKey(Schema.NullOr(Schema.Union([Schema.Int, Schema.Array(Schema.Int)])))
  })
)

const generationStops = (folder: string, text: string) =>
  Schema.decodeEffect(GenerationConfig)(text).pipe(
    Effect.mapError((error) =>
      fail(new BadConfig({ file: `${folder}/generation_config.json`, detail: error.message }))
    ),
    Effect.map(({ eos_token_id }) => (typeof eos_token_id === "number" ? [eos_token_id] : (eos_token_id ?? [])))
  )

const make = Effect.fnUntraced(function* (
  source: string,
  config: DecoderConfig,
  tokenizer: tokenizers.Tokenizer,
  stopIds: ReadonlyArray<number>,
  weights: Weights,
  files: Readonly<Record<string, string>>,
  options: SamplerOptions
) {
  const device = yield* Device
  const fs = yield* FileSystem
  const scope = yield* Scope.Scope
  yield* tokenizers.fits(source, tokenizer, config.vocabularySize)
  const table = decoderParameters(config)
  const parameters = Object.fromEntries(weights)
  const chat = yield* Effect.fromResult(fromTokenizer(source, tokenizer, stopIds))
  const sampler = yield* makeSampler(config, tokenizer, chat.stopIds, weights, options)
  const stats = { rowSteps: 0, tokens: 0 }

  const encoding = <A>(encode: () => A) =>
    Effect.try({
      try: encode,
      catch: (cause) => fail(new BadRequest({ detail: cause instanceof Error ? cause.message : String(cause) }))
    })

  const fits = (sequence: Sequence) => {
    const tokens = sequence.prompt.length + sequence.completion.length
    if (tokens <= config.maxPositions) return Effect.succeed(sequence)
    const text = tokenizer.decode([...sequence.prompt, ...sequence.completion], { special: true })
    return Effect.fail(fail(new TextTooLong({ text, tokens, limit: config.maxPositions })))
  }

  const scoreLoaded = yield* Effect.cached(
    Effect.suspend(() => device.load(scoreProgram(config))).pipe(Scope.provide(scope))
  )

  const policy: Policy = {
    config,
    tokenizer,
    chat,
    parameterCount: countParameters(table),
    weights,
    sequence: (prompt, completion) =>
      encoding(() => ({ prompt: chat.encodePrompt(prompt), completion: chat.encodeCompletion(completion) })).pipe(
        Effect.flatMap(fits)
      ),
    generate: Effect.fn("Policy.generate")(function* (prompts, sampling) {
      const requests = yield* encoding(() =>
        prompts.map(({ prompt, promptId }) => ({ promptId, prompt: chat.encodePrompt(prompt) }))
      )
      const generated = yield* sampler.generate(requests, sampling)
      stats.rowSteps += generated.stats.rowSteps
      stats.tokens += generated.stats.tokens
      return generated.completions
    }),
    generationStats: Effect.sync(() => ({ ...stats })),
    logprobs: Effect.fn("Policy.logprobs")(function* (sequences, scoring = {}) {
      const { microBatchTokens = 4 * placesPerMicroBatch(config), temperature = 1 } = scoring
      for (const sequence of sequences) yield* fits(sequence)
      const scores: Array<TokenScores> = sequences.map(() => ({
        logprobs: new Float32Array(0),
        entropies: new Float32Array(0)
      }))
      for (const part of planMicroBatches(sequences.map(sequenceLength), microBatchTokens).parts) {
        const { at, ids, targets } = yield* encoding(() =>
          packSequences(
            part.map((row) => sequences[row]!),
            tokenizer.special.pad
          )
        )
        const outputs = yield* device.run(yield* scoreLoaded, {
          ...parameters,
          ids,
          at,
          targets,
          temperature: scalar(temperature)
        })
        const [logprobs, entropies] = [outputs["logprobs"]!.data, outputs["entropies"]!.data]
        let next = 0
        for (const row of part) {
          const end = next + sequences[row]!.completion.length
          scores[row] = {
            logprobs: Float32Array.from(logprobs.subarray(next, end), Number),
            entropies: Float32Array.from(entropies.subarray(next, end), Number)
          }
          next = end
        }
      }
      return scores
    }),
    trainer: Effect.fn("Policy.trainer")(function* (objective, optimizer, training = {}) {
      const { microBatchTokens, rematerialise = false, temperature = 1 } = training
      const { groupSize = 1 } = objective
      const places = microBatchTokens ?? placesPerMicroBatch(config, rematerialise)
      const trainer = yield* makeTrainer({
        name: `policy.${objective.name}`,
        table,
        weights,
        optimizer,
        build: (inputs) => policyLoss(config, inputs, objective, rematerialise),
        beforeChange: sampler.forget
      }).pipe(Effect.provideService(Device, device), Effect.provideService(FileSystem, fs))
      const update = Effect.fn("PolicyTrainer.update")(function* (batch: PolicyBatch) {
        const { inputs = {}, sequences } = batch
        for (const sequence of sequences) yield* fits(sequence)
        const { padding, parts } = yield* encoding(() => planGroups(sequences.map(sequenceLength), groupSize, places))
        const tokens = sequences.reduce((n, { completion }) => n + completion.length, 0)
        if (tokens === 0) {
          return yield* fail(
            new BadRequest({ detail: "the batch has no completion tokens: there is nothing to learn from" })
          )
        }
        const rows = parts.reduce((n, part) => n + part.length, 0)
        const logprobs: Array<Float32Array> = sequences.map(() => new Float32Array(0))
        for (const part of parts) {
          const feeds = yield* encoding(() => {
            const own = part.map((row) => sequences[row]!)
            const packed = packSequences(own, tokenizer.special.pad)
            const mask = new Float32Array(packed.tokens).fill(1)
            return {
              ids: byRow(packed.ids, groupSize),
              at: packed.at,
              targets: packed.targets,
              rows: packed.rows,
              mask: { dtype: "f32" as const, shape: [packed.tokens], data: mask },
              temperature: scalar(temperature),
              totalTokens: scalar(tokens),
              totalRows: scalar(rows),
              ...packInputs(objective, inputs, sequences, part)
            }
          })
          const { data } = (yield* trainer.accumulate(feeds))["logprobs"]!
          let next = 0
          for (const row of part) {
            const end = next + sequences[row]!.completion.length
            logprobs[row] = Float32Array.from(data.subarray(next, end), Number)
            next = end
          }
        }
        const { gradNorm, learningRate, logs, loss, updates } = yield* trainer.apply
        return {
          metrics: { loss, grad_norm: gradNorm, learning_rate: learningRate, updates, ...logs },
          logprobs,
          tokens,
          microBatches: parts.length,
          padding
        }
      })
      return { update, checkpoint: trainer.checkpoint, restore: trainer.restore, updates: trainer.updates }
    }),
    save: (folder, { dtype = "F32" } = {}) =>
      saveFolder(folder, table, weights, { ...files, ...tokenizer.files }, dtype).pipe(
        Effect.provideService(Device, device),
        Effect.provideService(FileSystem, fs)
      )
  }
  return policy
})
