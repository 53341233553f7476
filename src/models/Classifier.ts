/**
 * A classifier of texts or pairs: a BERT cross-encoder (`BertForSequenceClassification`), as natural-language-inference
 * models are. It gives class probabilities, learns by cross-entropy, and saves a folder that transformers loads.
 */
import { Effect, Scope } from "effect"
import { FileSystem } from "effect/FileSystem"
import { Device } from "../device/Device.ts"
import type { DeviceError } from "../device/DeviceError.ts"
import { i32 } from "../device/HostTensor.ts"
import { classification } from "../objectives/classification.ts"
import { softmax } from "../tensor/composites/softmax.ts"
import { program } from "../tensor/Program.ts"
import { input } from "../tensor/Tensor.ts"
import { packTexts, placesOfTexts, planMicroBatches, scalar } from "./batching.ts"
import { readConfigText } from "./config.ts"
import { classify, type EncoderInit, encoderParameters } from "./encoder.ts"
import { type EncoderConfig, encoderConfig, encoderConfigJson } from "./encoderConfig.ts"
import { saveFolder } from "./folder.ts"
import { BadConfig, BadRequest, fail, type ModelError } from "./ModelError.ts"
import type { OptimizerSettings } from "./optimizer.ts"
import { countParameters, initialise, parameterInputs, readFolder, type Weights } from "./parameters.ts"
import type { EncoderUpdate } from "./SentenceEncoder.ts"
import { makeTrainer, type Trainer } from "./Trainer.ts"
import { dropWords, encodeRow, type TextOrPair, type WordDropout } from "./texts.ts"
import * as tokenizers from "./tokenizer.ts"

export interface ClassifierTrainer extends Pick<Trainer, "checkpoint" | "restore" | "updates"> {
  /** Texts or pairs and the number of each one's class: one batch, one update. */
  readonly update: (
    texts: ReadonlyArray<TextOrPair>,
    classes: ReadonlyArray<number>
  ) => Effect.Effect<EncoderUpdate, ModelError | DeviceError>
}

export interface Classifier {
  readonly config: EncoderConfig
  readonly tokenizer: tokenizers.Tokenizer
  readonly parameterCount: number
  readonly maxTokens: number
  /** Names of the classes, in the order of their probabilities. */
  readonly labels: ReadonlyArray<string>
  /** Row numbers of the micro-batches that `probabilities` makes of texts: one at a time they give the same bits. */
  readonly plan: (texts: ReadonlyArray<TextOrPair>) => ReadonlyArray<ReadonlyArray<number>>
  /** Class probabilities, [labels] each, in the order of the texts. */
  readonly probabilities: (
    texts: ReadonlyArray<TextOrPair>
  ) => Effect.Effect<ReadonlyArray<Float32Array>, ModelError | DeviceError>
  /** Probability of entailment for pairs (premise, hypothesis). */
  readonly entailment: (
    pairs: ReadonlyArray<readonly [premise: string, hypothesis: string]>
  ) => Effect.Effect<Float32Array, ModelError | DeviceError>
  readonly trainer: (
    optimizer: OptimizerSettings,
    options?: { readonly wordDropout?: WordDropout }
  ) => Effect.Effect<ClassifierTrainer, ModelError | DeviceError, Scope.Scope>
  /** Writes a Hugging Face folder; equal weights give equal bytes. The folder must exist. */
  readonly save: (folder: string) => Effect.Effect<void, ModelError | DeviceError>
}

/** Loads a classifier from a folder of transformers. */
export const load = Effect.fn("Classifier.load")(function* (
  folder: string
): Effect.fn.Return<Classifier, ModelError | DeviceError, Device | FileSystem | Scope.Scope> {
  const configText = yield* readConfigText(folder)
  const config = yield* encoderConfig(`${folder}/config.json`, configText)
  if (config.labels.length === 0) {
    const detail = "is no sequence classifier: architectures must name one, id2label its classes"
    return yield* fail(new BadConfig({ file: `${folder}/config.json`, detail }))
  }
  const tokenizer = yield* tokenizers.load(folder)
  const weights = yield* readFolder(encoderParameters(config), folder)
  return yield* make(folder, config, tokenizer, weights, { "config.json": configText })
})

export interface NewClassifier extends EncoderInit {
  /** Its `labels` name the classes. */
  readonly config: EncoderConfig
  /** With a `cls_token`, from whose state the classes are read, and a `sep_token` between the texts of a pair. */
  readonly tokenizerFiles: Readonly<Record<string, string>>
  readonly seed: number
  /** Folder of a sentence encoder of the same size and tokenizer, whose weights the classifier starts with. */
  readonly encoder?: string
}

/** A classifier with random weights. */
export const create = Effect.fn("Classifier.create")(function* ({
  config,
  encoder,
  seed,
  tokenizerFiles,
  ...init
}: NewClassifier): Effect.fn.Return<Classifier, ModelError | DeviceError, Device | FileSystem | Scope.Scope> {
  const tokenizer = yield* Effect.fromResult(tokenizers.fromFiles("new classifier", tokenizerFiles))
  if (config.labels.length === 0 || tokenizer.special.cls === undefined) {
    const detail = "a new classifier needs labels in its config and a cls_token in its tokenizer"
    return yield* fail(new BadRequest({ detail }))
  }
  const weights = yield* initialise(encoderParameters(config, init), seed)
  if (encoder !== undefined) {
    const device = yield* Device
    for (const [name, learnt] of yield* readFolder(encoderParameters({ ...config, labels: [] }), encoder)) {
      yield* device.write(weights.get(`bert.${name}`)!, (yield* device.read(learnt)).data)
    }
  }
  return yield* make("new classifier", config, tokenizer, weights, { "config.json": encoderConfigJson(config) })
})

