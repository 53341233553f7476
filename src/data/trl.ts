/**
 * TRL's dataset types, in both of its formats: texts ("standard") and lists of messages ("conversational").
 *
 * | type | columns | becomes |
 * | --- | --- | --- |
 * | language modelling | `text` | the text as an answer to a prompt that the caller gives |
 * | | `messages` | the conversation before its last assistant turn as prompt, that turn as answer |
 * | prompt-completion | `prompt, completion` | prompt and answer |
 * | preference | `prompt, chosen, rejected` | a pair; `margin` and `weight` are read where they are there |
 * | | `chosen, rejected` (implicit prompt) | the prompt is what both have in common |
 * | unpaired preference | `prompt, completion, label` | an answer that is desirable or not |
 *
 * Where a column is called otherwise, `renamed` says how. Lists and labels may be texts, as CSV has them. Messages may be
 * ShareGPT's (`from` human or gpt, `value`), and one message may stand without its list.
 * https://huggingface.co/docs/trl/dataset_formats
 */
import { Result } from "effect"
import { BadRow, DataError } from "./DataError.ts"
import { badField, has, idOf, noLayout, parsed, type Read, text } from "./fields.ts"
import type { RecordReader } from "./readers.ts"
import type { Message, PreferencePair, PromptCompletion, PromptText, UnpairedPreference } from "./records.ts"
import type { RawRow } from "./rows.ts"

/** Who speaks, as TRL and as ShareGPT call them. */
const roles: Readonly<Record<string, Message["role"]>> = {
  system: "system",
  user: "user",
  assistant: "assistant",
  human: "user",
  gpt: "assistant"
}

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** The value of a field: a JSON list where a text holds one, one message as a list of it. */
const listOrValue = (row: RawRow, field: string): unknown => {
  const value = row.values[field]
  if (isObject(value)) return [value]
  if (typeof value !== "string" || !value.trimStart().startsWith("[")) return value
  const list = parsed(value)
  // Answers may be lists in JSON themselves: only what has speakers is a conversation.
  const spoken = (entry: unknown) => isObject(entry) && ("role" in entry || "from" in entry)
  return Array.isArray(list) && list.length > 0 && list.every(spoken) ? list : value
}

const isConversation = (row: RawRow, field: string): boolean => Array.isArray(listOrValue(row, field))

const messages = (row: RawRow, field: string): Read<ReadonlyArray<Message>> => {
  const list = listOrValue(row, field)
  if (!Array.isArray(list)) return badField(row, field, "is not a list of messages { role, content }")
  const found: Array<Message> = []
  for (const [k, entry] of list.entries()) {
    const { content, from, role: given = from, value } = isObject(entry) ? entry : {}
    const role = typeof given === "string" ? roles[given] : undefined
    const said = content ?? value
    if (role === undefined) {
      return badField(
        row,
        `${field}[${k}].role`,
        `is ${JSON.stringify(given) ?? "missing"}, not system, user, assistant`
      )
    }
    if (typeof said !== "string") return badField(row, `${field}[${k}].content`, "is not a text")
    found.push({ role, content: said })
  }
  return Result.succeed(found)
}

/** A conversation as a prompt; one user message is its text. */
const asPrompt = (row: RawRow, field: string, turns: ReadonlyArray<Message>): Read<PromptText> => {
  const [first, ...rest] = turns
  if (first === undefined) return badField(row, field, "has no message before the answer: there is no prompt")
  return Result.succeed(
    rest.length === 0 && first.role === "user" && first.content !== "" ? first.content : [first, ...rest]
  )
}

const prompt = (row: RawRow): Read<PromptText> =>
  isConversation(row, "prompt")
    ? Result.flatMap(messages(row, "prompt"), (turns) => asPrompt(row, "prompt", turns))
    : text(row, "prompt")

