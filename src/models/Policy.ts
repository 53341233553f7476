/**
 * A policy: a decoder's weights on the device with the tokenizer and chat that go with them, and what stages do with it:
 * generate, score, train, save. All programs and tensors live as long as the scope that it was loaded in.
 *
 * With an adapter (`lora.ts`) training changes the adapter alone; sampler, trainer and what is scored without the adapter read the
 * same tensors of the model below.
 */
import { Effect, Schema, Scope } from "effect"
import { FileSystem } from "effect/FileSystem"
import { Device } from "../device/Device.ts"
import type { DeviceError } from "../device/DeviceError.ts"
import type { TokenObjective } from "../objectives/Objective.ts"
import { baseFolder, linkWeights, modelFolder, readAdapter, writeAdapter } from "./adapterFolder.ts"
import { packSequences, planMicroBatches, type Sequence, scalar, sequenceLength } from "./batching.ts"
import { type Chat, fromTokenizer, type Prompt } from "./chat.ts"
import { readConfigText, readOptional } from "./config.ts"
import { decoderParameters } from "./decoder.ts"
import { type DecoderConfig, decoderConfig, decoderConfigJson } from "./decoderConfig.ts"
import { saveFolder, writeTexts } from "./folder.ts"
import { type Completion, type GenerationStats, makeSampler, type SamplerOptions } from "./generate.ts"
import { type Adapter, adapterParameters, type LoraSettings, sameShape } from "./lora.ts"
import { asked, BadConfig, fail, type ModelError, TextTooLong } from "./ModelError.ts"
import { mergeAdapter } from "./mergeAdapter.ts"
import type { OptimizerSettings } from "./optimizer.ts"
import { makePolicyTrainer, type PolicyTrainer, type TrainingOptions } from "./PolicyTrainer.ts"
import { countParameters, initialise, readFolder, type Weights } from "./parameters.ts"
import { refused } from "./refused.ts"
import type { Sampling } from "./sampling.ts"
import { placesPerMicroBatch, scoreProgram } from "./score.ts"
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

export interface ScoringOptions extends Pick<TrainingOptions, "temperature" | "microBatchTokens"> {
  /** Tensors of an adapter of the same settings in place of the policy's own; null: the model without any. */
  readonly adapter?: Weights | null
}

export interface SaveOptions {
  /** How weights are stored; adapters, and a model below one that came from a folder, stay as they are. */
  readonly dtype?: "F32" | "BF16" | "F16"
  /**
   * Of a policy with an adapter only the adapter (`trained`) or only the model below (`frozen`); together they are the whole. Of
   * another policy everything is trained and nothing frozen.
   */
  readonly part?: "trained" | "frozen"
}

export interface Policy {
  readonly config: DecoderConfig
  readonly tokenizer: tokenizers.Tokenizer
  readonly chat: Chat
  readonly parameterCount: number
  /** Its tensors on the device, by name: what training changes in place, unless there is an adapter. */
  readonly weights: Weights
  /** What training changes in place of the weights; `isNew`: it was made here and adds nothing yet. */
  readonly adapter?: Adapter & { readonly isNew: boolean }
  /** Whether an adapter that lay in the folder went into the weights when it was loaded. */
  readonly merged: boolean
  /** The ids of a prompt and of an answer that ends; TextTooLong where they do not fit the model's context, or `limit` tokens. */
  readonly sequence: (prompt: Prompt, completion: string, limit?: number) => Effect.Effect<Sequence, ModelError>
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
    options?: ScoringOptions
  ) => Effect.Effect<ReadonlyArray<TokenScores>, ModelError | DeviceError>
  /** A trainer of these weights, with optimizer state of its own. */
  readonly trainer: (
    objective: TokenObjective,
    optimizer: OptimizerSettings,
    options?: TrainingOptions
  ) => Effect.Effect<PolicyTrainer, ModelError | DeviceError, Scope.Scope>
  /** Writes a Hugging Face folder, with an adapter PEFT's (`adapterFolder.ts`); equal weights give equal bytes. The folder must exist. */
  readonly save: (folder: string, options?: SaveOptions) => Effect.Effect<void, ModelError | DeviceError>
}

export interface LoadOptions extends SamplerOptions {
  /**
   * The adapter that it is to have. One of the same shape and scale that lies in the folder goes on; any other is merged into the
   * weights, and a new one drawn by the seed. Null: none, merged likewise. Left out: as the policy lies there.
   */
  readonly lora?: (LoraSettings & { readonly seed: number }) | null
}

