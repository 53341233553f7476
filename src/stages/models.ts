/** Encoders as the stages use them: texts to unit embeddings, with what the `estimator` stage found out about them. */
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { Effect, Option, Schema } from "effect"
import { FileSystem } from "effect/FileSystem"
import * as SentenceEncoder from "../models/SentenceEncoder.ts"
import type { Rows } from "../rewards/matching.ts"

/** `estimator.json` in an encoder's folder: how it reads lines, and the thresholds (cosines) that were calibrated for it. */
export const EstimatorCard = Schema.Struct({
  prefix: Schema.Literals(["strip", "keep"]),
  thresholds: Schema.Struct({
    coverage: Schema.optionalKey(Schema.Finite),
    uniqueness: Schema.optionalKey(Schema.Finite)
  })
})
export type EstimatorCard = typeof EstimatorCard.Type

export const estimatorCardFile = "estimator.json"

const decodeCard = Schema.decodeUnknownOption(Schema.fromJsonString(EstimatorCard))

/** Whether an encoder's folder has a threshold of its own for covering; a model on the hub, or one without a card, has not. */
export const isCalibrated = (folder: string): boolean => {
  const file = join(folder, estimatorCardFile)
  if (!existsSync(file)) return false
  const card = decodeCard(readFileSync(file, "utf8"))
  return Option.isSome(card) && card.value.thresholds.coverage !== undefined
}

/** OP-GRPO's thresholds (arXiv 2602.20759), which belong to its fine-tuned mpnet: what stands in for those never calibrated. */
const paperThresholds = { coverage: 0.7, uniqueness: 0.78 }

/** Embeddings as rows of one matrix [texts, width]. */
export const asRows = (embeddings: ReadonlyArray<Float32Array>): Rows => {
  const width = embeddings[0]?.length ?? 0
  const data = new Float32Array(embeddings.length * width)
  embeddings.forEach((row, k) => {
    data.set(row, k * width)
  })
  return { rows: embeddings.length, width, data }
}

/** An encoder from its folder, with its card. `own` says which thresholds are its own; the others are the paper's. */
export const openEncoder = Effect.fn("openEncoder")(function* (dir: string) {
  const fs = yield* FileSystem
  const encoder = yield* SentenceEncoder.load(dir)
  const file = `${dir}/${estimatorCardFile}`
  const known = yield* fs.exists(file).pipe(Effect.orDie)
  const card: EstimatorCard = known
    ? yield* fs
        .readFileString(file)
        .pipe(Effect.flatMap(Schema.decodeEffect(Schema.fromJsonString(EstimatorCard))), Effect.orDie)
    : { prefix: "strip", thresholds: {} }
  return {
    encoder,
    prefix: card.prefix,
    calibrated: { ...paperThresholds, ...card.thresholds },
    own: { coverage: card.thresholds.coverage !== undefined, uniqueness: card.thresholds.uniqueness !== undefined },
    embed: (texts: ReadonlyArray<string>) => Effect.map(encoder.embed(texts), asRows)
  }
})
