/**
 * Sampler against trainer: the two compute the log-probabilities of the sampled tokens by different programs, and
 * policy gradients are only right if they agree. Checked every step on the rows of the first update, which computes the
 * trainer's side anyway; a breach fails the task.
 */
import { Effect, Schema } from "effect"
import type { NumericClass } from "../device/numericClass.ts"
import { type SamplingDifference, samplingDifference } from "../models/samplingDifference.ts"

/**
 * Above these something is wrong, not merely rounded. In float32 small models round less; in bf16 single tokens of large logits
 * may differ by a few roundings of 2^-8, so that the largest says nothing.
 */
const boundsOf = (dtype: NumericClass["dtype"], parameters: number): Partial<SamplingDifference> =>
  dtype === "bf16" ? { mean: 0.01, p99: 0.08 } : { mean: 2e-5, p999: 1e-4, max: parameters < 2e7 ? 5e-4 : 1e-3 }

export class SamplerDiffers extends Schema.TaggedError<SamplerDiffers>()("SamplerDiffers", {
  statistic: Schema.String,
  value: Schema.Finite,
  bound: Schema.Finite
}) {
  override get message() {
    return `sampler and trainer disagree: the ${this.statistic} difference of log-probabilities is ${this.value}, bound ${this.bound}. The gradient would be wrong. Weights may have grown beyond the precision computed in (lower the learning rate); otherwise this is a bug: report it with this run's YAML.`
  }
}

/**
 * Differences over the tokens of some rows, as metrics; `SamplerDiffers` where they are too large. Both sides before any
 * update of the step.
 */
export const differences = Effect.fn("samplerCheck")(function* (
  dtype: NumericClass["dtype"],
  parameterCount: number,
  sampler: ReadonlyArray<Float32Array>,
  trainer: ReadonlyArray<Float32Array>
) {
  const found = samplingDifference(sampler, trainer)
  for (const [statistic, bound] of Object.entries(boundsOf(dtype, parameterCount))) {
    const value = found[statistic as keyof typeof found]
    if (!(value <= bound)) return yield* new SamplerDiffers({ statistic, value, bound })
  }
  return {
    "sampling/logp_difference/max": found.max,
    "sampling/logp_difference/mean": found.mean,
    "sampling/logp_difference/p999": found.p999
  }
})
