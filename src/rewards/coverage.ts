/**
 * Coverage: how much of the window of reference perspectives an answer covers.
 *
 *     rate = matched pairs / M,   value = ladder(rate) in {0..5}  or  5 * rate
 *
 * Pairs: one-to-one matching of M references with K candidates at cosine >= threshold (0.70 for the authors' estimator).
 * The rate is 0 if either side is empty. OP-GRPO, arXiv 2602.20759, section 4 and `vllm_rollout_spmd.py`.
 * Under `surplus: harmonic-mean` (P3) the rate is 2 * pairs / (M + K), so that lines beyond the references cost.
 */
import { Schema } from "effect"
import { type Matching, match, type Rows, similarities } from "./matching.ts"
import type { RewardPart } from "./part.ts"
import { Shape, shapeCoverage } from "./shaping.ts"
import { resolveThreshold, Threshold } from "./threshold.ts"

export interface CoverageParams {
  readonly weight: number
  readonly shape: Shape
  readonly threshold: Threshold
}

/** Share of references matched, in [0, 1], and the pairs' number; `references` [M, d], `candidates` [K, d]. */
export const coverageRate = (
  references: Rows,
  candidates: Rows,
  threshold: number,
  matching: Matching
): { readonly pairs: number; readonly rate: number } => {
  if (references.rows === 0 || candidates.rows === 0) return { pairs: 0, rate: 0 }
  const pairs = match(similarities(references, candidates), threshold, matching).length
  return { pairs, rate: pairs / references.rows }
}

export const coverage: RewardPart<"coverage", CoverageParams> = {
  name: "coverage",
  module: import.meta.url,
  embeddings: true,
  fields: { weight: Schema.Finite, shape: Shape, threshold: Threshold },
  defaults: { weight: 0.3, shape: "ladder", threshold: "calibrated" },
  help: {
    weight: "weight in the reward",
    shape: "ladder: the paper's rungs, {0..5}; linear: 5 * rate",
    threshold: "cosine from which a candidate matches a reference; 0.70 belongs to the authors' estimator"
  },
  score: ({ referenceEmbeddings, candidateEmbeddings, options, calibrated }, { shape, threshold }) => {
    const cosine = resolveThreshold(threshold, calibrated.coverage)
    const { pairs, rate } = coverageRate(referenceEmbeddings, candidateEmbeddings, cosine, options.matching)
    const charged =
      options.surplus === "free" || pairs === 0
        ? rate
        : (2 * pairs) / (referenceEmbeddings.rows + candidateEmbeddings.rows)
    return { value: shapeCoverage(charged, shape), rates: { coverage_rate: charged } }
  }
}
