/** Texts (or pairs) as encoder rows: encoding, truncation, word dropout. */
import { stream, uniformAt } from "../device/random.ts"
import type { TextRow } from "./batching.ts"
import type { SpecialTokens, Tokenizer } from "./tokenizer.ts"

/** A text, or a pair of texts for a cross-encoder. */
export type TextOrPair = string | readonly [text: string, pair: string]

/**
 * The row of a text or pair with the special tokens that its model expects, cut to `maxTokens`: the last tokens of the longer
 * text go first, special tokens stay. A text without any token becomes one unknown (or padding) token.
 */
export const encodeRow = (tokenizer: Tokenizer, text: TextOrPair, maxTokens: number): TextRow => {
  const { ids, segments } =
    typeof text === "string" ? tokenizer.encodeForModel(text) : tokenizer.encodeForModel(text[0], text[1])
  if (ids.length === 0) return { ids: [tokenizer.special.unk ?? tokenizer.special.pad], segments: [0] }
  return truncate({ ids, segments }, maxTokens, tokenizer.special)
}

const isSpecial = ({ bos, cls, eos, mask, pad, sep }: SpecialTokens, id: number): boolean =>
  id === pad || id === bos || id === eos || id === sep || id === cls || id === mask

const truncate = (row: TextRow, maxTokens: number, special: SpecialTokens): TextRow => {
  if (row.ids.length <= maxTokens) return row
  const ids = [...row.ids]
  const segments = [...row.segments]
  while (ids.length > maxTokens) {
    const second = segments.reduce((n, segment) => n + segment, 0)
    const segment = second > ids.length - second ? 1 : 0
    let at = segments.lastIndexOf(segment)
    while (at > 0 && isSpecial(special, ids[at]!)) at--
    ids.splice(at, 1)
    segments.splice(at, 1)
  }
  return { ids, segments }
}

export interface WordDropout {
  /** Share of tokens that become the unknown token, so that its embedding is learned. */
  readonly rate: number
  readonly seed: number
}

/** The row with words dropped, by a stream named by the seed, the update, and the row's number in the batch. */
export const dropWords = (
  row: TextRow,
  { rate, seed }: WordDropout,
  special: SpecialTokens,
  update: number,
  number: number
): TextRow => {
  const { unk } = special
  if (rate === 0 || unk === undefined) return row
  const draws = stream(seed, "word-dropout", update, number)
  return {
    ids: row.ids.map((id, i) => (!isSpecial(special, id) && uniformAt(draws, i) < rate ? unk : id)),
    segments: row.segments
  }
}
