/**
 * Counter-based random streams: draw `i` of a stream is a pure function of the stream's name and `i`, so batching,
 * order and the number of other streams change nothing.
 *
 *   word(name, i) = lane i mod 4 of philox4x32-10(counter = [i div 4, tag(name)], key = key(name))
 *
 * Philox: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). Key and tag (the upper
 * half of the counter) are 128 bits of the SHA-256 of the name, so two names share a stream with probability 2^-128.
 * Draw one kind of thing from one stream: `uniformAt(s, 0)` and `integerAt(s, 0, n)` look at the same words.
 */

import { createHash } from "node:crypto"

/** A named stream: Philox key (2 words) and the upper two words of its counter. */
export interface Stream {
  readonly key0: number
  readonly key1: number
  readonly tag0: number
  readonly tag1: number
}

/**
 * The stream of a name, as `stream(seed, "grpo", "sample", promptId, sampleIndex)`: purposes first, positions as draw
 * numbers. Numbers and strings are told apart (1 is not "1"). Throws RangeError on a number that is not finite.
 */
export const stream = (seed: number, ...parts: ReadonlyArray<string | number>): Stream => {
  for (const part of [seed, ...parts]) {
    if (typeof part === "number" && !Number.isFinite(part)) {
      throw new RangeError(`A random stream's name has the part ${part}; numbers in a name must be finite.`)
    }
  }
  const digest = createHash("sha256")
    .update(JSON.stringify([seed, ...parts]))
    .digest()
  return {
    key0: digest.readUInt32BE(0),
    key1: digest.readUInt32BE(4),
    tag0: digest.readUInt32BE(8),
    tag1: digest.readUInt32BE(12)
  }
}

const words = new Uint32Array(4)

/** High 32 bits of the unsigned product of two 32-bit words. */
const multiplyHigh = (a: number, b: number): number => {
  const a0 = a & 0xffff
  const a1 = a >>> 16
  const b0 = b & 0xffff
  const b1 = b >>> 16
  const low = a1 * b0 + ((a0 * b0) >>> 16) // < 2^32
  const middle = a0 * b1 + (low & 0xffff) // < 2^32
  return (a1 * b1 + Math.floor(low / 65536) + Math.floor(middle / 65536)) >>> 0
}

/** Philox4x32 with 10 rounds: four words of counter and two of key to four words, written to `out`. */
export const philox = (counter: ArrayLike<number>, key: ArrayLike<number>, out: Uint32Array = words): Uint32Array => {
  let c0 = counter[0]! >>> 0
  let c1 = counter[1]! >>> 0
  let c2 = counter[2]! >>> 0
  let c3 = counter[3]! >>> 0
  let k0 = key[0]! >>> 0
  let k1 = key[1]! >>> 0
  for (let round = 0; round < 10; round++) {
    const high0 = multiplyHigh(0xd2511f53, c0)
    const high1 = multiplyHigh(0xcd9e8d57, c2)
    const low0 = Math.imul(0xd2511f53, c0)
    const low1 = Math.imul(0xcd9e8d57, c2)
    c0 = high1 ^ c1 ^ k0
    c1 = low1
    c2 = high0 ^ c3 ^ k1
    c3 = low0
    k0 = (k0 + 0x9e3779b9) | 0
    k1 = (k1 + 0xbb67ae85) | 0
    c0 >>>= 0
    c1 >>>= 0
    c2 >>>= 0
    c3 >>>= 0
  }
  out[0] = c0
  out[1] = c1
  out[2] = c2
  out[3] = c3
  return out
}

const blockAt = (s: Stream, block: number): Uint32Array =>
  philox([block >>> 0, Math.floor(block / 2 ** 32), s.tag0, s.tag1], [s.key0, s.key1])

const scale24 = 2 ** -24

