/**
 * Packing: the sequences of a batch lie behind one another in rows, so that little of the batch is padding. In a row they do
 * not see each other, and each counts its positions from 0 (`attendWithin` in decoder.ts): the loss is that of the same
 * sequences in rows of their own.
 *
 * Rows are filled by best-fit decreasing, as TRL's `packing_strategy: "bfd"` (https://arxiv.org/abs/2404.10830): the longest
 * sequence first, each into the fullest row that has room. TRL packs a data set before training, and a step takes rows; here a
 * step takes its sequences and packs those, so that what is learnt from in which step does not change.
 */
import { planMicroBatches } from "./batching.ts"

/**
 * Which sequences share a row, by their lengths: every one of length > 0 in exactly one row, in the order in which they lie.
 * No row is longer than `rowLength`, but for that of a single sequence which is. Depends on nothing but the lengths.
 */
export const fillRows = (lengths: ReadonlyArray<number>, rowLength: number): ReadonlyArray<ReadonlyArray<number>> => {
  const order = lengths
    .map((length, sequence) => ({ length, sequence }))
    .filter(({ length }) => length > 0)
    .sort((a, b) => b.length - a.length || a.sequence - b.sequence)
  const rows: Array<Array<number>> = []
  /** Rows by the places that they have left, those that came first there at the front. */
  const withRoom: Array<Array<Array<number>>> = []
  for (const { length, sequence } of order) {
    let room = length
    while (room <= rowLength && (withRoom[room]?.length ?? 0) === 0) room++
    const found = withRoom[room]?.shift()
    const row = found ?? []
    if (found === undefined) rows.push(row)
    row.push(sequence)
    const left = (found === undefined ? rowLength : room) - length
    if (left > 0) (withRoom[left] ??= []).push(row)
  }
  return rows
}

export interface PackedPlan {
  /** The rows of each micro-batch, of each row the numbers of its sequences. */
  readonly parts: ReadonlyArray<ReadonlyArray<ReadonlyArray<number>>>
  /** Share of the tensors' places that hold padding. */
  readonly padding: number
}

/** Rows by `fillRows`, in micro-batches of at most `maxTokens` places by `planMicroBatches`. */
export const planRows = (lengths: ReadonlyArray<number>, rowLength: number, maxTokens: number): PackedPlan => {
  const rows = fillRows(lengths, rowLength)
  const { padding, parts } = planMicroBatches(
    rows.map((row) => row.reduce((sum, sequence) => sum + lengths[sequence]!, 0)),
    maxTokens
  )
  return { parts: parts.map((part) => part.map((row) => rows[row]!)), padding }
}
