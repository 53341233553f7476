/**
 * Resampling with fixed random streams, so that equal data give equal intervals: the percentile bootstrap over prompts
 * (Efron 1979) and the sign-flip permutation test of a mean (Fisher 1935), exact for up to 16 differences.
 */

/** Uniforms in [0, 1) from xoshiro128** (Blackman and Vigna 2018), its state filled by splitmix32 from the seed. */
const generator = (seed: number): (() => number) => {
  let filler = seed >>> 0
  const fill = () => {
    filler = (filler + 0x9e3779b9) >>> 0
    let z = Math.imul(filler ^ (filler >>> 16), 0x21f0aaad)
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97)
    return (z ^ (z >>> 15)) >>> 0
  }
  let [a, b, c, d] = [fill(), fill(), fill(), fill()]
  const rotate = (x: number, k: number) => (x << k) | (x >>> (32 - k))
  return () => {
    const out = Math.imul(rotate(Math.imul(b, 5), 7), 9) >>> 0
    const t = b << 9
    c ^= a
    d ^= b
    b ^= c
    a ^= d
    c ^= t
    d = rotate(d, 11)
    return out / 2 ** 32
  }
}

/** The p-quantile of values, p in [0, 1], by linear interpolation between order statistics; NaN without values. */
export const percentile = (values: ArrayLike<number>, p: number): number => {
  const sorted = Float64Array.from(values).sort()
  if (sorted.length === 0) return Number.NaN
  const at = p * (sorted.length - 1)
  const below = Math.floor(at)
  const above = Math.min(below + 1, sorted.length - 1)
  return sorted[below]! + (at - below) * (sorted[above]! - sorted[below]!)
}

/** The interval of the mean that holds `confidence` of the means of resamples; deterministic. */
export const bootstrapInterval = (
  values: ReadonlyArray<number>,
  options: { readonly confidence: number; readonly resamples?: number; readonly seed?: number }
): readonly [number, number] => {
  const { confidence, resamples = 2000, seed = 0 } = options
  const count = values.length
  const uniform = generator(seed)
  const means = new Float64Array(resamples)
  for (let k = 0; k < resamples; k++) {
    let sum = 0
    for (let i = 0; i < count; i++) sum += values[Math.floor(uniform() * count)]!
    means[k] = sum / count
  }
  const tail = (1 - confidence) / 2
  return [percentile(means, tail), percentile(means, 1 - tail)]
}

/** Two-sided p-value of "the mean is 0" when every difference's sign is exchangeable. */
export const signFlipPValue = (
  differences: ReadonlyArray<number>,
  options: { readonly draws?: number } = {}
): number => {
  const count = differences.length
  const observed = Math.abs(differences.reduce((sum, value) => sum + value, 0))
  const scale = differences.reduce((sum, value) => sum + Math.abs(value), 0)
  const reached = (sum: number) => Math.abs(sum) >= observed - 1e-12 * scale
  let hits = 0
  if (count <= 16) {
    const patterns = 2 ** count
    for (let pattern = 0; pattern < patterns; pattern++) {
      let sum = 0
      for (let i = 0; i < count; i++) sum += (pattern >> i) & 1 ? differences[i]! : -differences[i]!
      if (reached(sum)) hits++
    }
    return hits / patterns
  }
  const { draws = 20_000 } = options
  const uniform = generator(0)
  for (let k = 0; k < draws; k++) {
    let sum = 0
    for (let i = 0; i < count; i++) sum += uniform() < 0.5 ? -differences[i]! : differences[i]!
    if (reached(sum)) hits++
  }
  return (hits + 1) / (draws + 1)
}
