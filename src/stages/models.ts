/** Encoders as the stages use them: texts to unit embeddings, with what the `estimator` stage found out about them. */
import { existsSync } from "node:fs"
import { join } from "node:path"
import { Effect, Schema } from "effect"
import { FileSystem } from "effect/FileSystem"
import * as SentenceEncoder from "../models/SentenceEncoder.ts"
import type { Rows } from "../rewards/matching.ts"

/**
 * `estimator.json` in an encoder's folder. Thresholds are cosines; the defaults are the paper's, for its own encoder.
 */
export const EstimatorCard = Schema.Struct({
  prefix: Schema.Literals(["strip", "keep"]),
  thresholds: Schema.Struct({ coverage: Schema.Finite, uniqueness: Schema.Finite })
})
export type EstimatorCard = typeof EstimatorCard.Type

export const estimatorCardFile = "estimator.json"

/** Whether an encoder's folder says what was found out about it; one on the hub does not. */
export const isCalibrated = (folder: string): boolean => existsSync(join(folder, estimatorCardFile))

/** OP-GRPO's thresholds (arXiv 2602.20759), which belong to its fine-tuned mpnet. */
export const paperCard: EstimatorCard = { prefix: "strip", thresholds: { coverage: 0.7, uniqueness: 0.78 } }

/** Embeddings as rows of one matrix [texts, width]. */
export const asRows = (embeddings: ReadonlyArray<Float32Array>): Rows => {
  const width = embeddings[0]?.length ?? 0
  const data = new Float32Array(embeddings.length * width)
  embeddings.forEach((row, k) => {
    data.set(row, k * width)
  })
  return { rows: embeddings.length, width, data }
}

/** An encoder from its folder, with its card, or the paper's where it has none. */
export const openEncoder = Effect.fn("openEncoder")(function* (dir: string) {
  const fs = yield* FileSystem
  const encoder = yield* SentenceEncoder.load(dir)
  const file = `${dir}/${estimatorCardFile}`
  const known = yield* fs.exists(file).pipe(Effect.orDie)
  const card = known
    ? yield* fs
        .readFileString(file)
        .pipe(Effect.flatMap(Schema.decodeEffect(Schema.fromJsonString(EstimatorCard))), Effect.orDie)
    : paperCard
  return {
    encoder,
    prefix: card.prefix,
    calibrated: card.thresholds,
    embed: (texts: ReadonlyArray<string>) => Effect.map(encoder.embed(texts), asRows)
  }
})
