/**
 * Importance weights for answers that another distribution drew: a sampler in another precision, one that keeps only the
 * likeliest tokens (`topP`, `topK`, `minP`), or one with older weights.
 *
 *     w = exp(trainer - behaviour)       per token, or per row: exp of the row's sum
 *     truncate: min(max(w, floor), cap)      mask: w inside [floor, cap], 0 outside
 *
 * Truncated weights (TIS) keep every token and are biased where they bite; masking (MIS) leaves out what cannot be trusted.
 * A row's weight is unbiased for whole answers and spreads the more the longer they are. Yao et al., "Your efficient RL
 * framework secretly brings you off-policy RL training" (2025); TRL's `vllm_importance_sampling_mode`, whose default is
 * `sequence_mask` at 3. The weights are data: no gradient flows through them.
 */
export interface Correction {
  readonly kind: "truncate" | "mask"
  readonly level: "token" | "sequence"
  readonly cap: number
  /** Default 0. */
  readonly floor?: number
}

export interface ImportanceWeights {
  /** One per token, row by row. */
  readonly weights: ReadonlyArray<Float64Array>
  /** Of the weights before they were cut, over tokens or rows by the level. */
  readonly mean: number
  readonly min: number
  readonly max: number
  /** Share of tokens whose weight was cut (truncated or masked). */
  readonly cut: number
}

/**
 * Weights of the tokens of some rows, from log-probabilities under the trainer and under what drew them. Throws a RangeError
 * where the two do not have the same tokens.
 */
export const importanceWeights = (
  trainer: ReadonlyArray<ArrayLike<number>>,
  behaviour: ReadonlyArray<ArrayLike<number>>,
  { cap, floor = 0, kind, level }: Correction
): ImportanceWeights => {
  if (trainer.length !== behaviour.length) {
    throw new RangeError(`rows of the trainer [${trainer.length}] and of the sampler [${behaviour.length}]`)
  }
  const raw: Array<number> = []
  let tokens = 0
  let outside = 0
  const weights = trainer.map((own, row) => {
    const other = behaviour[row]!
    if (own.length !== other.length) {
      throw new RangeError(`row ${row}: tokens of the trainer [${own.length}] and of the sampler [${other.length}]`)
    }
    const differences = Array.from(own, (logprob, t) => logprob - other[t]!)
    const whole = differences.reduce((sum, difference) => sum + difference, 0)
    const ratios = level === "token" ? differences.map(Math.exp) : differences.map(() => Math.exp(whole))
    raw.push(...(level === "token" ? ratios : ratios.slice(0, 1)))
    tokens += ratios.length
    return Float64Array.from(ratios, (ratio) => {
      const inside = ratio >= floor && ratio <= cap
      if (inside) return ratio
      outside++
      return kind === "mask" ? 0 : Math.min(Math.max(ratio, floor), cap)
    })
  })
  return {
    weights,
    mean: raw.reduce((sum, ratio) => sum + ratio, 0) / raw.length,
    min: raw.reduce((least, ratio) => Math.min(least, ratio), Number.POSITIVE_INFINITY),
    max: raw.reduce((most, ratio) => Math.max(most, ratio), 0),
    cut: outside / tokens
  }
}