/**
 * Loads a policy from a Hugging Face folder (`config.json`, safetensors, `tokenizer.json`, chat template), or from one with an
 * adapter (`adapterFolder.ts`).
 */
export const load = Effect.fn("Policy.load")(function* (
  place: string,
  { lora, ...options }: LoadOptions = {}
): Effect.fn.Return<Policy, ModelError | DeviceError, Device | FileSystem | Scope.Scope> {
  const folder = yield* modelFolder(place)
  const configText = yield* readConfigText(folder)
  const described = yield* decoderConfig(`${folder}/config.json`, configText)
  const tokenizer = yield* tokenizers.load(folder)
  const generation = yield* readOptional(`${folder}/generation_config.json`)
  const stopIds = [...described.eosIds, ...(yield* generationStops(folder, generation ?? "{}"))]
  const files = {
    "config.json": configText,
    ...(generation === undefined ? {} : { "generation_config.json": generation })
  }
  const found = yield* readAdapter(place, described)
  const fresh = lora ? yield* asked(() => adapterParameters(described, lora)) : []
  const stays =
    found !== undefined && (lora === undefined || (lora !== null && sameShape(described, found.settings, lora)))
  const merged = found !== undefined && !stays
  const config = yield* storedBelow(described, !merged && (stays || Boolean(lora)))
  const weights = yield* readFolder(decoderParameters(config), folder)
  if (merged) yield* mergeAdapter(config, weights, found)
  const adapter = stays
    ? {
        settings: { ...found.settings, dropout: lora?.dropout ?? found.settings.dropout },
        weights: found.weights,
        isNew: false
      }
    : lora
      ? { settings: lora, weights: yield* initialise(fresh, lora.seed), isNew: true }
      : undefined
  const origin = merged ? undefined : folder
  return yield* make({ source: folder, config, tokenizer, stopIds, weights, files, merged, adapter, origin }, options)
})

/** A model below an adapter does not change: where products round its matrices to bfloat16 anyway, they are kept so. */
const storedBelow = (config: DecoderConfig, adapted: boolean): Effect.Effect<DecoderConfig, never, Device> =>
  Effect.map(Device, ({ info }) =>
    adapted && info.numericClass.dtype === "bf16" ? { ...config, stored: "bf16" as const } : config
  )

/** What a policy is made of. */
interface Parts {
  /** For messages. */
  readonly source: string
  readonly config: DecoderConfig
  readonly tokenizer: tokenizers.Tokenizer
  readonly stopIds: ReadonlyArray<number>
  readonly weights: Weights
  /** Texts that lie with the weights, by name. */
  readonly files: Readonly<Record<string, string>>
  readonly merged: boolean
  readonly adapter: Policy["adapter"]
  /** The folder that the weights came from, if they are still the same. */
  readonly origin: string | undefined
}

export interface NewPolicy {
  readonly config: DecoderConfig
  /** The tokenizer's files (`wordLevelFiles`, or those of another model). */
  readonly tokenizerFiles: Readonly<Record<string, string>>
  readonly seed: number
  /** The adapter that training is to change in place of the weights. */
  readonly lora?: LoraSettings
  /** Makes the weights of a table; default: `initialise`, which draws them on the host. */
  readonly draw?: typeof initialise
}

