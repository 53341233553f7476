/**
 * How rows of different lengths become micro-batches of tensors: a deterministic plan, and the packed tensors of one
 * micro-batch. Rows of like length go together, so that little is padding.
 */
import { f32, type HostTensor, i32 } from "../device/HostTensor.ts"
import { type MicroBatch, usualBatch } from "../device/microBatch.ts"
import type { EncoderConfig } from "./encoderConfig.ts"

/** A prompt and the answer to it, as token ids; the answer's are the ones that are scored. */
export interface Sequence {
  readonly prompt: ReadonlyArray<number>
  readonly completion: ReadonlyArray<number>
}

export interface Plan {
  /** Row numbers of each micro-batch, longest rows first; every row with length > 0 is in exactly one. */
  readonly parts: ReadonlyArray<ReadonlyArray<number>>
  /** Share of the tensors' places that hold padding. */
  readonly padding: number
}

/**
 * Packs rows into micro-batches of at most `maxTokens` places (rows x longest row); a row longer than that gets a
 * micro-batch of its own. Depends on nothing but the lengths.
 */
export const planMicroBatches = (lengths: ReadonlyArray<number>, maxTokens: number): Plan => {
  const order = lengths
    .map((length, row) => ({ length, row }))
    .filter(({ length }) => length > 0)
    .sort((a, b) => b.length - a.length || a.row - b.row)
  const parts: Array<Array<number>> = []
  let longest = 0
  let places = 0
  let tokens = 0
  for (const { length, row } of order) {
    const part = parts.at(-1)
    if (part === undefined || (part.length + 1) * longest > maxTokens) {
      parts.push([row])
      longest = length
    } else {
      part.push(row)
    }
    places += longest
    tokens += length
  }
  return { parts, padding: places === 0 ? 0 : 1 - tokens / places }
}

/**
 * The same for rows that belong together: `size` rows after one another are a group, and a micro-batch holds whole groups
 * (places = its rows x longest row). Within a micro-batch the first rows of all its groups come first, then the second ones,
 * and so on. Groups without any length are left out, as are no rows of the others.
 */
export const planGroups = (lengths: ReadonlyArray<number>, size: number, maxTokens: number): Plan => {
  if (size === 1) return planMicroBatches(lengths, maxTokens)
  if (lengths.length % size !== 0) {
    throw new RangeError(`rows [${lengths.length}] are no whole groups of [${size}]`)
  }
  const of = (group: number) => lengths.slice(group * size, (group + 1) * size)
  const longest = Array.from({ length: lengths.length / size }, (_, group) => Math.max(...of(group)))
  const { parts } = planMicroBatches(longest, Math.floor(maxTokens / size))
  const slots = Array.from({ length: size }, (_, slot) => slot)
  const tokens = lengths.reduce((sum, length) => sum + length, 0)
  const places = parts.reduce((sum, part) => sum + part.length * size * longest[part[0]!]!, 0)
  return {
    parts: parts.map((groups) => slots.flatMap((slot) => groups.map((group) => group * size + slot))),
    padding: places === 0 ? 0 : 1 - tokens / places
  }
}

/**
 * Places (rows x longest) of a micro-batch of texts: eight times those that a policy is trained on, and on a device that says
 * what it takes no more than what fits, of what an encoder's layers keep for their derivative.
 */
export const placesOfTexts = (
  { hiddenSize, intermediateSize, layers }: Pick<EncoderConfig, "hiddenSize" | "intermediateSize" | "layers">,
  batch: MicroBatch | undefined
): number => {
  if (batch === undefined) return 8 * usualBatch.places
  const floats = layers * (12 * hiddenSize + 4 * intermediateSize)
  return Math.max(1, Math.min(8 * batch.places, Math.floor(batch.bytes / (4 * floats))))
}

