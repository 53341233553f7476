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
import type { TokenizerCore } from "./TokenizerCore.ts"

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
  /**
   * Roles of special tokens by the names of `tokenizer_config.json`: `{ pad_token: "<pad>", ... }`. For a model, a text is
   * `[cls] text` and a pair `[cls] text [sep] pair`, with those of the two that have a token.
   */
  readonly roles: Readonly<
    Partial<Record<"pad_token" | "bos_token" | "eos_token" | "sep_token" | "cls_token" | "unk_token", string>>
  >
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
  const special = (token: string | undefined) =>
    token === undefined ? [] : [{ SpecialToken: { id: token, type_id: 0 } }]
  const sequence = (id: "A" | "B", type_id: number) => ({ Sequence: { id, type_id } })
  const around = [roles.cls_token, roles.sep_token].filter((token) => token !== undefined)
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
      around.length === 0
        ? null
        : {
            type: "TemplateProcessing",
            single: [...special(roles.cls_token), sequence("A", 0)],
            pair: [...special(roles.cls_token), sequence("A", 0), ...special(roles.sep_token), sequence("B", 1)],
            special_tokens: Object.fromEntries(
              around.map((token) => [token, { id: token, ids: [vocab[token]], tokens: [token] }])
            )
          },
    decoder: {
      type: "Sequence",
      decoders: [{ type: "WordPiece", prefix: "\u0000", cleanup: false }, { type: "Fuse" }, ...spacing]
    },
    model: { type: "WordLevel", vocab, unk_token: roles.unk_token ?? "" }
  }
  const config = {
    ...roles,
    clean_up_tokenization_spaces: false,
    tokenizer_class: "PreTrainedTokenizerFast",
    // with a class token it is an encoder's, which wants to know the segments
    ...(roles.cls_token === undefined ? {} : { model_input_names: ["input_ids", "token_type_ids", "attention_mask"] })
  }
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
const Template = Schema.Array(
  Schema.Union([
    Schema.Struct({ SpecialToken: Schema.Struct({ id: Schema.String, type_id: Schema.Int }) }),
    Schema.Struct({ Sequence: Schema.Struct({ id: Schema.Literals(["A", "B"]), type_id: Schema.Int }) })
  ])
)
const plain = {
  single: [{ Sequence: { id: "A", type_id: 0 } }],
  pair: [{ Sequence: { id: "A", type_id: 0 } }, { Sequence: { id: "B", type_id: 1 } }]
} as const
const WordLevelJson = Schema.Struct({
  added_tokens: Schema.Array(
    Schema.Struct({ id: Schema.Int, content: Schema.NonEmptyString, special: Schema.Boolean })
  ),
  normalizer: Schema.Null,
  pre_tokenizer: Schema.Struct({ type: Schema.Literal("WhitespaceSplit") }),
  post_processor: Schema.NullOr(
    Schema.Struct({ type: Schema.Literal("TemplateProcessing"), single: Template, pair: Template })
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
    const template = post_processor ?? plain
    const encodeForModel = (text: string, pair?: string) => {
      const encoding = { ids: [] as number[], segments: [] as number[] }
      for (const item of pair === undefined ? template.single : template.pair) {
        const [part, segment] =
          "Sequence" in item
            ? [encode(item.Sequence.id === "A" ? text : (pair ?? "")), item.Sequence.type_id]
            : [[ids.get(item.SpecialToken.id)].filter((id) => id !== undefined), item.SpecialToken.type_id]
        for (const id of part) {
          encoding.ids.push(id)
          encoding.segments.push(segment)
        }
      }
      return encoding
    }
    const core: TokenizerCore = {
      vocabularySize: tokens.length,
      encode,
      encodeForModel,
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
