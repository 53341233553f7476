/**
 * Shaping: from a rate in [0, 1] to the value of a reward part.
 *
 * OP-GRPO does not reward the coverage or uniqueness *rate* but the rung of a ladder it stands on (arXiv 2602.20759;
 * the authors' `_bucket_reward` and `_uniq_bucket`). `linear` is the alternative for the ablation: the same range,
 * no rungs.
 *
 * Rates are quotients of small integers, so a rate can stand exactly on a rung (3/5 on 0.6). Rungs are therefore
 * compared with a tolerance of 1e-9, far below the distance of any two quotients that occur.
 */
import { Schema } from "effect"

/** How a rate becomes a value. */
export const Shape = Schema.Literals(["ladder", "linear"])
export type Shape = typeof Shape.Type

const tolerance = 1e-9

/** Coverage ladder: 0 -> 0, (0, .2) -> 1, [.2, .4) -> 2, [.4, .6) -> 3, [.6, .8) -> 4, [.8, 1] -> 5. */
export const coverageLadder = (rate: number): number =>
  rate === 0 ? 0 : Math.min(5, Math.floor(rate * 5 + tolerance) + 1)

/** Uniqueness ladder: 1 -> 1, (.8, 1) -> .75, (.6, .8] -> .4, [0, .6] -> 0. */
export const uniquenessLadder = (rate: number): number =>
  rate >= 1 - tolerance ? 1 : rate > 0.8 + tolerance ? 0.75 : rate > 0.6 + tolerance ? 0.4 : 0

/** Coverage rate in [0, 1] to a value in [0, 5]. */
export const shapeCoverage = (rate: number, shape: Shape): number =>
  shape === "ladder" ? coverageLadder(rate) : 5 * rate

/** Uniqueness rate in [0, 1] to a value in [0, 1]. */
export const shapeUniqueness = (rate: number, shape: Shape): number =>
  shape === "ladder" ? uniquenessLadder(rate) : rate
