/**
 * Coverage of a window of references by an answer's candidates, judged by a similarity estimator.
 *
 *     coverage  = matched pairs / M (one-to-one, cosine >= threshold)      "relative accuracy" of OP-GRPO's evaluation
 *     complete  = 1 if all M are matched                                   "absolute accuracy"
 *     at_m      = coverage by the first M candidates only: what line dumping gains is left out
 *     precision = share of candidates that come near some reference (not one-to-one)
 *     f1        = harmonic mean of coverage and precision
 *     unique    = share of candidates that repeat no earlier one, by the scan of OP-GRPO's reward; an answer without
 *                 candidates has nothing unique: 0, where the reward says 1
 *
 * OP-GRPO, arXiv 2602.20759, and the authors' `eval_pipeline.py` (coverage, complete); the others are controls.
 */
import { coverageRate } from "../rewards/coverage.ts"
import { type Matching, match, type Pair, type Rows, similarities } from "../rewards/matching.ts"
import { uniquenessRate } from "../rewards/uniqueness.ts"

export interface CoverageScores {
  /** Pairs of a reference (row) and a candidate (column), best first. */
  readonly pairs: ReadonlyArray<Pair>
  readonly coverage: number
  readonly complete: number
  readonly atM: number
  readonly precision: number
  readonly f1: number
}

const firstRows = (rows: Rows, count: number): Rows => ({
  rows: Math.min(rows.rows, count),
  width: rows.width,
  data: rows.data
})

/** Scores one answer: unit embeddings of references [M, d] and candidates [K, d]. All 0 if either side is empty. */
export const estimatorCoverage = (
  references: Rows,
  candidates: Rows,
  threshold: number,
  matching: Matching = "greedy"
): CoverageScores => {
  if (references.rows === 0 || candidates.rows === 0) {
    return { pairs: [], coverage: 0, complete: 0, atM: 0, precision: 0, f1: 0 }
  }
  const similarity = similarities(references, candidates)
  const pairs = match(similarity, threshold, matching)
  let near = 0
  for (let column = 0; column < similarity.columns; column++) {
    for (let row = 0; row < similarity.rows; row++) {
      if (similarity.data[row * similarity.columns + column]! >= threshold) {
        near++
        break
      }
    }
  }
  const coverage = pairs.length / references.rows
  const precision = near / candidates.rows
  return {
    pairs,
    coverage,
    complete: pairs.length === references.rows ? 1 : 0,
    atM: coverageRate(references, firstRows(candidates, references.rows), threshold, matching).rate,
    precision,
    f1: coverage + precision === 0 ? 0 : (2 * coverage * precision) / (coverage + precision)
  }
}

/** Share of an answer's candidates [K, d] that repeat no earlier one, in [0, 1]. */
export const estimatorUniqueness = (candidates: Rows, threshold: number): number =>
  candidates.rows === 0 ? 0 : uniquenessRate(candidates, threshold)

/** How many of how many references an answer matched. */
export interface MatchedCount {
  readonly matched: number
  readonly references: number
}

/** The two accuracies of OP-GRPO's evaluation logs over answers, from their matched counts; NaN without answers. */
export const accuracies = (
  counts: ReadonlyArray<MatchedCount>
): { readonly relative: number; readonly absolute: number } => {
  let relative = 0
  let absolute = 0
  for (const { matched, references } of counts) {
    relative += matched / references
    absolute += matched === references ? 1 : 0
  }
  return { relative: relative / counts.length, absolute: absolute / counts.length }
}
