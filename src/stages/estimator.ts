/**
 * The similarity estimator ("OP-SBERT" of OP-GRPO, arXiv 2602.20759, `train_st`): an encoder fine-tuned on triplets by
 * multiple negatives ranking,
 *
 *     loss = mean over anchors of -log softmax(scale * cos(anchor, positives and negatives of the batch))[own positive]
 *
 * then measured on held-out triplets, and its thresholds calibrated on judged pairs: coverage across paraphrase
 * families (a policy's style against the references'), uniqueness within one. Thresholds calibrated within one family
 * only would miss the policy's own lines. Written beside the weights as `estimator.json`.
 *
 * A scratch encoder reads a word-level vocabulary of its training texts; word dropout teaches it an unknown word, without
 * which the random embeddings of unseen words wreck matching across families. With 0 steps the encoder passes through
 * untrained, and thresholds are still calibrated. A step of progress after the updates is a micro-batch of embedding; what
 * was trained is kept before the first, so that a kill there costs no update.
 */
import { Effect, Option, Schema } from "effect"
import { FileSystem } from "effect/FileSystem"
import { optional } from "../artifact/Kind.ts"
import { Checkpoint, Encoder, JudgedPairs, Triplets } from "../artifact/kinds.ts"
import type { JudgedPair, Triplet } from "../data/records.ts"
import * as Param from "../dsl/param.ts"
import * as Stage from "../dsl/Stage.ts"
import { Task } from "../dsl/Task.ts"
import { agreementAt, calibrateThreshold, tripletAccuracy } from "../metrics/classification.ts"
import * as SentenceEncoder from "../models/SentenceEncoder.ts"
import { contrastive } from "../objectives/contrastive.ts"
import { stripPerspective } from "../rewards/grammar.ts"
import { type EstimatorCard, estimatorCardFile } from "./models.ts"
import { finalOf, growing, optimizerFields, optimizerSettings } from "./optimizing.ts"
import { stepRows } from "./order.ts"
import { scratchFields, scratchModel, wordsOf } from "./scratch.ts"
import { runSteps } from "./steps.ts"

export const EstimatorParams = Param.struct({
  ...scratchFields({ hiddenSize: 64, layers: 2, heads: 4, intermediateSize: 128, maxPositions: 16 }),
  prefix: Param.literal(
    ["strip", "keep"],
    "strip",
    'whether texts are read with their leading "In the perspective of NAME, " (pitfall P6)'
  ),
  steps: Param.int(180, "optimizer updates", { min: 0 }),
  batchSize: Param.int(64, "triplets per update; no two of a batch share an anchor or a positive", { min: 2 }),
  ...optimizerFields({ learningRate: 2e-3, schedule: "linear", warmupSteps: 20, weightDecay: 0.01 }),
  scale: Param.number(20, "inverse temperature of the softmax over cosines; OP-SBERT's is 70", { above: 0 }),
  wordDropout: Param.number(0.1, "scratch encoders: share of words that become the unknown word in training", {
    min: 0,
    below: 1
  })
})

export class NoTriplets extends Schema.TaggedError<NoTriplets>()("NoTriplets", {}) {
  override get message() {
    return "estimator: there are no triplets to train on; set `estimator.steps: 0` to use the base encoder as it is"
  }
}

/** Rows of a batch without repeated texts: a repeated one would be its own negative. */
const distinct = (rows: ReadonlyArray<Triplet>): ReadonlyArray<Triplet> => {
  const seen = new Set<string>()
  return rows.filter(({ anchor, positive }) => {
    if (seen.has(anchor) || seen.has(positive)) return false
    seen.add(anchor).add(positive)
    return true
  })
}

const cosine = (a: Float32Array, b: Float32Array) => a.reduce((sum, x, i) => sum + x * b[i]!, 0)

