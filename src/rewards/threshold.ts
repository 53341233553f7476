/**
 * A similarity threshold: a cosine, or `calibrated`, the one the estimator's own stage found on held-out judged pairs.
 * OP-GRPO's 0.70 (coverage) and 0.78 (uniqueness) belong to its fine-tuned mpnet and to no other encoder.
 */
import { Schema } from "effect"

export const Threshold = Schema.Union([Schema.Literal("calibrated"), Schema.Finite])
export type Threshold = typeof Threshold.Type

export const resolveThreshold = (threshold: Threshold, calibrated: number): number =>
  threshold === "calibrated" ? calibrated : threshold
