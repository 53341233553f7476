/**
 * Multiple negatives ranking (InfoNCE with in-batch negatives): the positive of each anchor against all other positives and
 * all hard negatives of the batch. Henderson et al. (1705.00652); sentence-transformers' `MultipleNegativesRankingLoss`.
 *
 *   scores = scale * anchors . (positives ; negatives)^T;   loss = mean_i -log softmax(scores_i)_i
 *
 * Embeddings have length 1, so scores are scaled cosines. Requirements: at least 2 rows; the texts of a row are anchor,
 * positive and any number of negatives; no two rows of a batch mean the same (they would be each other's negatives).
 * Scale: 20 by default, 70 for OP-SBERT. Logs: `accuracy` (share of anchors whose positive scores highest).
 */

import { crossEntropy } from "../tensor/composites/crossEntropy.ts"
import { multiplyDims } from "../tensor/Dim.ts"
import { stopGradient } from "../tensor/ops/control.ts"
import { dot } from "../tensor/ops/dot.ts"
import { cast, equal, mul } from "../tensor/ops/elementwise.ts"
import { iota } from "../tensor/ops/leaf.ts"
import { argMax, reduceMean } from "../tensor/ops/reduce.ts"
import { slice } from "../tensor/ops/shape.ts"
import type { EmbeddingObjective } from "./Objective.ts"

export interface ContrastiveSettings {
  /** Inverse temperature of the softmax over cosines, > 0; default 20. */
  readonly scale?: number
}

export const contrastive = ({ scale = 20 }: ContrastiveSettings = {}): EmbeddingObjective => {
  if (!(scale > 0)) throw new RangeError(`contrastive: the scale must be > 0, not ${scale}`)
  return {
    name: `contrastive(${scale})`,
    inputs: {},
    build: ({ embeddings, rowCount, texts }) => {
      if (texts < 2) throw new RangeError(`contrastive: a row has anchor and positive, not ${texts} text`)
      const anchors = slice(embeddings, 0, 0, rowCount)
      const others = slice(embeddings, 0, rowCount, multiplyDims(rowCount, texts))
      const scores = mul(dot(anchors, others, { transposeRight: true }), scale) // [rows, (texts - 1) * rows]
      const labels = iota([rowCount])
      return {
        loss: reduceMean(crossEntropy(scores, labels)),
        logs: { accuracy: reduceMean(cast(equal(argMax(stopGradient(scores), 1), labels), "f32")) }
      }
    }
  }
}
