/**
 * A classifier of sentence pairs (entailment, neutral, contradiction): cross-entropy on a cross-encoder, from scratch on a
 * world's pairs, or from a checkpoint. Only the evaluation reads it; its paraphrase family is its own, so it shares no
 * template with the policy or the estimator.
 *
 * From scratch, the encoder first learns by multiple negatives ranking that a premise is near to what it entails. That
 * words on either side belong together is all that tells entailment from neutral; by itself a cross-encoder finds it
 * late or never (docs/stages/nli.md).
 */
import { mkdir } from "node:fs/promises"
import { Effect, Schema } from "effect"
import { optional } from "../artifact/Kind.ts"
import { Checkpoint, Classifier, NliPairs } from "../artifact/kinds.ts"
import type { NliLabel, NliPair } from "../data/records.ts"
import * as Param from "../dsl/param.ts"
import * as Stage from "../dsl/Stage.ts"
import { Task } from "../dsl/Task.ts"
import { classAgreement } from "../metrics/classification.ts"
import * as ClassifierModel from "../models/Classifier.ts"
import * as SentenceEncoder from "../models/SentenceEncoder.ts"
import { contrastive } from "../objectives/contrastive.ts"
import { finalOf, growing, optimizerFields, optimizerSettings } from "./optimizing.ts"
import { stepRows } from "./order.ts"
import { scratchFields, scratchModel, wordsOf } from "./scratch.ts"
import { runSteps } from "./steps.ts"

/** Classes of a classifier from scratch, in order of its outputs. */
const labels = ["entailment", "neutral", "contradiction"] as const

export const NliParams = Param.struct({
  ...scratchFields({ hiddenSize: 64, layers: 2, heads: 4, intermediateSize: 128, maxPositions: 24 }),
  alignSteps: Param.int(
    250,
    "scratch: updates by which entailed sentences become near, before the classifier's own; none with 0 steps",
    {
      min: 0
    }
  ),
  steps: Param.int(500, "optimizer updates of the classifier; with 0 it passes through as it is, or as it was made", {
    min: 0
  }),
  batchSize: Param.int(64, "pairs per update", { min: 2 }),
  ...optimizerFields({ learningRate: 2e-3, schedule: "linear", warmupSteps: 20, weightDecay: 0.01 }),
  heldOut: Param.number(0.1, "share of the pairs to measure on", { min: 0, below: 1 }),
  wordDropout: Param.number(0.15, "scratch: share of words that become the unknown word in training", {
    min: 0,
    below: 1
  })
})
type Settings = typeof NliParams.Type

export class OtherClasses extends Schema.TaggedError<OtherClasses>()("OtherClasses", {
  found: Schema.Array(Schema.String)
}) {
  override get message() {
    return `nli: the classifier's classes are (${this.found.join(", ")}); to be trained it needs ${labels.join(", ")}: name them so in id2label of its config.json, or set \`nli.steps: 0\` to use it as it is`
  }
}

const both = ({ hypothesis, premise }: NliPair) => [premise, hypothesis] as const

/** A scratch model's size and words; the encoder and the classifier that it becomes share both. */
const scratch = (params: Settings, train: ReadonlyArray<NliPair>, seed: number) => ({
  ...scratchModel(params, wordsOf(train.flatMap(both)), labels),
  wordDeviation: 0.1,
  seed
})

/** The encoder's lessons: entailed pairs, each premise against all hypotheses of its batch. */
const aligning = Effect.fnUntraced(function* (params: Settings, train: ReadonlyArray<NliPair>, seed: number) {
  const { config, ...made } = scratch(params, train, seed)
  const encoder = yield* SentenceEncoder.create({ ...made, config: { ...config, labels: [] } })
  const entailed = train.filter(({ label }) => label === "entailment")
  const trainer = yield* encoder.trainer(contrastive(), optimizerSettings(params, params.alignSteps), {
    texts: 2,
    wordDropout: { rate: params.wordDropout, seed }
  })
  const rowsOf = stepRows(seed, "nli/align", entailed.length, params.batchSize)
  return { encoder, trainer, update: (k: number) => trainer.update(rowsOf(k).map((row) => both(entailed[row]!))) }
})

/** The classifier's lessons. */
const classifying = Effect.fnUntraced(function* (
  classifier: ClassifierModel.Classifier,
  params: Settings,
  train: ReadonlyArray<NliPair>,
  seed: number,
  dropWords: boolean
) {
  const names = classifier.labels.map((name) => name.toLowerCase())
  if (!labels.every((label) => names.includes(label))) return yield* new OtherClasses({ found: classifier.labels })
  const trainer = yield* classifier.trainer(
    optimizerSettings(params, params.steps),
    dropWords ? { wordDropout: { rate: params.wordDropout, seed } } : {}
  )
  const rowsOf = stepRows(seed, "nli", train.length, params.batchSize)
  const update = (k: number) => {
    const batch = rowsOf(k).map((row) => train[row]!)
    return trainer.update(
      batch.map(both),
      batch.map(({ label }) => names.indexOf(label))
    )
  }
  return { trainer, update }
})

const checkpointFile = (dir: string) => `${dir}/trainer.safetensors`
const Phase = Schema.Struct({ phase: Schema.Literals(["align", "classify"]) })

