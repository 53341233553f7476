/**
 * The weight of a reward part: a number, or a straight line over the training steps,
 *
 *     w(k) = from + (to - from) * min(k, steps) / steps      k = 0, 1, ...
 *
 * so that `steps` steps lead from one to the other and the last value stays.
 */
import { Schema } from "effect"

export const WeightSchedule = Schema.Struct({
  from: Schema.Finite.annotate({ description: "weight at step 0" }),
  to: Schema.Finite.annotate({ description: "weight from step `steps` on" }),
  steps: Schema.Int.check(Schema.isGreaterThanOrEqualTo(1)).annotate({ description: "steps from one to the other" })
})

export const Weight = Schema.Union([Schema.Finite, WeightSchedule])
export type Weight = typeof Weight.Type

/** The weight at step `step` (from 0). */
export const weightAt = (weight: Weight, step: number): number =>
  typeof weight === "number"
    ? weight
    : weight.from + (weight.to - weight.from) * (Math.min(step, weight.steps) / weight.steps)
