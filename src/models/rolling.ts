/**
 * What a batch of generation does between two runs of decoding: when rows that are finished leave it, how many steps come
 * next, and how the cache grows. Pure; what it decides changes no token.
 *
 * One step a run: rows leave once a quarter of the batch is finished. Many steps a run: the run itself ends as soon as so many
 * rows are finished that the rest fits the next smaller size that programs are compiled for (`leaveAt`). Where lengths are
 * geometric, the hardest case, .8 and more of the rows x steps that are computed then write a token, whatever the mean length.
 */

/** The size that a device computes for a dimension of a size (`Device.sizeFor`). */
export type SizeFor = (name: string, size: number) => number

const itself: SizeFor = (_, size) => size

/** Rows move together once this share of the batch is finished. */
export const retireShare = 0.25

/** Batches up to this many rows are halved instead: each further size is a program to compile, for few rows x steps. */
const fewRows = 16

/** A batch becomes no smaller than this for the same reason: a sixteenth of the first one, at most 8. */
const smallest = (first: number): number => Math.min(8, first / 16)

/**
 * The number of live rows at which the others of `rows` leave a batch that began with `first`: the largest size that is
 * computed of three quarters of the batch (of a half of a small one); 0 where it is not to become smaller.
 */
export const leaveAt = (rows: number, first: number, sizeFor: SizeFor = itself): number => {
  const now = sizeFor("rows", rows)
  if (now <= smallest(first)) return 0
  let size = Math.min(rows - 1, Math.floor(now * (now > fewRows ? 1 - retireShare : 0.5)))
  while (size > 0 && sizeFor("rows", size) !== size) size--
  return size
}

/** Steps that a program of many does at most: `stepsPerRun`, or the power of two that reaches the longest answer. */
export const stepsOfRun = (stepsPerRun: number, maxNewTokens: number): number =>
  Math.min(stepsPerRun, 2 ** Math.ceil(Math.log2(maxNewTokens)))

/** Steps after which the host looks for texts that end an answer: a device knows end tokens only. */
export const stepsBetweenTexts = 8

/** Places by which a cache of `places` grows: attention costs what the cache holds, moving it little. */
const growthOf = (places: number): number => Math.max(32, places >> 2)

/**
 * Places of a cache that holds `held` and is to grow, of `most` that it can come to need: a quarter more, at least 32, up to
 * the size that is computed in any case.
 */
export const grownTo = (held: number, most: number, sizeFor: SizeFor = itself): number =>
  Math.min(most, sizeFor("places", held + growthOf(held)))