export const estimator = Stage.make("estimator", {
  module: import.meta.url,
  version: 1,
  params: EstimatorParams,
  inputs: {
    base: optional(Encoder),
    triplets: optional(Triplets),
    heldOut: optional(Triplets),
    across: optional(JudgedPairs),
    within: optional(JudgedPairs)
  },
  outputs: { estimator: Encoder, checkpoint: Checkpoint },
  seeded: true,
  device: true,
  grows: growing,
  metrics: {
    loss: "lower",
    accuracy: "higher",
    grad_norm: "none",
    learning_rate: "none",
    updates: "none",
    "estimator/triplet_accuracy": "higher",
    "estimator/threshold/*": "none",
    "estimator/f1/*": "higher",
    "estimator/accuracy/*": "higher",
    "perf/*": "none"
  },
  run: Effect.fn("stage.estimator")(function* ({ inputs, outputs, params, seed }) {
    const task = yield* Task
    const fs = yield* FileSystem
    const read = params.prefix === "strip" ? stripPerspective : (text: string) => text
    const rows = inputs.triplets
      ? (yield* inputs.triplets.rows).map(
          ({ anchor, negative, positive }): Triplet => ({
            anchor: read(anchor),
            positive: read(positive),
            negative: read(negative)
          })
        )
      : []
    const encoder = inputs.base
      ? yield* SentenceEncoder.load(inputs.base.dir)
      : yield* SentenceEncoder.create({
          ...scratchModel(params, wordsOf(rows.flatMap((row) => [row.anchor, row.positive, row.negative])), []),
          wordDeviation: 0.1,
          seed
        })
    const held = inputs.heldOut ? yield* inputs.heldOut.rows : []
    const across = inputs.across ? yield* inputs.across.rows : undefined
    const within = inputs.within ? yield* inputs.within.rows : undefined
    const sides = (pairs: ReadonlyArray<JudgedPair> = []) => [
      pairs.map(({ left }) => left),
      pairs.map(({ right }) => right)
    ]
    const lists = [
      held.map(({ anchor }) => anchor),
      held.map(({ positive }) => positive),
      held.map(({ negative }) => negative),
      ...sides(across),
      ...sides(within)
    ].map((texts) => texts.map(read))
    const plans = lists.map((texts) => encoder.plan(texts))
    const total = params.steps + plans.flat().length

    if (params.steps > 0) {
      if (rows.length === 0) return yield* new NoTriplets()
      const trainer = yield* encoder.trainer(
        contrastive({ scale: params.scale }),
        optimizerSettings(params, params.steps),
        inputs.base ? {} : { wordDropout: { rate: params.wordDropout, seed } }
      )
      const rowsOf = stepRows(seed, "estimator", rows.length, params.batchSize)
      const save = (dir: string) => trainer.checkpoint(`${dir}/trainer.safetensors`)
      yield* runSteps({
        total: params.steps,
        final: finalOf(params, outputs.checkpoint),
        restore: (dir) => trainer.restore(`${dir}/trainer.safetensors`),
        save,
        step: (k) => {
          const batch = distinct(rowsOf(k).map((row) => rows[row]!))
          return Effect.map(
            trainer.update(batch.map(({ anchor, negative, positive }) => [anchor, positive, negative])),
            ({ metrics, padding, tokens }) => ({ ...metrics, tokens, "perf/padding": padding })
          )
        }
      }).pipe(Effect.provideService(Task, { ...task, progress: (step) => task.progress(step, total) }))
      const resumed = Option.getOrUndefined(yield* task.resume)
      if (resumed?.step !== params.steps && total > params.steps && (yield* task.checkpointDue)) {
        yield* task.checkpoint(params.steps, null, save)
      }
    }

    let embedded = 0
    const embed = Effect.fnUntraced(function* (list: number) {
      const texts = lists[list]!
      const embeddings = new Array<Float32Array>(texts.length)
      for (const part of plans[list]!) {
        const own = yield* encoder.embed(part.map((row) => texts[row]!))
        part.forEach((row, k) => {
          embeddings[row] = own[k]!
        })
        yield* task.progress(params.steps + ++embedded, total)
      }
      return embeddings
    })
    const found: Record<string, number> = {}
    if (inputs.heldOut) {
      const [anchors, positives, negatives] = [yield* embed(0), yield* embed(1), yield* embed(2)]
      found["estimator/triplet_accuracy"] = tripletAccuracy(
        anchors.map((anchor, k) => cosine(anchor, positives[k]!)),
        anchors.map((anchor, k) => cosine(anchor, negatives[k]!))
      )
    }
    const calibrate = Effect.fnUntraced(function* (
      name: "coverage" | "uniqueness",
      pairs: ReadonlyArray<JudgedPair> | undefined,
      list: number
    ) {
      if (pairs === undefined) return {}
      const [left, right] = [yield* embed(list), yield* embed(list + 1)]
      const judged = { similarities: left.map((a, k) => cosine(a, right[k]!)), same: pairs.map(({ same }) => same) }
      const { threshold } = calibrateThreshold(judged, "accuracy")
      const { accuracy, f1 } = agreementAt(judged, threshold)
      found[`estimator/threshold/${name}`] = threshold
      found[`estimator/f1/${name}`] = f1
      found[`estimator/accuracy/${name}`] = accuracy
      return { [name]: threshold }
    })
    const card: EstimatorCard = {
      prefix: params.prefix,
      thresholds: { ...(yield* calibrate("coverage", across, 3)), ...(yield* calibrate("uniqueness", within, 5)) }
    }
    yield* task.metrics(params.steps, found)
    yield* encoder.save(outputs.estimator.dir)
    yield* fs
      .writeFileString(`${outputs.estimator.dir}/${estimatorCardFile}`, `${JSON.stringify(card, null, 2)}\n`)
      .pipe(Effect.orDie)
  })
})
