/**
 * Sampler against trainer: the two compute the log-probabilities of the sampled tokens by different programs, and
 * policy gradients are only right if they agree. Checked every step before the first update; a breach fails the task.
 */
import { Effect, Schema } from "effect"
import type { Sequence } from "../models/batching.ts"
import type { Completion } from "../models/generate.ts"
import type { Policy } from "../models/Policy.ts"
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

/** Differences over these answers, as metrics; `SamplerDiffers` where they are too large. */
export const differences = Effect.fn("samplerCheck")(function* (
  policy: Policy,
  sequences: ReadonlyArray<Sequence>,
  answers: ReadonlyArray<Pick<Completion, "logprobs">>,
  temperature: number
) {
  const trainer = yield* policy.logprobs(sequences, { temperature })
  const found = samplingDifference(
    answers.map(({ logprobs }) => logprobs),
    trainer.map(({ logprobs }) => logprobs)
  )
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
