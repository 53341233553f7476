/**
 * Uniqueness: how few of an answer's perspectives say what an earlier one said.
 *
 *     rate = (K - redundant) / K,   value = ladder(rate) in {0, .4, .75, 1}  or  rate
 *
 * Scan: for i ascending, skipping redundant i, every j > i with cosine(i, j) >= threshold (0.78 for the authors'
 * estimator) becomes redundant. The rate is 1 for K <= 1, so text without form counts as unique (pitfall P2);
 * `unformatted: no-uniqueness` gives such text 0. OP-GRPO, arXiv 2602.20759, and `_uniqueness_rate`.
 */
import { Schema } from "effect"
import { type Rows, similarities } from "./matching.ts"
import type { RewardPart } from "./part.ts"
import { Shape, shapeUniqueness } from "./shaping.ts"
import { resolveThreshold, Threshold } from "./threshold.ts"

export interface UniquenessParams {
  readonly weight: number
  readonly shape: Shape
  readonly threshold: Threshold
}

/** Share of candidates [K, d] that repeat no earlier one, in (0, 1]; 1 for K <= 1. */
export const uniquenessRate = (candidates: Rows, threshold: number): number => {
  const count = candidates.rows
  if (count <= 1) return 1
  const { data } = similarities(candidates, candidates)
  const redundant = new Uint8Array(count)
  for (let i = 0; i < count; i++) {
    if (redundant[i]) continue
    for (let j = i + 1; j < count; j++) if (data[i * count + j]! >= threshold) redundant[j] = 1
  }
  return redundant.reduce((left, flag) => left - flag, count) / count
}

export const uniqueness: RewardPart<"uniqueness", UniquenessParams> = {
  name: "uniqueness",
  module: import.meta.url,
  embeddings: true,
  fields: { weight: Schema.Finite, shape: Shape, threshold: Threshold },
  defaults: { weight: 0.3, shape: "ladder", threshold: "calibrated" },
  help: {
    weight: "weight in the reward",
    shape: "ladder: the paper's rungs, {0, .4, .75, 1}; linear: the rate itself",
    threshold: "cosine from which a candidate repeats an earlier one; 0.78 belongs to the authors' estimator"
  },
  score: ({ answer, candidateEmbeddings, options, calibrated }, { shape, threshold }) => {
    const refused = options.unformatted === "no-uniqueness" && !answer.strict
    const rate = refused ? 0 : uniquenessRate(candidateEmbeddings, resolveThreshold(threshold, calibrated.uniqueness))
    return { value: shapeUniqueness(rate, shape), rates: { uniqueness_rate: rate } }
  }
}
