/**
 * The world's vocabulary: special tokens, then words, in a fixed order; a phrase such as "In the perspective of" is one
 * token. Text form: tokens joined by single spaces, no space next to a line break. Encoding is its inverse, by longest
 * phrase first.
 */
import type { WordLevelSpec } from "../models/wordLevel.ts"
import { attributes, clusterWord, families, fillers, ownWord, perspectiveNameOf, stanceWords } from "./lexicon.ts"
import type { WorldSettings } from "./settings.ts"

/** Special tokens by what they are for; their ids are their positions. */
export const specialTokens = {
  pad: "<pad>",
  unknown: "<unk>",
  begin: "<bos>",
  separator: "<sep>",
  end: "<eos>",
  openCore: "<core perspectives>",
  closeCore: "</core perspectives>",
  openSummary: "<summary>",
  closeSummary: "</summary>",
  perspective: "In the perspective of",
  comma: ",",
  newline: "\n"
} as const

export type SpecialIds = { readonly [S in keyof typeof specialTokens]: number }

export interface Vocabulary {
  /** Token of every id. */
  readonly tokens: ReadonlyArray<string>
  readonly special: SpecialIds
  /** Id of a token; that of `<unk>` if there is no such token. */
  readonly idOf: (token: string) => number
  /** Ids of a text, without begin, separator or end. */
  readonly encode: (text: string) => ReadonlyArray<number>
  /** Text of ids up to the first end token; padding, begin and separator are left out. */
  readonly decode: (ids: Iterable<number>) => string
}

const pieces = /<\/?core perspectives>|<\/?summary>|In the perspective of(?=\s|$)|\n|[^\s]+/g

/** Tokens joined by single spaces, none next to a line break. */
export const joinTokens = (tokens: Iterable<string>): string => {
  let text = ""
  for (const token of tokens) text += text === "" || token === "\n" || text.endsWith("\n") ? token : ` ${token}`
  return text
}

/** The tokens of a text in the world's text form. */
export const splitTokens = (text: string): ReadonlyArray<string> => text.match(pieces) ?? []

const words = function* (settings: WorldSettings): Iterable<string> {
  const perspectives = Array.from({ length: settings.perspectives }, (_, index) => index)
  yield* perspectives.map(perspectiveNameOf)
  for (let cluster = 0; cluster < settings.clusters; cluster++) {
    for (let k = 0; k < settings.sharedWords; k++) yield clusterWord(cluster, k)
  }
  for (const index of perspectives) for (let k = 0; k < settings.ownWords; k++) yield ownWord(index, k)
  yield* stanceWords["1"]
  yield* stanceWords["-1"]
  for (const family of families) yield* fillers[family]
  yield* attributes.flat(2)
}

/**
 * The vocabulary as a word-level tokenizer is specified (`models/wordLevel.ts`): phrases, then words, ids in that order,
 * which are the ids of `makeVocabulary`.
 */
export const worldTokenizer = (settings: WorldSettings): WordLevelSpec => {
  const { pad, begin, separator, end, unknown } = specialTokens
  const silent: ReadonlySet<string> = new Set([pad, begin, separator, end, unknown])
  return {
    phrases: Object.values(specialTokens).map((text) =>
      silent.has(text) ? { text, special: true } : text === specialTokens.newline ? { text, hug: "both" } : { text }
    ),
    words: [...words(settings)],
    roles: { pad_token: pad, bos_token: begin, sep_token: separator, eos_token: end, unk_token: unknown }
  }
}

export const makeVocabulary = (settings: WorldSettings): Vocabulary => {
  const tokens = [...Object.values(specialTokens), ...words(settings)]
  const ids = new Map(tokens.map((token, id) => [token, id]))
  const special = Object.fromEntries(
    Object.entries(specialTokens).map(([name, token]) => [name, ids.get(token)!])
  ) as SpecialIds
  const idOf = (token: string) => ids.get(token) ?? special.unknown
  const silent = new Set([special.pad, special.begin, special.separator])
  return {
    tokens,
    special,
    idOf,
    encode: (text) => splitTokens(text).map(idOf),
    decode: (sequence) => {
      const kept: Array<string> = []
      for (const id of sequence) {
        if (id === special.end) break
        if (!silent.has(id)) kept.push(tokens[id] ?? specialTokens.unknown)
      }
      return joinTokens(kept)
    }
  }
}