/** The text of an answer: a text, or one assistant message. */
const answer = (row: RawRow, field: string): Read<string> =>
  isConversation(row, field)
    ? Result.flatMap(messages(row, field), (turns) => lastTurn(row, field, turns, 1))
    : text(row, field)

/** The content of a conversation's last turn, the assistant's; `most` turns are allowed. */
const lastTurn = (row: RawRow, field: string, turns: ReadonlyArray<Message>, most: number): Read<string> => {
  const last = turns.at(-1)
  if (last?.role !== "assistant")
    return badField(row, field, "does not end with an assistant's message: there is no answer")
  if (turns.length > most)
    return badField(row, field, `has ${turns.length} messages; an answer is one, the assistant's`)
  return last.content.trim() === ""
    ? badField(row, field, "has an empty answer; fill it or drop the row")
    : Result.succeed(last.content)
}

const missing = (row: RawRow, wanted: string, ...columns: ReadonlyArray<string>) =>
  noLayout(
    row,
    wanted,
    columns.filter((column) => !has(row, column))
  )

export const promptCompletion: RecordReader<PromptCompletion> = {
  wanted: "prompt and completion",
  read: (row, stem) =>
    Result.gen(function* () {
      if (!has(row, "prompt", "completion")) return yield* missing(row, "prompt and completion", "prompt", "completion")
      return { id: idOf(row, stem), prompt: yield* prompt(row), completion: yield* answer(row, "completion") }
    })
}

/** `ask`: what a text without a prompt is the answer to. */
export const languageModelling = (ask: string | undefined): RecordReader<PromptCompletion> => ({
  wanted: "text or conversation",
  read: (row, stem) =>
    Result.gen(function* () {
      const id = idOf(row, stem)
      if (has(row, "messages")) {
        const turns = yield* messages(row, "messages")
        const completion = yield* lastTurn(row, "messages", turns, Number.POSITIVE_INFINITY)
        return { id, prompt: yield* asPrompt(row, "messages", turns.slice(0, -1)), completion }
      }
      if (!has(row, "text")) return yield* missing(row, "text or conversation", "text")
      if (ask === undefined) {
        return yield* badField(row, "text", "has no prompt, and an answer needs one: say by `prompt` what it answers")
      }
      return { id, prompt: ask, completion: yield* text(row, "text") }
    })
})

/** What two texts begin with, as TRL cuts it: up to the first difference, a space before it left to the answers. */
const commonText = (a: string, b: string): number => {
  let at = 0
  while (at < a.length && at < b.length && a[at] === b[at]) at++
  // Never between the halves of a character, and the space before a word belongs to the word.
  if (at > 0 && /[\uD800-\uDBFF]/.test(a[at - 1]!)) at--
  return at > 0 && a[at - 1] === " " ? at - 1 : at
}

const implicit = (row: RawRow): Read<Pick<PreferencePair, "prompt" | "chosen" | "rejected">> =>
  Result.gen(function* () {
    if (isConversation(row, "chosen")) {
      const [chosen, rejected] = [yield* messages(row, "chosen"), yield* messages(row, "rejected")]
      const shared = chosen.slice(0, -1)
      if (JSON.stringify(shared) !== JSON.stringify(rejected.slice(0, -1))) {
        return yield* badField(
          row,
          "rejected",
          'differs from "chosen" before its last message: their prompts are not one'
        )
      }
      return {
        prompt: yield* asPrompt(row, "chosen", shared),
        chosen: yield* lastTurn(row, "chosen", chosen, Number.POSITIVE_INFINITY),
        rejected: yield* lastTurn(row, "rejected", rejected, Number.POSITIVE_INFINITY)
      }
    }
    const [chosen, rejected] = [yield* text(row, "chosen"), yield* text(row, "rejected")]
    const at = commonText(chosen, rejected)
    const parts = { prompt: chosen.slice(0, at), chosen: chosen.slice(at), rejected: rejected.slice(at) }
    if (parts.prompt.trim() === "") {
      return yield* badField(row, "chosen", 'and "rejected" begin with nothing in common: give the column "prompt"')
    }
    if (parts.chosen.trim() === "" || parts.rejected.trim() === "") {
      return yield* badField(
        row,
        "rejected",
        'or "chosen" is all prompt: one begins the other; give the column "prompt"'
      )
    }
    return parts
  })