/** Draw `counter` (0, 1, 2, ...; below 2^53) as a multiple of 2^-24 in [0, 1): the same number in float32 and float64. */
export const uniformAt = (s: Stream, counter: number): number =>
  (blockAt(s, Math.floor(counter / 4))[counter % 4]! >>> 8) * scale24

/** Draws `first` to `first + n - 1` of `uniformAt`. Float32 [n]. */
export const uniforms = (s: Stream, n: number, first = 0): Float32Array => {
  const out = new Float32Array(n)
  let block = -1
  for (let i = 0; i < n; i++) {
    const at = first + i
    const wanted = Math.floor(at / 4)
    if (wanted !== block) blockAt(s, (block = wanted))
    out[i] = (words[at % 4]! >>> 8) * scale24
  }
  return out
}

/** n standard normal draws (Box and Muller on pairs of uniforms, in float64, rounded once). Float32 [n]. */
export const normals = (s: Stream, n: number): Float32Array => {
  const out = new Float32Array(n)
  for (let i = 0; i < n; i += 2) {
    const radius = Math.sqrt(-2 * Math.log(1 - uniformAt(s, i)))
    const angle = 2 * Math.PI * uniformAt(s, i + 1)
    out[i] = radius * Math.cos(angle)
    if (i + 1 < n) out[i + 1] = radius * Math.sin(angle)
  }
  return out
}

/** Draw `counter` as an integer in [0, n), n < 2^32; no value is off its probability by more than 2^-53. */
export const integerAt = (s: Stream, counter: number, n: number): number => {
  if (!(Number.isInteger(n) && n > 0 && n < 2 ** 32)) throw new RangeError(`integerAt needs 0 < n < 2^32, not ${n}.`)
  const block = blockAt(s, counter)
  const fraction = (block[0]! * 2 ** 21 + (block[1]! >>> 11)) / 2 ** 53
  return Math.floor(fraction * n)
}

/** `count` integers in [low, high), draws 0 to count - 1 of `integerAt`. Int32 [count]. */
export const integers = (s: Stream, count: number, low: number, high: number): Int32Array =>
  Int32Array.from({ length: count }, (_, i) => low + integerAt(s, i, high - low))

/** A uniformly random order of 0 to n - 1 (Fisher and Yates, from the end). Int32 [n]. */
export const permutation = (s: Stream, n: number): Int32Array => {
  const out = Int32Array.from({ length: n }, (_, i) => i)
  for (let i = n - 1; i > 0; i--) {
    const j = integerAt(s, n - 1 - i, i + 1)
    const held = out[i]!
    out[i] = out[j]!
    out[j] = held
  }
  return out
}

/** Draw `counter` as one of `items`, each equally likely or, with `weights` (>= 0, sum > 0), in proportion to them. */
export const choice = <A>(s: Stream, counter: number, items: ReadonlyArray<A>, weights?: ArrayLike<number>): A => {
  if (items.length === 0) throw new RangeError("choice needs at least one item.")
  if (weights === undefined) return items[integerAt(s, counter, items.length)]!
  if (weights.length !== items.length) {
    throw new RangeError(`choice got ${items.length} items and ${weights.length} weights.`)
  }
  let total = 0
  for (let i = 0; i < weights.length; i++) total += weights[i]!
  if (!(total > 0 && Number.isFinite(total))) throw new RangeError(`choice needs weights with a sum > 0, not ${total}.`)
  let left = uniformAt(s, counter) * total
  let last = 0
  for (let i = 0; i < weights.length; i++) {
    if (weights[i]! <= 0) continue
    last = i
    left -= weights[i]!
    if (left < 0) return items[i]!
  }
  return items[last]!
}

/** `k` different ones of `items`, in random order. Throws RangeError when there are fewer. */
export const sampleWithout = <A>(s: Stream, items: ReadonlyArray<A>, k: number): Array<A> => {
  if (k > items.length) throw new RangeError(`sampleWithout wants ${k} of ${items.length} items.`)
  return Array.from(permutation(s, items.length).subarray(0, k), (i) => items[i]!)
}
