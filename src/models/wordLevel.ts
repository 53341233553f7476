/**
 * A word-level tokenizer for synthetic worlds: every word is a token, and so is every *fixed phrase* ("In the perspective
 * of", "<summary>", a newline), whatever it holds. It is a valid Hugging Face `tokenizer.json` (WordLevel model, phrases as
 * added tokens, WhitespaceSplit), which other tools load and agree with.
 *
 * Spacing is a rule of the tokens, so that `encode` is the exact inverse of `decode`: neighbours are joined by one space,
 * except that nothing stands before a token that *hugs left* (",") and nothing on either side of one that hugs both
 * ("\n", tags). The rules are written as the decoder's Replace steps and read back from there.
 */
import { Result, Schema } from "effect"
import { BadConfig, fail, type ModelError } from "./ModelError.ts"
import type { TokenizerCore } from "./tokenizer.ts"

/** A phrase that is one token. `hug`: the sides on which no space stands between it and its neighbour. */
export interface FixedPhrase {
  readonly text: string
  readonly hug?: "left" | "both"
  /** A special token is left out of decoded text: padding, begin, end, separator, unknown. */
  readonly special?: boolean
}

export interface WordLevelSpec {
  /** In order of their ids. Give `[UNK]` (or any `unknown`) among them where texts may hold words not listed. */
  readonly phrases: ReadonlyArray<FixedPhrase>
  /** In order of their ids, which follow the phrases'. */
  readonly words: ReadonlyArray<string>
  /** Roles of special tokens by the names of `tokenizer_config.json`: `{ pad_token: "<pad>", ... }`. */
  readonly roles: Readonly<Partial<Record<"pad_token" | "bos_token" | "eos_token" | "sep_token" | "unk_token", string>>>
}

/** The files of a word-level tokenizer. Throws a RangeError on a word that is listed twice or holds a space. */
export const wordLevelFiles = ({ phrases, roles, words }: WordLevelSpec): Readonly<Record<string, string>> => {
  const vocab: Record<string, number> = {}
  const add = (token: string) => {
    if (token === "" || Object.hasOwn(vocab, token))
      throw new RangeError(`token ${JSON.stringify(token)} is empty or listed twice`)
    vocab[token] = Object.keys(vocab).length
  }
  for (const { text } of phrases) add(text)
  for (const word of words) {
    if (/\s/.test(word)) throw new RangeError(`word ${JSON.stringify(word)} holds a space: make it a fixed phrase`)
    const inside = phrases.find(({ text }) => word.includes(text))
    if (inside !== undefined) {
      throw new RangeError(`word ${JSON.stringify(word)} holds the fixed phrase ${JSON.stringify(inside.text)}`)
    }
    add(word)
  }
  for (const token of Object.values(roles)) {
    if (!Object.hasOwn(vocab, token)) throw new RangeError(`special token ${JSON.stringify(token)} is no token`)
  }
  const replace = (pattern: string, content: string) => ({ type: "Replace", pattern: { String: pattern }, content })
  const spacing = phrases.flatMap(({ hug, text }) =>
    hug === undefined
      ? []
      : hug === "left"
        ? [replace(` ${text}`, text)]
        : [replace(` ${text}`, text), replace(`${text} `, text)]
  )
  const separator = roles.sep_token
  const tokenizer = {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: phrases.map(({ special, text }) => ({
      id: vocab[text],
      content: text,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: special === true
    })),
    normalizer: null,
    pre_tokenizer: { type: "WhitespaceSplit" },
    post_processor:
      separator === undefined
        ? null
        : {
            type: "TemplateProcessing",
            single: [{ Sequence: { id: "A", type_id: 0 } }],
            pair: [
              { Sequence: { id: "A", type_id: 0 } },
              { SpecialToken: { id: separator, type_id: 0 } },
              { Sequence: { id: "B", type_id: 1 } }
            ],
            special_tokens: { [separator]: { id: separator, ids: [vocab[separator]], tokens: [separator] } }
          },
    decoder: {
      type: "Sequence",
      decoders: [{ type: "WordPiece", prefix: "\u0000", cleanup: false }, { type: "Fuse" }, ...spacing]
    },
    model: { type: "WordLevel", vocab, unk_token: roles.unk_token ?? "" }
  }
  const config = { ...roles, clean_up_tokenization_spaces: false, tokenizer_class: "PreTrainedTokenizerFast" }
  return {
    "tokenizer.json": `${JSON.stringify(tokenizer, null, 1)}\n`,
    "tokenizer_config.json": `${JSON.stringify(config, null, 1)}\n`
  }
}

