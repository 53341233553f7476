/**
 * Sampler against trainer: the two compute the log-probabilities of the sampled tokens by different programs, and
 * policy gradients are only right if they agree. Checked every step on the rows of the first update, which computes the
 * trainer's side anyway; a breach fails the task.
 */
import { Effect, Schema } from "effect"
import { samplingDifference } from "../models/samplingDifference.ts"

/** Bounds in float32 (docs/log.md): above them something is wrong, not merely rounded. */
const bounds = { mean: 2e-5, p999: 1e-4, max: 1e-3 } as const

export class SamplerDiffers extends Schema.TaggedError<SamplerDiffers>()("SamplerDiffers", {
  statistic: Schema.String,
  value: Schema.Finite,
  bound: Schema.Finite
}) {
  override get message() {
    return `sampler and trainer disagree: the ${this.statistic} difference of log-probabilities is ${this.value}, bound ${this.bound}. The gradient would be wrong. Weights may have grown beyond float32's precision (lower the learning rate); otherwise this is a bug: report it with this run's YAML.`
  }
}

/**
 * Differences over the tokens of some rows, as metrics; `SamplerDiffers` where they are too large. Both sides before any
 * update of the step.
 */
export const differences = Effect.fn("samplerCheck")(function* (
  sampler: ReadonlyArray<Float32Array>,
  trainer: ReadonlyArray<Float32Array>
) {
  const found = samplingDifference(sampler, trainer)
  for (const statistic of ["mean", "p999", "max"] as const) {
    const value = found[statistic]
    if (!(value <= bounds[statistic])) {
      return yield* new SamplerDiffers({ statistic, value, bound: bounds[statistic] })
    }
  }
  return {
    "sampling/logp_difference/max": found.max,
    "sampling/logp_difference/mean": found.mean,
    "sampling/logp_difference/p999": found.p999
  }
})
