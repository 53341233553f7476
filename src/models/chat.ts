/**
 * How a prompt becomes the token ids that a model answers, and an answer the ids that it is trained on.
 *
 * With a chat template (`chat_template.jinja`, or `chat_template` in `tokenizer_config.json`), the prompt is rendered as
 * transformers' `apply_chat_template(messages, add_generation_prompt=True)` and its special tokens are read from the text.
 * Without one (base models, synthetic worlds) it is `[bos] prompt [sep]`, with the special tokens that the tokenizer has; a
 * tokenizer without a separator gets a newline. An answer is its tokens and the end token. Nothing here reads the clock:
 * templates that ask for today's date (`strftime_now`) get their fixed fallback.
 */
import { Template } from "@huggingface/jinja"
import { Result, Schema } from "effect"
import { BadConfig, fail, type ModelError } from "./ModelError.ts"
import type { Tokenizer } from "./tokenizer.ts"

export interface Message {
  readonly role: "system" | "user" | "assistant"
  readonly content: string
}

/** A prompt: one user message, or a conversation. */
export type Prompt = string | ReadonlyArray<Message>

export interface Chat {
  /** Whether a chat template is applied. */
  readonly templated: boolean
  /** The prompt as text, special tokens spelled out; undefined without a template. */
  readonly render: (prompt: Prompt) => string | undefined
  /** The ids that generation starts from. */
  readonly encodePrompt: (prompt: Prompt) => ReadonlyArray<number>
  /** The ids of an answer that ends: its tokens and the end token (where there is one). */
  readonly encodeCompletion: (completion: string) => ReadonlyArray<number>
  /** The ids that end an answer. */
  readonly stopIds: ReadonlyArray<number>
}

const NamedTemplates = Schema.Array(Schema.Struct({ name: Schema.String, template: Schema.String }))
const ChatConfig = Schema.fromJsonString(
  Schema.Struct({ chat_template: Schema.optionalKey(Schema.NullOr(Schema.Union([Schema.String, NamedTemplates]))) })
)

const templateText = (source: string, tokenizer: Tokenizer): Result.Result<string | undefined, ModelError> => {
  const own = tokenizer.files["chat_template.jinja"]
  if (own !== undefined) return Result.succeed(own)
  return Schema.decodeResult(ChatConfig)(tokenizer.files["tokenizer_config.json"] ?? "{}").pipe(
    Result.mapError((error) =>
      fail(new BadConfig({ file: `${source}/tokenizer_config.json`, detail: `chat_template: ${error.message}` }))
    ),
    Result.map(({ chat_template }) =>
      typeof chat_template === "string" || chat_template === undefined || chat_template === null
        ? (chat_template ?? undefined)
        : (chat_template.find(({ name }) => name === "default")?.template ?? chat_template[0]?.template)
    )
  )
}

const contents = (prompt: Prompt): string =>
  typeof prompt === "string" ? prompt : prompt.map(({ content }) => content).join("\n")

/**
 * The chat of a tokenizer. `stopIds` are the model's end tokens (`eos_token_id` of `generation_config.json` or
 * `config.json`); the tokenizer's own end token is always one of them. `source` names the folder in messages.
 */
export const fromTokenizer = (
  source: string,
  tokenizer: Tokenizer,
  stopIds: ReadonlyArray<number> = []
): Result.Result<Chat, ModelError> =>
  Result.gen(function* () {
    const { bos, eos, sep } = tokenizer.special
    const ends = [...new Set([...(eos === undefined ? [] : [eos]), ...stopIds])].sort((a, b) => a - b)
    const end = eos ?? ends[0]
    const encodeCompletion = (completion: string) => [
      ...tokenizer.encode(completion),
      ...(end === undefined ? [] : [end])
    ]
    const text = yield* templateText(source, tokenizer)
    if (text === undefined) {
      const before = bos === undefined ? [] : [bos]
      const plain: Chat = {
        templated: false,
        render: () => undefined,
        encodePrompt: (prompt) =>
          sep === undefined
            ? [...before, ...tokenizer.encode(`${contents(prompt)}\n`)]
            : [...before, ...tokenizer.encode(contents(prompt)), sep],
        encodeCompletion,
        stopIds: ends
      }
      return plain
    }
    const template = yield* Result.try({
      try: () => new Template(text),
      catch: (cause) =>
        fail(new BadConfig({ file: source, detail: `the chat template does not parse: ${String(cause)}` }))
    })
    const render = (prompt: Prompt) =>
      template.render({
        messages: typeof prompt === "string" ? [{ role: "user", content: prompt }] : prompt,
        add_generation_prompt: true,
        ...tokenizer.specialText
      })
    const chat: Chat = {
      templated: true,
      render,
      encodePrompt: (prompt) => tokenizer.encode(render(prompt)),
      encodeCompletion,
      stopIds: ends
    }
    return chat
  })
