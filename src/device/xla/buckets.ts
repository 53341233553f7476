/**
 * The table of sizes that programs are compiled for: every size up to 8, then steps of an eighth of the power of two
 * below, so that what is filled up is at most a ninth of what is computed, and about a seventeenth on average. A pure
 * function of the size: history changes no bits.
 */

/** Steps between a power of two and the next. */
export const bucketsPerOctave = 8

/** The sizes `low..high` that share a program with a size; it is compiled for `high`. */
export interface Bucket {
  readonly low: number
  readonly high: number
}

/** The bucket of a size >= 0. */
export const bucketOf = (size: number): Bucket => {
  if (size <= bucketsPerOctave) return { low: size, high: size }
  const step = 2 ** (Math.floor(Math.log2(size - 1)) - Math.log2(bucketsPerOctave))
  const high = Math.ceil(size / step) * step
  // the bucket before ends a step, or half a step below a power of two, lower
  const below = 2 ** (Math.floor(Math.log2(high - 1)) - Math.log2(bucketsPerOctave))
  return { low: Math.floor(high - below) + 1, high }
}
