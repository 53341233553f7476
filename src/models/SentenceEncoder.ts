/**
 * A sentence encoder: a BERT encoder with mean pooling and length-1 embeddings, as sentence-transformers' MiniLM folders. It
 * embeds texts, learns from rows of texts (anchor, positive, negatives), and saves a folder that sentence-transformers loads.
 */
import { Effect, Schema, Scope } from "effect"
import { FileSystem } from "effect/FileSystem"
import { Device } from "../device/Device.ts"
import type { DeviceError } from "../device/DeviceError.ts"
import type { EmbeddingObjective } from "../objectives/Objective.ts"
import { namedDim } from "../tensor/Dim.ts"
import { concat } from "../tensor/ops/shape.ts"
import { program } from "../tensor/Program.ts"
import { input } from "../tensor/Tensor.ts"
import { packTexts, placesOfTexts, planMicroBatches } from "./batching.ts"
import { readConfigText, readOptional } from "./config.ts"
import { type EncoderInit, embed, encoderParameters } from "./encoder.ts"
import { type EncoderConfig, encoderConfig, encoderConfigJson } from "./encoderConfig.ts"
import { saveFolder } from "./folder.ts"
import { BadConfig, BadRequest, fail, type ModelError, UnsupportedModel } from "./ModelError.ts"
import type { OptimizerSettings } from "./optimizer.ts"
import { countParameters, initialise, parameterInputs, readFolder, type Weights } from "./parameters.ts"
import { makeTrainer, type Trainer } from "./Trainer.ts"
import { dropWords, encodeRow, type WordDropout } from "./texts.ts"
import * as tokenizers from "./tokenizer.ts"

/** One optimizer update: loss, grad_norm, learning_rate, updates, and the objective's logs. */
export interface EncoderUpdate {
  readonly metrics: Readonly<Record<string, number>>
  readonly tokens: number
  /** Share of padding in the batch's tensors. */
  readonly padding: number
}

export interface EncoderTrainer extends Pick<Trainer, "checkpoint" | "restore" | "updates"> {
  /** At least 2 rows of texts (anchor, positive, negatives ...): one batch, one update. */
  readonly update: (
    rows: ReadonlyArray<ReadonlyArray<string>>
  ) => Effect.Effect<EncoderUpdate, ModelError | DeviceError>
}

export interface EncoderTraining {
  /** Texts of a row: anchor, positive and any negatives; default 3. */
  readonly texts?: number
  readonly wordDropout?: WordDropout
}

export interface SentenceEncoder {
  readonly config: EncoderConfig
  readonly tokenizer: tokenizers.Tokenizer
  readonly parameterCount: number
  /** Longer texts are cut. */
  readonly maxTokens: number
  /** Row numbers of the micro-batches that `embed` makes of texts: embedding one at a time gives the same bits. */
  readonly plan: (texts: ReadonlyArray<string>) => ReadonlyArray<ReadonlyArray<number>>
  /** Embeddings of length 1, [hidden] each, in the order of the texts. */
  readonly embed: (texts: ReadonlyArray<string>) => Effect.Effect<ReadonlyArray<Float32Array>, ModelError | DeviceError>
  readonly trainer: (
    objective: EmbeddingObjective,
    optimizer: OptimizerSettings,
    options?: EncoderTraining
  ) => Effect.Effect<EncoderTrainer, ModelError | DeviceError, Scope.Scope>
  /** Writes a Hugging Face and sentence-transformers folder; equal weights give equal bytes. The folder must exist. */
  readonly save: (folder: string) => Effect.Effect<void, ModelError | DeviceError>
}

const Modules = Schema.fromJsonString(Schema.Array(Schema.Struct({ type: Schema.String })))
const Pooling = Schema.fromJsonString(Schema.Record(Schema.String, Schema.Unknown))
const SentenceConfig = Schema.fromJsonString(
  Schema.Struct({ max_seq_length: Schema.optionalKey(Schema.NullOr(Schema.Int)) })
)

/** The files of a sentence-transformers folder that are read, where they are there. */
export const sentenceFiles = ["modules.json", "1_Pooling/config.json", "sentence_bert_config.json"] as const