/** The tensors of a micro-batch of sequences. A completion token is predicted from the state of the token before it. */
export interface PackedSequences {
  /** i32 [rows, time]: prompt and answer without its last token, padded on the right. */
  readonly ids: HostTensor
  /** i32 [rows, time]: the place in its row where the sequence of each place begins; padding counts as a sequence. */
  readonly starts: HostTensor
  /** Of each sequence its first place among the rows x time. */
  readonly firsts: ReadonlyArray<number>
  /** i32 [tokens]: which of the rows x time states predicts each completion token. */
  readonly at: HostTensor
  /** i32 [tokens]: the completion tokens. */
  readonly targets: HostTensor
  /** i32 [tokens]: the sequence (within the micro-batch) of each: its row, where every row has one. */
  readonly rows: HostTensor
  readonly tokens: number
}

/** Places that a sequence takes: all its tokens but the last. 0 where there is nothing to predict. */
export const sequenceLength = ({ completion, prompt }: Sequence): number =>
  completion.length === 0 ? 0 : prompt.length + completion.length - 1

/**
 * Packs rows of sequences that lie behind one another; a sequence without completion takes no place. Sequences count on from row to
 * row. Throws a RangeError for a sequence without a prompt: its first token has no predecessor.
 */
export const packRows = (rows: ReadonlyArray<ReadonlyArray<Sequence>>, pad: number): PackedSequences => {
  const sequences = rows.flat()
  const time = Math.max(...rows.map((row) => row.reduce((sum, sequence) => sum + sequenceLength(sequence), 0)))
  const tokens = sequences.reduce((n, { completion }) => n + completion.length, 0)
  const ids = new Int32Array(rows.length * time).fill(pad)
  const starts = new Int32Array(rows.length * time)
  const at = new Int32Array(tokens)
  const targets = new Int32Array(tokens)
  const owners = new Int32Array(tokens)
  const firsts: Array<number> = []
  let next = 0
  rows.forEach((row, r) => {
    let first = r * time
    for (const sequence of row) {
      const { completion, prompt } = sequence
      const owner = firsts.push(first) - 1
      if (completion.length === 0) continue
      if (prompt.length === 0) throw new RangeError("a sequence needs a prompt of at least one token")
      ids.set(prompt, first)
      for (let i = 0; i < completion.length; i++) {
        const place = first + prompt.length + i
        if (i < completion.length - 1) ids[place] = completion[i]!
        at[next] = place - 1
        targets[next] = completion[i]!
        owners[next++] = owner
      }
      const end = first + sequenceLength(sequence)
      starts.fill(first - r * time, first, end)
      first = end
    }
    starts.fill(first - r * time, first, (r + 1) * time)
  })
  return {
    ids: i32([rows.length, time], ids),
    starts: i32([rows.length, time], starts),
    firsts,
    at: i32([tokens], at),
    targets: i32([tokens], targets),
    rows: i32([tokens], owners),
    tokens
  }
}

/** Packs some sequences, each in a row of its own; a row without completion is all padding. Throws as `packRows`. */
export const packSequences = (sequences: ReadonlyArray<Sequence>, pad: number): PackedSequences =>
  packRows(
    sequences.map((sequence) => [sequence]),
    pad
  )

/** A tensor [rows, ...] of a micro-batch of whole groups as [size, groups, ...]. */
export const byRow = (tensor: HostTensor, size: number): HostTensor => {
  const [rows = 0, ...rest] = tensor.shape
  return { ...tensor, shape: [size, rows / size, ...rest] }
}

/** A tokenised text (or pair): ids and segments of equal length. */
export interface TextRow {
  readonly ids: ReadonlyArray<number>
  readonly segments: ReadonlyArray<number>
}

/** The tensors of a micro-batch of texts, padded on the right: ids and segments i32 [rows, time], lengths i32 [rows]. */
export const packTexts = (
  texts: ReadonlyArray<TextRow>,
  pad: number,
  time = Math.max(1, ...texts.map(({ ids }) => ids.length))
) => {
  const ids = new Int32Array(texts.length * time).fill(pad)
  const segments = new Int32Array(texts.length * time)
  texts.forEach((text, row) => {
    ids.set(text.ids, row * time)
    segments.set(text.segments, row * time)
  })
  return {
    ids: i32([texts.length, time], ids),
    segments: i32([texts.length, time], segments),
    lengths: i32(
      [texts.length],
      texts.map((text) => Math.max(1, text.ids.length))
    )
  }
}

/** A scalar f32 feed. */
export const scalar = (value: number): HostTensor => f32([], [value])