const textInputs = () => ({
  ids: input("ids", "i32", ["rows", "time"]),
  segments: input("segments", "i32", ["rows", "time"]),
  lengths: input("lengths", "i32", ["rows"])
})

const make = Effect.fnUntraced(function* (
  source: string,
  config: EncoderConfig,
  tokenizer: tokenizers.Tokenizer,
  weights: Weights,
  files: Readonly<Record<string, string>>
) {
  const device = yield* Device
  const fs = yield* FileSystem
  const scope = yield* Scope.Scope
  const { labels, maxPositions: maxTokens } = config
  yield* tokenizers.fits(source, tokenizer, config.vocabularySize)
  const table = encoderParameters(config)
  const parameters = Object.fromEntries(weights)
  const { pad } = tokenizer.special
  const scoreProgram = () => {
    const logits = classify(config, parameterInputs(table), textInputs())
    return program("classify", { outputs: { probabilities: softmax(logits) } })
  }
  const loaded = yield* Effect.cached(Effect.suspend(() => device.load(scoreProgram())).pipe(Scope.provide(scope)))

  const encoded = (texts: ReadonlyArray<TextOrPair>) => {
    const rows = texts.map((text) => encodeRow(tokenizer, text, maxTokens))
    const lengths = rows.map(({ ids }) => ids.length)
    return { rows, parts: planMicroBatches(lengths, placesOfTexts(config, device.info.batch)).parts }
  }
  const probabilities: Classifier["probabilities"] = Effect.fn("Classifier.probabilities")(function* (texts) {
    const { parts, rows } = encoded(texts)
    const found = new Array<Float32Array>(texts.length)
    for (const part of parts) {
      const packed = packTexts(
        part.map((row) => rows[row]!),
        pad
      )
      const outputs = yield* device.run(yield* loaded, { ...parameters, ...packed })
      const data = outputs["probabilities"]!.data as Float32Array
      part.forEach((row, i) => {
        found[row] = data.slice(i * labels.length, (i + 1) * labels.length)
      })
    }
    return found
  })

  const classifier: Classifier = {
    config,
    tokenizer,
    parameterCount: countParameters(table),
    maxTokens,
    labels,
    plan: (texts) => encoded(texts).parts,
    probabilities,
    entailment: Effect.fn("Classifier.entailment")(function* (pairs) {
      const at = labels.findIndex((label) => /^entail/i.test(label))
      if (at < 0) {
        const detail = `${source}: no class of (${labels.join(", ")}) is called entailment: name it so in id2label of config.json`
        return yield* fail(new BadRequest({ detail }))
      }
      return Float32Array.from(yield* probabilities(pairs), (row) => row[at]!)
    }),
    trainer: Effect.fn("Classifier.trainer")(function* (optimizer, { wordDropout } = {}) {
      const objective = classification()
      const trainer = yield* makeTrainer({
        name: `classifier.${objective.name}`,
        table,
        weights,
        optimizer,
        build: (own) =>
          objective.build(
            { logits: classify(config, own, textInputs()), totalRows: input("totalRows", "f32", []) },
            { labels: input("batch:labels", "i32", ["rows"]) }
          ),
        beforeChange: Effect.void
      }).pipe(Effect.provideService(Device, device), Effect.provideService(FileSystem, fs))
      const update = Effect.fn("ClassifierTrainer.update")(function* (
        texts: ReadonlyArray<TextOrPair>,
        classes: ReadonlyArray<number>
      ) {
        const wrong = classes.find((label) => !(Number.isInteger(label) && label >= 0 && label < labels.length))
        if (texts.length === 0 || texts.length !== classes.length || wrong !== undefined) {
          const what = wrong === undefined ? `${texts.length} texts and ${classes.length} classes` : `class ${wrong}`
          const detail = `a batch is texts and as many classes in 0..${labels.length - 1}, not ${what}`
          return yield* fail(new BadRequest({ detail }))
        }
        const done = yield* trainer.updates
        const rows = texts.map((text, i) => {
          const whole = encodeRow(tokenizer, text, maxTokens)
          return wordDropout === undefined ? whole : dropWords(whole, wordDropout, tokenizer.special, done, i)
        })
        const lengths = rows.map(({ ids }) => ids.length)
        const { padding, parts } = planMicroBatches(lengths, placesOfTexts(config, device.info.batch))
        for (const part of parts) {
          yield* trainer.accumulate({
            ...packTexts(
              part.map((row) => rows[row]!),
              pad
            ),
            totalRows: scalar(rows.length),
            "batch:labels": i32(
              [part.length],
              part.map((row) => classes[row]!)
            )
          })
        }
        const { gradNorm, learningRate, logs, loss, updates } = yield* trainer.apply
        return {
          metrics: { loss, grad_norm: gradNorm, learning_rate: learningRate, updates, ...logs },
          tokens: lengths.reduce((a, b) => a + b, 0),
          padding
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
  return classifier
})
