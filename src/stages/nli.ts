/**
 * A classifier of sentence pairs (entailment, neutral, contradiction): cross-entropy on a cross-encoder, from scratch on a
 * world's pairs, or from a checkpoint. Only the evaluation reads it; its paraphrase family is its own, so it shares no
 * template with the policy or the estimator.
 */
import { Effect, Schema } from "effect"
import { optional } from "../artifact/Kind.ts"
import { Classifier, NliPairs } from "../artifact/kinds.ts"
import type { NliLabel } from "../data/records.ts"
import * as Param from "../dsl/param.ts"
import * as Stage from "../dsl/Stage.ts"
import { Task } from "../dsl/Task.ts"
import { classAgreement } from "../metrics/classification.ts"
import * as ClassifierModel from "../models/Classifier.ts"
import { optimizerFields, optimizerSettings } from "./optimizing.ts"
import { stepRows } from "./order.ts"
import { scratchFields, scratchModel, wordsOf } from "./scratch.ts"
import { runSteps } from "./steps.ts"

/** Classes of a classifier from scratch, in order of its outputs. */
const labels = ["entailment", "neutral", "contradiction"] as const

export const NliParams = Param.struct({
  ...scratchFields({ hiddenSize: 64, layers: 2, heads: 4, intermediateSize: 128, maxPositions: 24 }),
  steps: Param.int(300, "optimizer updates", { min: 0 }),
  batchSize: Param.int(64, "pairs per update", { min: 1 }),
  ...optimizerFields({ learningRate: 2e-3, schedule: "linear", warmupSteps: 20, weightDecay: 0.01 }),
  heldOut: Param.number(0.1, "share of the pairs to measure on", { min: 0, below: 1 }),
  wordDropout: Param.number(0.1, "scratch: share of words that become the unknown word in training", {
    min: 0,
    below: 1
  })
})

export class OtherClasses extends Schema.TaggedError<OtherClasses>()("OtherClasses", {
  found: Schema.Array(Schema.String)
}) {
  override get message() {
    return `nli: the classifier's classes are (${this.found.join(", ")}); to be trained it needs ${labels.join(", ")}: name them so in id2label of its config.json, or set \`nli.steps: 0\` to use it as it is`
  }
}

export const nli = Stage.make("nli", {
  module: import.meta.url,
  version: 1,
  params: NliParams,
  inputs: { base: optional(Classifier), pairs: NliPairs },
  outputs: { classifier: Classifier },
  seeded: true,
  device: true,
  metrics: {
    loss: "lower",
    accuracy: "higher",
    grad_norm: "none",
    learning_rate: "none",
    updates: "none",
    "nli/accuracy": "higher",
    "nli/f1": "higher",
    "perf/*": "none"
  },
  run: Effect.fn("stage.nli")(function* ({ inputs, outputs, params, seed }) {
    const task = yield* Task
    const pairs = yield* inputs.pairs.rows
    const held = Math.floor(pairs.length * params.heldOut)
    const [test, train] = [pairs.slice(0, held), pairs.slice(held)]
    const classifier = inputs.base
      ? yield* ClassifierModel.load(inputs.base.dir)
      : yield* ClassifierModel.create({
          ...scratchModel(params, wordsOf(train.flatMap(({ hypothesis, premise }) => [premise, hypothesis])), labels),
          wordDeviation: 0.1,
          seed
        })
    const names = classifier.labels.map((name) => name.toLowerCase())
    const classOf = (label: NliLabel) => names.indexOf(label)
    if (params.steps > 0) {
      if (!labels.every((label) => names.includes(label))) return yield* new OtherClasses({ found: classifier.labels })
      const trainer = yield* classifier.trainer(
        optimizerSettings(params, params.steps),
        inputs.base ? {} : { wordDropout: { rate: params.wordDropout, seed } }
      )
      const rowsOf = stepRows(seed, "nli", train.length, params.batchSize)
      yield* runSteps({
        total: params.steps,
        restore: (dir) => trainer.restore(`${dir}/trainer.safetensors`),
        save: (dir) => trainer.checkpoint(`${dir}/trainer.safetensors`),
        step: (k) => {
          const batch = rowsOf(k).map((row) => train[row]!)
          return Effect.map(
            trainer.update(
              batch.map(({ hypothesis, premise }) => [premise, hypothesis] as const),
              batch.map(({ label }) => classOf(label))
            ),
            ({ metrics, padding, tokens }) => ({ ...metrics, tokens, "perf/padding": padding })
          )
        }
      })
    }
    if (test.length > 0) {
      const probabilities = yield* classifier.probabilities(
        test.map(({ hypothesis, premise }) => [premise, hypothesis] as const)
      )
      const said = probabilities.map((row) => names[row.indexOf(Math.max(...row))]!)
      const { accuracy, macroF1 } = classAgreement(
        said,
        test.map(({ label }) => label)
      )
      yield* task.metrics(params.steps, { "nli/accuracy": accuracy, "nli/f1": macroF1 })
    }
    yield* classifier.save(outputs.classifier.dir)
  })
})
