/**
 * How far the sampler and the trainer disagree about the tokens that were sampled: |log p_trainer - log p_sampler| over all
 * tokens. Both under the full softmax at the sampling temperature. The percentile is the nearest rank.
 */
export interface SamplingDifference {
  readonly max: number
  readonly mean: number
  /** The smallest value that 99 % of the tokens do not exceed. */
  readonly p99: number
  /** The smallest value that 99.9 % of the tokens do not exceed. */
  readonly p999: number
}

/** Statistics over the tokens of all rows; zeros without tokens. Throws a RangeError where rows have different lengths. */
export const samplingDifference = (
  sampler: ReadonlyArray<ArrayLike<number>>,
  trainer: ReadonlyArray<ArrayLike<number>>
): SamplingDifference => {
  if (sampler.length !== trainer.length) {
    throw new RangeError(`${sampler.length} rows of the sampler against ${trainer.length} of the trainer`)
  }
  const differences = sampler.flatMap((row, i) => {
    const other = trainer[i]!
    if (row.length !== other.length) throw new RangeError(`row ${i}: ${row.length} tokens against ${other.length}`)
    return Array.from(row, (value, j) => Math.abs(value - other[j]!))
  })
  if (differences.length === 0) return { max: 0, mean: 0, p99: 0, p999: 0 }
  const sorted = Float64Array.from(differences).sort()
  const rank = (share: number) => sorted[Math.ceil(share * sorted.length) - 1]!
  return {
    max: sorted.at(-1)!,
    mean: differences.reduce((a, b) => a + b, 0) / differences.length,
    p99: rank(0.99),
    p999: rank(0.999)
  }
}