/** A number that may be there. */
const numberAt = (row: RawRow, field: string, least: number): Read<number | undefined> => {
  const given = row.values[field]
  if (given === undefined || given === null || given === "") return Result.succeed(undefined)
  const value = typeof given === "string" ? Number(given) : given
  return typeof value === "number" && Number.isFinite(value) && value >= least
    ? Result.succeed(value)
    : badField(row, field, `is ${JSON.stringify(given)}, not a number${least === 0 ? " >= 0" : ""}`)
}

export const preferencePairs: RecordReader<PreferencePair> = {
  wanted: "preference",
  read: (row, stem) =>
    Result.gen(function* () {
      if (!has(row, "chosen", "rejected")) return yield* missing(row, "preference", "chosen", "rejected")
      const pair = has(row, "prompt")
        ? { prompt: yield* prompt(row), chosen: yield* answer(row, "chosen"), rejected: yield* answer(row, "rejected") }
        : yield* implicit(row)
      const margin = yield* numberAt(row, "margin", Number.NEGATIVE_INFINITY)
      const weight = yield* numberAt(row, "weight", 0)
      return {
        id: idOf(row, stem),
        ...pair,
        ...(margin === undefined ? {} : { margin }),
        ...(weight === undefined ? {} : { weight })
      }
    })
}

const labels: Readonly<Record<string, boolean>> = { true: true, false: false, "1": true, "0": false }

export const unpairedPreferences: RecordReader<UnpairedPreference> = {
  wanted: "unpaired preference",
  read: (row, stem) =>
    Result.gen(function* () {
      if (!has(row, "prompt", "completion", "label")) {
        return yield* missing(row, "unpaired preference", "prompt", "completion", "label")
      }
      const label = labels[String(row.values["label"]).trim().toLowerCase()]
      if (label === undefined) {
        return yield* badField(row, "label", `is ${JSON.stringify(row.values["label"])}, not true or false`)
      }
      return { id: idOf(row, stem), prompt: yield* prompt(row), completion: yield* answer(row, "completion"), label }
    })
}

/** Our name of a column: its name in the file. */
export type Columns = Readonly<Partial<Record<string, string>>>

/** The error with the file's own name of the column it is about. */
const inTheirWords = (error: DataError, columns: Columns): DataError => {
  const { reason } = error
  if (reason._tag !== "BadRow" || reason.field === undefined) return error
  const [ours = ""] = reason.field.split("[")
  const theirs = columns[ours]
  if (theirs === undefined) return error
  const { detail, field, place, source } = reason
  return new DataError({ reason: new BadRow({ source, place, detail, field: `${theirs}${field.slice(ours.length)}` }) })
}

/** A reader of rows whose columns are called otherwise. A column that `columns` names and that is not there is missing. */
export const renamed = <A>(reader: RecordReader<A>, columns: Columns): RecordReader<A> => ({
  wanted: reader.wanted,
  read: (row, stem) => {
    const given = Object.entries(columns).filter((entry): entry is [string, string] => entry[1] !== undefined)
    const absent = given.flatMap(([, theirs]) => (has(row, theirs) ? [] : [theirs]))
    if (absent.length > 0) return noLayout(row, reader.wanted, absent)
    const theirs = new Set(given.map(([, name]) => name))
    const kept = Object.entries(row.values).filter(([name]) => !theirs.has(name))
    const values = Object.fromEntries([...kept, ...given.map(([ours, name]) => [ours, row.values[name]] as const)])
    return Result.mapError(reader.read({ ...row, values }, stem), (error) => inTheirWords(error, columns))
  }
})
