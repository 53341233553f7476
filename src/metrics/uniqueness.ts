/**
 * Uniqueness of an answer's candidates by a similarity estimator: the share that repeats no earlier one, by the scan of
 * OP-GRPO's reward (`rewards/uniqueness.ts`). An answer without candidates has nothing unique: 0, where the reward says 1.
 */
import type { Rows } from "../rewards/matching.ts"
import { uniquenessRate } from "../rewards/uniqueness.ts"

/** In [0, 1]; `candidates` are unit embeddings [K, d]. */
export const estimatorUniqueness = (candidates: Rows, threshold: number): number =>
  candidates.rows === 0 ? 0 : uniquenessRate(candidates, threshold)
