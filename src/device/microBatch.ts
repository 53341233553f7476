/**
 * What a device has room for: how much of a batch it takes at once, by which models cut their batches (sums of parts are sums of
 * the whole, so it changes rounding and no more), and whether weights may be copied to have layers as a loop.
 */

/** What a device takes at once. */
export interface MicroBatch {
  /** Most places (rows x longest row) of a forward and backward pass. */
  readonly places: number
  /** Bytes that what such a pass keeps for its derivative should stay within; and a rollout's keys and values. */
  readonly bytes: number
}

/** More places bring no speed on a CPU, and small micro-batches of rows of like length hold less padding. */
export const usualBatch: MicroBatch = { places: 1024, bytes: 2 ** 30 }

/** A share of a micro-batch: what a task takes after more was too much. */
export const shareOf = ({ bytes, places }: MicroBatch, share: number): MicroBatch => ({
  places: Math.floor(places * share),
  bytes: bytes * share
})

/**
 * What a card takes: enough places to keep it busy, of which half of its memory holds what a backward pass keeps. Over the
 * devices of a mesh that share batches it is as many times that.
 */
export const cardBatch = (memory: number, sharing = 1): MicroBatch => ({
  places: 16_384 * sharing,
  bytes: (memory / 2) * sharing
})

/**
 * Bytes that a card may spend on weights laid on one another, to have a model's layers as a loop: a sixteenth of its memory. Over a mesh
 * that keeps weights in parts a card has its part of them.
 */
export const cardLoopBytes = (memory: number, parts = 1): number => Math.floor((memory / 16) * parts)
