/**
 * Text to token ids and back: one interface over Hugging Face's `tokenizer.json` (byte-pair, word-piece, unigram by
 * `@huggingface/tokenizers`) and over the word-level tokenizers of synthetic worlds (`wordLevel.ts`).
 */
import { Tokenizer as HuggingFaceTokenizer } from "@huggingface/tokenizers"
import { Effect, Result, Schema } from "effect"
import { FileSystem } from "effect/FileSystem"
import { BadConfig, FileProblem, fail, type ModelError } from "./ModelError.ts"
import { refused } from "./refused.ts"
import type { TokenizerCore } from "./TokenizerCore.ts"
import { isWordLevel, readWordLevel } from "./wordLevel.ts"

export interface SpecialTokens {
  /** Fills short rows; never attended to and never scored. The end token where the model has no pad of its own. */
  readonly pad: number
  readonly bos?: number
  readonly eos?: number
  readonly unk?: number
  readonly sep?: number
  readonly cls?: number
  readonly mask?: number
}

export interface Tokenizer extends TokenizerCore {
  readonly special: SpecialTokens
  /** The strings of the special tokens by their Hugging Face names (`bos_token`, ...), as chat templates see them. */
  readonly specialText: Readonly<Record<string, string>>
  /** The tokenizer's files by name, byte for byte: what `save` writes. */
  readonly files: Readonly<Record<string, string>>
}

/** The files of a model folder that make its tokenizer; the first one is required. */
export const tokenizerFiles = [
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "chat_template.jinja"
] as const

const TokenText = Schema.Union([Schema.String, Schema.Struct({ content: Schema.String })])
const specialNames = ["bos", "eos", "pad", "unk", "sep", "cls", "mask"] as const
const optionalToken = Schema.optionalKey(Schema.NullOr(TokenText))
const TokenizerConfig = Schema.fromJsonString(
  Schema.StructWithRest(
    Schema.Struct({
      bos_token: optionalToken,
      eos_token: optionalToken,
      pad_token: optionalToken,
      unk_token: optionalToken,
      sep_token: optionalToken,
      cls_token: optionalToken,
      mask_token: optionalToken
    }),
    [Schema.Record(Schema.String, Schema.Unknown)]
  )
)
const JsonObject = Schema.fromJsonString(Schema.Record(Schema.String, Schema.Unknown))

/** Builds a tokenizer from its files' text. `source` is the folder, for messages. */
export const fromFiles = (
  source: string,
  files: Readonly<Record<string, string>>
): Result.Result<Tokenizer, ModelError> =>
  Result.gen(function* () {
    const file = `${source}/tokenizer.json`
    const model = yield* Schema.decodeResult(JsonObject)(files["tokenizer.json"] ?? "").pipe(
      Result.mapError(() => fail(new BadConfig({ file, detail: "is missing or not a JSON object" })))
    )
    const configText = files["tokenizer_config.json"] ?? "{}"
    const config = yield* Schema.decodeResult(TokenizerConfig)(configText).pipe(
      Result.mapError((error) =>
        fail(new BadConfig({ file: `${source}/tokenizer_config.json`, detail: `does not decode: ${error.message}` }))
      )
    )
    const words = isWordLevel(model)
    const core = yield* words ? readWordLevel(file, model) : readHuggingFace(file, model, config)
    const specialText: Record<string, string> = {}
    const special: { -readonly [K in keyof SpecialTokens]: SpecialTokens[K] } = { pad: 0 }
    for (const name of specialNames) {
      const token = config[`${name}_token`]
      if (token === undefined || token === null) continue
      const text = typeof token === "string" ? token : token.content
      const id = core.idOf(text)
      if (id === undefined) {
        return yield* Result.fail(
          fail(
            new BadConfig({
              file: `${source}/tokenizer_config.json`,
              detail: `${name}_token ${JSON.stringify(text)} is not in the vocabulary of tokenizer.json`
            })
          )
        )
      }
      specialText[`${name}_token`] = text
      special[name] = id
    }
    if (specialText["pad_token"] === undefined) special.pad = special.eos ?? 0
    const tokenizer: Tokenizer = { ...core, special, specialText, files }
    return tokenizer
  })

/** Reads the tokenizer of a model folder. */
export const load = Effect.fn("tokenizer.load")(function* (
  folder: string
): Effect.fn.Return<Tokenizer, ModelError, FileSystem> {
  const fs = yield* FileSystem
  const files: Record<string, string> = {}
  for (const name of tokenizerFiles) {
    const file = `${folder}/${name}`
    const problem = refused(file, "read")
    if (yield* fs.exists(file).pipe(Effect.mapError(problem))) {
      files[name] = yield* fs.readFileString(file).pipe(Effect.mapError(problem))
    } else if (name === "tokenizer.json") {
      return yield* fail(
        new FileProblem({
          file,
          detail: "does not exist; save the tokenizer in its fast form (tokenizer.json) beside the weights"
        })
      )
    }
  }
  return yield* Effect.fromResult(fromFiles(folder, files))
})

/** Refuses a tokenizer that has more tokens than the model's embedding; `source` names the model in the message. */
export const fits = (
  source: string,
  { vocabularySize }: TokenizerCore,
  embedded: number
): Effect.Effect<void, ModelError> =>
  vocabularySize <= embedded
    ? Effect.void
    : Effect.fail(
        fail(
          new BadConfig({
            file: source,
            detail: `the tokenizer has ${vocabularySize} tokens, the model's embedding ${embedded}: they do not belong together`
          })
        )
      )

/** Writes a tokenizer's files into a model folder, byte for byte as they were read or made. */
export const save = Effect.fn("tokenizer.save")(function* (
  folder: string,
  tokenizer: Tokenizer
): Effect.fn.Return<void, ModelError, FileSystem> {
  const fs = yield* FileSystem
  for (const [name, text] of Object.entries(tokenizer.files)) {
    const file = `${folder}/${name}`
    yield* fs.writeFileString(file, text).pipe(Effect.mapError(refused(file, "written")))
  }
})

const readHuggingFace = (
  file: string,
  model: Readonly<Record<string, unknown>>,
  config: Readonly<Record<string, unknown>>
): Result.Result<TokenizerCore, ModelError> =>
  Result.try({
    try: () => {
      const inner = new HuggingFaceTokenizer(model, config)
      let largest = -1
      for (const id of inner.get_vocab(true).values()) if (id > largest) largest = id
      return {
        vocabularySize: largest + 1,
        encode: (text) => (text === "" ? [] : inner.encode(text, { add_special_tokens: false }).ids),
        encodeForModel: (text, pair) => {
          const encoding = inner.encode(text, { text_pair: pair ?? null, return_token_type_ids: true })
          return { ids: encoding.ids, segments: encoding.token_type_ids ?? encoding.ids.map(() => 0) }
        },
        decode: (ids, options) => {
          const list = Array.from(ids, Number)
          if (list.length === 0) return ""
          return inner.decode(list, {
            skip_special_tokens: options?.special !== true,
            clean_up_tokenization_spaces: config["clean_up_tokenization_spaces"] === true
          })
        },
        idOf: (token) => inner.token_to_id(token),
        tokenOf: (id) => inner.id_to_token(id)
      } satisfies TokenizerCore
    },
    catch: (cause) =>
      fail(
        new BadConfig({
          file,
          detail: `cannot be used: ${cause instanceof Error ? cause.message : String(cause)}`
        })
      )
  })