/** The files by which sentence-transformers knows what to do with the states of the tokens. */
const newSentenceFiles = (config: EncoderConfig): Readonly<Record<string, string>> => {
  const modules = ["Transformer", "Pooling", "Normalize"].map((type, idx) => ({
    idx,
    name: `${idx}`,
    path: idx === 0 ? "" : `${idx}_${type}`,
    type: `sentence_transformers.models.${type}`
  }))
  const json = (value: unknown) => `${JSON.stringify(value, null, 2)}\n`
  return {
    "modules.json": json(modules),
    "1_Pooling/config.json": json({
      word_embedding_dimension: config.hiddenSize,
      pooling_mode_cls_token: false,
      pooling_mode_mean_tokens: true,
      pooling_mode_max_tokens: false,
      pooling_mode_mean_sqrt_len_tokens: false
    }),
    "sentence_bert_config.json": json({ max_seq_length: config.maxPositions, do_lower_case: false })
  }
}

/** Refuses modules and poolings other than the mean; gives the longest text. */
const checkSentenceFiles = Effect.fnUntraced(function* (
  folder: string,
  files: Readonly<Record<string, string>>,
  config: EncoderConfig
) {
  const decode = <A>(schema: Schema.Codec<A, string>, name: string, fallback: string) =>
    Schema.decodeEffect(schema)(files[name] ?? fallback).pipe(
      Effect.mapError((error) => fail(new BadConfig({ file: `${folder}/${name}`, detail: error.message })))
    )
  for (const { type } of yield* decode(Modules, "modules.json", "[]")) {
    const name = type.split(".").at(-1)!
    if (!["Transformer", "Pooling", "Normalize"].includes(name)) {
      const file = `${folder}/modules.json`
      return yield* fail(
        new UnsupportedModel({ file, field: "type", found: type, supported: "Transformer, Pooling, Normalize" })
      )
    }
  }
  const pooling = yield* decode(Pooling, "1_Pooling/config.json", '{"pooling_mode_mean_tokens":true}')
  const modes = Object.keys(pooling).filter((key) => key.startsWith("pooling_mode_") && pooling[key] === true)
  if (modes.join() !== "pooling_mode_mean_tokens") {
    const file = `${folder}/1_Pooling/config.json`
    return yield* fail(
      new UnsupportedModel({ file, field: "pooling", found: modes.join(", "), supported: "pooling_mode_mean_tokens" })
    )
  }
  const { max_seq_length } = yield* decode(SentenceConfig, "sentence_bert_config.json", "{}")
  return Math.min(max_seq_length ?? config.maxPositions, config.maxPositions)
})

/** Loads a sentence encoder from a folder of transformers or sentence-transformers. */
export const load = Effect.fn("SentenceEncoder.load")(function* (
  folder: string
): Effect.fn.Return<SentenceEncoder, ModelError | DeviceError, Device | FileSystem | Scope.Scope> {
  const configText = yield* readConfigText(folder)
  const config = { ...(yield* encoderConfig(`${folder}/config.json`, configText)), labels: [] }
  const tokenizer = yield* tokenizers.load(folder)
  const files: Record<string, string> = { "config.json": configText }
  for (const name of sentenceFiles) {
    const text = yield* readOptional(`${folder}/${name}`)
    if (text !== undefined) files[name] = text
  }
  const maxTokens = yield* checkSentenceFiles(folder, files, config)
  const weights = yield* readFolder(encoderParameters(config), folder)
  return yield* make(folder, config, tokenizer, maxTokens, weights, files)
})

export interface NewEncoder extends EncoderInit {
  readonly config: EncoderConfig
  readonly tokenizerFiles: Readonly<Record<string, string>>
  readonly seed: number
}

/** A sentence encoder with random weights. */
export const create = Effect.fn("SentenceEncoder.create")(function* ({
  config,
  seed,
  tokenizerFiles,
  ...init
}: NewEncoder): Effect.fn.Return<SentenceEncoder, ModelError | DeviceError, Device | FileSystem | Scope.Scope> {
  const tokenizer = yield* Effect.fromResult(tokenizers.fromFiles("new encoder", tokenizerFiles))
  const weights = yield* initialise(encoderParameters(config, init), seed)
  const files = { "config.json": encoderConfigJson(config), ...newSentenceFiles(config) }
  return yield* make("new encoder", config, tokenizer, config.maxPositions, weights, files)
})

/** Inputs of the embedding graph under a suffix: ids and segments i32 [rows, time], lengths i32 [rows]. */
const inputsFor = (suffix: string) => ({
  ids: input(`ids${suffix}`, "i32", ["rows", "time"]),
  segments: input(`segments${suffix}`, "i32", ["rows", "time"]),
  lengths: input(`lengths${suffix}`, "i32", ["rows"])
})