const Replace = Schema.Struct({
  type: Schema.Literal("Replace"),
  pattern: Schema.Struct({ String: Schema.String }),
  content: Schema.String
})
const WordLevelJson = Schema.Struct({
  added_tokens: Schema.Array(
    Schema.Struct({ id: Schema.Int, content: Schema.NonEmptyString, special: Schema.Boolean })
  ),
  normalizer: Schema.Null,
  pre_tokenizer: Schema.Struct({ type: Schema.Literal("WhitespaceSplit") }),
  post_processor: Schema.NullOr(
    Schema.Struct({
      type: Schema.Literal("TemplateProcessing"),
      single: Schema.Tuple([
        Schema.Struct({ Sequence: Schema.Struct({ id: Schema.Literal("A"), type_id: Schema.Literal(0) }) })
      ]),
      pair: Schema.Tuple([
        Schema.Struct({ Sequence: Schema.Struct({ id: Schema.Literal("A"), type_id: Schema.Literal(0) }) }),
        Schema.Struct({ SpecialToken: Schema.Struct({ id: Schema.String, type_id: Schema.Literal(0) }) }),
        Schema.Struct({ Sequence: Schema.Struct({ id: Schema.Literal("B"), type_id: Schema.Literal(1) }) })
      ])
    })
  ),
  decoder: Schema.Struct({ type: Schema.Literal("Sequence"), decoders: Schema.Array(Schema.Unknown) }),
  model: Schema.Struct({
    type: Schema.Literal("WordLevel"),
    vocab: Schema.Record(Schema.String, Schema.Int),
    unk_token: Schema.String
  })
})
const decodeJson = Schema.decodeUnknownResult(WordLevelJson)
const isReplace = Schema.is(Replace)

/** Whether a decoded `tokenizer.json` holds a WordLevel model. */
export const isWordLevel = (json: Readonly<Record<string, unknown>>): boolean => {
  const model = json["model"]
  return typeof model === "object" && model !== null && "type" in model && model.type === "WordLevel"
}

/** A tokenizer from a decoded `tokenizer.json` with a WordLevel model, in the form that `wordLevelFiles` writes. */
export const readWordLevel = (
  file: string,
  json: Readonly<Record<string, unknown>>
): Result.Result<TokenizerCore, ModelError> =>
  Result.gen(function* () {
    const { added_tokens, decoder, model, post_processor } = yield* decodeJson(json).pipe(
      Result.mapError((error) =>
        fail(
          new BadConfig({ file, detail: `is a WordLevel tokenizer in a form that is not supported: ${error.message}` })
        )
      )
    )
    const ids = new Map(Object.entries(model.vocab))
    const tokens: Array<string | undefined> = []
    for (const { content, id } of added_tokens) ids.set(content, id)
    for (const [token, id] of ids) tokens[id] = token
    const unknown = ids.get(model.unk_token)
    const special = new Set(
      added_tokens.filter((token) => token.special || token.content === model.unk_token).map(({ id }) => id)
    )

    const hugsLeft = new Set<number>()
    const hugsRight = new Set<number>()
    for (const step of decoder.decoders) {
      if (!isReplace(step)) continue
      const id = ids.get(step.content)
      if (id === undefined) continue
      if (step.pattern.String === ` ${step.content}`) hugsLeft.add(id)
      if (step.pattern.String === `${step.content} `) hugsRight.add(id)
    }

    // Longest first, so that "</core perspectives>" is not read as something shorter.
    const phrases = added_tokens.map(({ content }) => content).sort((a, b) => b.length - a.length || (a < b ? -1 : 1))
    const escape = (text: string) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")
    const splitter = phrases.length === 0 ? undefined : new RegExp(`(${phrases.map(escape).join("|")})`)
    const isPhrase = new Set(phrases)

    const encode = (text: string): ReadonlyArray<number> => {
      const out: Array<number> = []
      for (const section of splitter === undefined ? [text] : text.split(splitter)) {
        if (isPhrase.has(section)) {
          out.push(ids.get(section)!)
          continue
        }
        for (const word of section.split(/\s+/)) {
          if (word === "") continue
          const id = ids.get(word) ?? unknown
          if (id === undefined) {
            throw new RangeError(
              `${file}: the word ${JSON.stringify(word)} is not in the vocabulary, which has no unk_token`
            )
          }
          out.push(id)
        }
      }
      return out
    }
    const separator = post_processor === null ? undefined : ids.get(post_processor.pair[1].SpecialToken.id)
    const core: TokenizerCore = {
      vocabularySize: tokens.length,
      encode,
      encodeForModel: (text, pair) => {
        const first = encode(text)
        if (pair === undefined) return { ids: first, segments: first.map(() => 0) }
        const between = separator === undefined ? [] : [separator]
        const second = encode(pair)
        return {
          ids: [...first, ...between, ...second],
          segments: [...first.map(() => 0), ...between.map(() => 0), ...second.map(() => 1)]
        }
      },
      decode: (list, options) => {
        let text = ""
        let previous: number | undefined
        for (const id of list) {
          if (options?.special !== true && special.has(id)) continue
          const space = previous !== undefined && !hugsRight.has(previous) && !hugsLeft.has(id)
          text += (space ? " " : "") + (tokens[id] ?? model.unk_token)
          previous = id
        }
        return text
      },
      idOf: (token) => ids.get(token),
      tokenOf: (id) => tokens[id]
    }
    return core
  })