/** A classifier from scratch, taught: first as an encoder, then as what it is. */
const taughtFromScratch = Effect.fnUntraced(function* (
  params: Settings,
  train: ReadonlyArray<NliPair>,
  seed: number,
  final: string | undefined
) {
  const task = yield* Task
  const first = params.steps === 0 ? 0 : params.alignSteps
  const create = (encoder?: string) =>
    Effect.gen(function* () {
      const made = scratch(params, train, seed)
      const classifier = yield* ClassifierModel.create(encoder === undefined ? made : { ...made, encoder })
      return { classifier, ...(yield* classifying(classifier, params, train, seed, true)) }
    })
  let aligner = first > 0 ? yield* aligning(params, train, seed) : undefined
  let learner = first > 0 ? undefined : yield* create()
  const learned = Effect.fnUntraced(function* () {
    if (learner !== undefined) return learner
    const folder = `${task.scratch}/aligned`
    yield* Effect.promise(() => mkdir(folder, { recursive: true }))
    yield* aligner!.encoder.save(folder)
    aligner = undefined
    learner = yield* create(folder)
    return learner
  })
  yield* runSteps({
    total: first + params.steps,
    final,
    state: (): typeof Phase.Type => ({ phase: learner === undefined ? "align" : "classify" }),
    save: (dir) => (learner ?? aligner)!.trainer.checkpoint(checkpointFile(dir)),
    restore: (dir, state) =>
      Effect.gen(function* () {
        const { phase } = yield* Schema.decodeUnknownEffect(Phase)(state).pipe(Effect.orDie)
        if (phase === "classify") learner ??= yield* create()
        yield* (learner ?? aligner)!.trainer.restore(checkpointFile(dir))
      }),
    step: (k) =>
      Effect.gen(function* () {
        const align = k < first
        const { metrics, padding, tokens } = yield* align
          ? aligner!.update(k)
          : Effect.flatMap(learned(), ({ update }) => update(k - first))
        const { accuracy, loss, ...rest } = metrics
        const named = align
          ? { "align/loss": loss!, "align/accuracy": accuracy! }
          : { loss: loss!, accuracy: accuracy! }
        return { ...rest, ...named, updates: k + 1, tokens, "perf/padding": padding }
      })
  })
  return (yield* learned()).classifier
})

const taught = Effect.fnUntraced(function* (
  base: string,
  params: Settings,
  train: ReadonlyArray<NliPair>,
  seed: number,
  final: string | undefined
) {
  const classifier = yield* ClassifierModel.load(base)
  if (params.steps === 0) return classifier
  const { trainer, update } = yield* classifying(classifier, params, train, seed, false)
  yield* runSteps({
    total: params.steps,
    final,
    restore: (dir) => trainer.restore(checkpointFile(dir)),
    save: (dir) => trainer.checkpoint(checkpointFile(dir)),
    step: (k) =>
      Effect.map(update(k), ({ metrics, padding, tokens }) => ({ ...metrics, tokens, "perf/padding": padding }))
  })
  return classifier
})

/**
 * Where the truth is known: the accuracy against it, and what a classifier that knew it would have against the labels, which
 * err. Accuracy against labels comes no nearer to 1 than that ceiling but by luck.
 */
const ceiling = (held: ReadonlyArray<NliPair>, said: ReadonlyArray<string>): Readonly<Record<string, number>> => {
  const truth = held.flatMap((pair) => pair.truth ?? [])
  return truth.length < held.length
    ? {}
    : {
        "nli/accuracy_true": classAgreement(said, truth).accuracy,
        "nli/ceiling": held.filter(({ label }, k) => label === truth[k]).length / held.length
      }
}

export const nli = Stage.make("nli", {
  module: import.meta.url,
  version: 1,
  params: NliParams,
  inputs: { base: optional(Classifier), pairs: NliPairs },
  outputs: { classifier: Classifier, checkpoint: Checkpoint },
  seeded: true,
  device: true,
  grows: growing,
  metrics: {
    loss: "lower",
    accuracy: "higher",
    "align/loss": "lower",
    "align/accuracy": "higher",
    grad_norm: "none",
    learning_rate: "none",
    updates: "none",
    "nli/accuracy": "higher",
    "nli/accuracy_true": "higher",
    "nli/ceiling": "none",
    "nli/f1": "higher",
    "perf/*": "none"
  },
  run: Effect.fn("stage.nli")(function* ({ inputs, outputs, params, seed }) {
    const task = yield* Task
    const pairs = yield* inputs.pairs.rows
    const held = Math.floor(pairs.length * params.heldOut)
    const [test, train] = [pairs.slice(0, held), pairs.slice(held)]
    const settings = inputs.base || params.steps === 0 ? { ...params, alignSteps: 0 } : params
    const final = params.steps === 0 ? undefined : finalOf(params, outputs.checkpoint)
    const classifier = inputs.base
      ? yield* taught(inputs.base.dir, settings, train, seed, final)
      : yield* taughtFromScratch(settings, train, seed, final)
    if (test.length > 0) {
      const probabilities = yield* classifier.probabilities(test.map(both))
      const said = probabilities.map((row) => classifier.labels[row.indexOf(Math.max(...row))]!.toLowerCase())
      const labels = test.map(({ label }): NliLabel => label)
      const { accuracy, macroF1 } = classAgreement(said, labels)
      yield* task.metrics(settings.alignSteps + params.steps, {
        "nli/accuracy": accuracy,
        "nli/f1": macroF1,
        ...ceiling(test, said)
      })
    }
    yield* classifier.save(outputs.classifier.dir)
  })
})
