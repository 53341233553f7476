/**
 * The table of sizes that programs are compiled for. A size belongs to a bucket, and a program compiled for the bucket's
 * largest size serves all of it. Sizes of a training batch: every size up to 16, then eight steps to the next power of two,
 * so that at most a ninth of what is computed fills up. Sizes of generation, where rows leave and the cache grows from run to
 * run, two steps: 1, 2, 3, 4, 6, 8, 12, 16, 24, ...; of its rows powers of two up to 16. Generation chooses its sizes by the table
 * (`models/rolling.ts`), so a finer one would make it compute little less, and compile more.
 *
 * A pure function of name and size: what ran before changes no bits.
 */

/** The sizes `low..high` that share a program. */
export interface Bucket {
  readonly low: number
  readonly high: number
}

/** Steps between a power of two and the next, by the name of a dimension; a power of two. */
const stepsOf = (name: string, size: number): number =>
  generation.has(name) ? (size <= 16 && rows.has(name) ? 1 : 2) : 8

/** Names of dimensions in the programs of cached generation (`models/decode.ts`). */
const generation: ReadonlySet<string> = new Set(["prompts", "rows", "kept", "places", "grown"])
const rows: ReadonlySet<string> = new Set(["rows", "kept"])

/** The bucket of a dimension's size >= 0. */
export const bucketOf = (name: string, size: number): Bucket => {
  const steps = stepsOf(name, size)
  if (size <= steps) return { low: size, high: size }
  const step = Math.max(1, 2 ** Math.floor(Math.log2(size - 1)) / steps)
  const high = Math.ceil(size / step) * step
  return { low: high - step + 1, high }
}

/**
 * The same for sizes that several devices share: buckets whose largest size is a multiple of `ways`.
 */
export const sharedBucketOf = (name: string, size: number, ways: number): Bucket => {
  if (size === 0) return { low: 0, high: 0 }
  const high = Math.ceil(bucketOf(name, size).high / ways) * ways
  return { low: bucketOf(name, high - ways + 1).low, high }
}

/** What says which table this is, in numeric classes. */
export const tableName = "sizes in 8, 2 and 1 steps an octave"