/** A policy with random weights (`decoderParameters` says how they are drawn). */
export const create = Effect.fn("Policy.create")(function* (
  { config: described, draw = initialise, lora, seed, tokenizerFiles }: NewPolicy,
  options: SamplerOptions = {}
): Effect.fn.Return<Policy, ModelError | DeviceError, Device | FileSystem | Scope.Scope> {
  const tokenizer = yield* Effect.fromResult(tokenizers.fromFiles("new policy", tokenizerFiles))
  const fresh = lora && (yield* asked(() => adapterParameters(described, lora)))
  const config = yield* storedBelow(described, fresh !== undefined)
  const weights = yield* draw(decoderParameters(config), seed)
  const adapter = lora && fresh && { settings: lora, weights: yield* draw(fresh, seed), isNew: true }
  return yield* make(
    {
      source: "new policy",
      config,
      tokenizer,
      stopIds: config.eosIds,
      weights,
      files: { "config.json": decoderConfigJson(config) },
      merged: false,
      adapter,
      origin: undefined
    },
    options
  )
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

const make = Effect.fnUntraced(function* (model: Parts, options: SamplerOptions) {
  const { adapter, config, files, merged, origin, source, stopIds, tokenizer, weights } = model
  const device = yield* Device
  const fs = yield* FileSystem
  const scope = yield* Scope.Scope
  yield* tokenizers.fits(source, tokenizer, config.vocabularySize)
  const table = decoderParameters(config)
  const lora = adapter?.settings
  const parameters = Object.fromEntries(weights)
  const chat = yield* Effect.fromResult(fromTokenizer(source, tokenizer, stopIds))
  const sampler = yield* makeSampler(config, tokenizer, chat.stopIds, weights, options, adapter)
  const stats = { rowSteps: 0, tokens: 0 }

  const fits = (sequence: Sequence, asked = config.maxPositions) => {
    const tokens = sequence.prompt.length + sequence.completion.length
    const limit = Math.min(asked, config.maxPositions)
    if (tokens <= limit) return Effect.succeed(sequence)
    const text = tokenizer.decode([...sequence.prompt, ...sequence.completion], { special: true })
    const own = limit === config.maxPositions ? {} : { asked: true }
    return Effect.fail(fail(new TextTooLong({ text, tokens, limit, ...own })))
  }

  const scoring = (settings: LoraSettings | undefined) =>
    Effect.cached(
      Effect.suspend(() => device.load(scoreProgram(config, settings, device.info.batch))).pipe(Scope.provide(scope))
    )
  const scorePlain = yield* scoring(undefined)
  const scoreAdapted = lora ? yield* scoring(lora) : scorePlain

  const policy: Policy = {
    config,
    tokenizer,
    chat,
    parameterCount: countParameters(table),
    weights,
    ...(adapter === undefined ? {} : { adapter }),
    merged,
    sequence: (prompt, completion, limit) =>
      asked(() => ({ prompt: chat.encodePrompt(prompt), completion: chat.encodeCompletion(completion) })).pipe(
        Effect.flatMap((sequence) => fits(sequence, limit))
      ),
    generate: Effect.fn("Policy.generate")(function* (prompts, sampling) {
      const requests = yield* asked(() =>
        prompts.map(({ prompt, promptId }) => ({ promptId, prompt: chat.encodePrompt(prompt) }))
      )
      const generated = yield* sampler.generate(requests, sampling)
      stats.rowSteps += generated.stats.rowSteps
      stats.tokens += generated.stats.tokens
      return generated.completions
    }),
    generationStats: Effect.sync(() => ({ ...stats })),
    logprobs: Effect.fn("Policy.logprobs")(function* (sequences, scoring = {}) {
      const {
        adapter: other,
        microBatchTokens = 4 * placesPerMicroBatch(config, device.info.batch),
        temperature = 1
      } = scoring
      const factors = other === null || !adapter ? [] : (other ?? adapter.weights)
      const scoreLoaded = yield* other === null ? scorePlain : scoreAdapted
      for (const sequence of sequences) yield* fits(sequence)
      const scores: Array<TokenScores> = sequences.map(() => ({
        logprobs: new Float32Array(0),
        entropies: new Float32Array(0)
      }))
      for (const part of planMicroBatches(sequences.map(sequenceLength), microBatchTokens).parts) {
        const { at, ids, targets } = yield* asked(() =>
          packSequences(
            part.map((row) => sequences[row]!),
            tokenizer.special.pad
          )
        )
        const outputs = yield* device.run(scoreLoaded, {
          ...parameters,
          ...Object.fromEntries(factors),
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
    trainer: (objective, optimizer, training) =>
      makePolicyTrainer({ ...model, fits, forget: sampler.forget }, objective, optimizer, training).pipe(
        Effect.provideService(Device, device),
        Effect.provideService(FileSystem, fs)
      ),
    save: Effect.fn("Policy.save")(
      function* (folder, { dtype = "F32", part } = {}) {
        const texts = { ...files, ...tokenizer.files }
        if (adapter === undefined)
          return yield* part === "frozen" ? Effect.void : saveFolder(folder, table, weights, texts, dtype)
        if (part !== "frozen") yield* writeAdapter(folder, config, adapter)
        if (part === "trained") return
        const below = `${folder}/${baseFolder}`
        yield* fs.makeDirectory(below, { recursive: true }).pipe(Effect.mapError(refused(below, "written")))
        if (origin === undefined) return yield* saveFolder(below, table, weights, texts, dtype)
        yield* writeTexts(below, texts)
        yield* linkWeights(origin, below)
      },
      Effect.provideService(Device, device),
      Effect.provideService(FileSystem, fs)
    )
  }
  return policy
})