const make = Effect.fnUntraced(function* (
  source: string,
  config: EncoderConfig,
  tokenizer: tokenizers.Tokenizer,
  maxTokens: number,
  weights: Weights,
  files: Readonly<Record<string, string>>
) {
  const device = yield* Device
  const fs = yield* FileSystem
  const scope = yield* Scope.Scope
  yield* tokenizers.fits(source, tokenizer, config.vocabularySize)
  const table = encoderParameters(config)
  const parameters = Object.fromEntries(weights)
  const { pad } = tokenizer.special
  const embedProgram = () => {
    const inputs = parameterInputs(table)
    return program("embed", { outputs: { embeddings: embed(config, inputs, inputsFor("")) } })
  }
  const loaded = yield* Effect.cached(Effect.suspend(() => device.load(embedProgram())).pipe(Scope.provide(scope)))

  const encoded = (texts: ReadonlyArray<string>) => {
    const rows = texts.map((text) => encodeRow(tokenizer, text, maxTokens))
    const lengths = rows.map(({ ids }) => ids.length)
    return { rows, parts: planMicroBatches(lengths, placesOfTexts(config, device.info.batch)).parts }
  }

  const encoder: SentenceEncoder = {
    config,
    tokenizer,
    maxTokens,
    parameterCount: countParameters(table),
    plan: (texts) => encoded(texts).parts,
    embed: Effect.fn("SentenceEncoder.embed")(function* (texts) {
      const { parts, rows } = encoded(texts)
      const embeddings = new Array<Float32Array>(texts.length)
      for (const part of parts) {
        const packed = packTexts(
          part.map((row) => rows[row]!),
          pad
        )
        const outputs = yield* device.run(yield* loaded, { ...parameters, ...packed })
        const data = outputs["embeddings"]!.data as Float32Array
        part.forEach((row, i) => {
          embeddings[row] = data.slice(i * config.hiddenSize, (i + 1) * config.hiddenSize)
        })
      }
      return embeddings
    }),
    trainer: Effect.fn("SentenceEncoder.trainer")(function* (objective, optimizer, { texts = 3, wordDropout } = {}) {
      const trainer = yield* makeTrainer({
        name: `encoder.${objective.name}`,
        table,
        weights,
        optimizer,
        build: (own) => {
          const parts = Array.from({ length: texts }, (_, text) => inputsFor(`:${text}`))
          const all = <K extends "ids" | "segments" | "lengths">(key: K) =>
            concat(
              parts.map((part) => part[key]),
              0
            )
          const embeddings = embed(config, own, {
            ids: all("ids"),
            segments: all("segments"),
            lengths: all("lengths")
          })
          return objective.build({ embeddings, rowCount: namedDim("rows"), texts }, {})
        },
        beforeChange: Effect.void
      }).pipe(Effect.provideService(Device, device), Effect.provideService(FileSystem, fs))
      const update = Effect.fn("EncoderTrainer.update")(function* (rows: ReadonlyArray<ReadonlyArray<string>>) {
        const odd = rows.find((row) => row.length !== texts)
        if (rows.length < 2 || odd !== undefined) {
          const detail = `a batch is at least 2 rows of ${texts} texts, not ${rows.length} rows${odd ? ` (one of ${odd.length} texts)` : ""}`
          return yield* fail(new BadRequest({ detail }))
        }
        const done = yield* trainer.updates
        const encoded = rows.map((row, i) =>
          row.map((text, k) => {
            const whole = encodeRow(tokenizer, text, maxTokens)
            return wordDropout === undefined
              ? whole
              : dropWords(whole, wordDropout, tokenizer.special, done, i * texts + k)
          })
        )
        // one length for all texts of the batch: they are one batch of the encoder
        const time = Math.max(...encoded.flat().map(({ ids }) => ids.length))
        const tokens = encoded.flat().reduce((n, { ids }) => n + ids.length, 0)
        const feeds = Object.fromEntries(
          Array.from({ length: texts }, (_, k) =>
            Object.entries(
              packTexts(
                encoded.map((row) => row[k]!),
                pad,
                time
              )
            ).map(([key, tensor]) => [`${key}:${k}`, tensor] as const)
          ).flat()
        )
        yield* trainer.accumulate(feeds)
        const { gradNorm, learningRate, logs, loss, updates } = yield* trainer.apply
        return {
          metrics: { loss, grad_norm: gradNorm, learning_rate: learningRate, updates, ...logs },
          tokens,
          padding: 1 - tokens / (time * rows.length * texts)
        }
      })
      return { update, checkpoint: trainer.checkpoint, restore: trainer.restore, updates: trainer.updates }
    }),
    save: (folder) =>
      saveFolder(folder, table, weights, { ...files, ...tokenizer.files }, "F32").pipe(
        Effect.provideService(Device, device),
        Effect.provideService(FileSystem, fs)
      )
  }
  return encoder
})
