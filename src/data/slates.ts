/**
 * Logged slates from raw rows, in two layouts; every column may be called otherwise (`SlateColumns`).
 *
 * | layout | columns |
 * | --- | --- |
 * | wide: a slate a row | `prompt`, `responses`: a list of texts with `votes` (and others) beside it as lists, or of objects `{ text, votes, ... }` |
 * | long: a response a row | `prompt`, `response`[, `slate`], `votes`, ...; rows of one `slate` (else of one prompt) are a slate, in file order |
 *
 * Optional in both: `relevance`, `exposure`, `logprob`, `tokens`; of a row: `id`, `promptId`, `source`.
 */
import { Effect, Result, Schema, Stream } from "effect"
import { DataError, EmptyDataset } from "./DataError.ts"
import { badField, has, noLayout, parsed, type Read, text } from "./fields.ts"
import type { LoggedResponse, LoggedSlate } from "./records.ts"
import { LoggedSlate as LoggedSlateSchema } from "./records.ts"
import { type DataSource, type RawRow, sourceName, sourceStem, streamRows } from "./rows.ts"

/** What the columns of a file are called. */
export interface SlateColumns {
  readonly prompt: string
  readonly responses: string
  readonly response: string
  readonly slate: string
  readonly votes: string
  readonly relevance: string
  readonly exposure: string
  readonly logprob: string
  readonly tokens: string
}

export const defaultSlateColumns: SlateColumns = {
  prompt: "prompt",
  responses: "responses",
  response: "response",
  slate: "slate",
  votes: "votes",
  relevance: "relevance",
  exposure: "exposure",
  logprob: "logprob",
  tokens: "tokens"
}

const numbers = ["votes", "relevance", "exposure", "logprob", "tokens"] as const
type NumberName = (typeof numbers)[number]

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** A number of a response; texts that hold one (CSV) are read, absent and empty ones are absent. */
const numberOf = (row: RawRow, field: string, value: unknown): Read<number | undefined> => {
  if (value === undefined || value === null || value === "") return Result.succeed(undefined)
  const given = typeof value === "string" ? Number(value) : value
  if (typeof given === "number" && Number.isFinite(given)) return Result.succeed(given)
  const shown = typeof value === "number" ? String(value) : JSON.stringify(value)
  return badField(row, field, `is ${shown}, not a finite number; write a number or leave it out`)
}

const refusals: { readonly [N in NumberName]?: readonly [(value: number) => boolean, string] } = {
  votes: [(x) => x >= 0, "votes are counts of at least 0: subtract down-votes before, and floor at 0"],
  exposure: [(x) => x > 0, "an exposure is more than 0: leave the response out if nobody saw it"],
  logprob: [(x) => x <= 1e-3, "a log-probability is at most 0: write the natural logarithm of a probability"],
  tokens: [(x) => Number.isInteger(x) && x >= 1, "tokens are counted from 1, the end token included"]
}

const responseOf = (
  row: RawRow,
  field: string,
  said: unknown,
  valueOf: (name: NumberName) => readonly [field: string, value: unknown]
): Read<LoggedResponse> =>
  Result.gen(function* () {
    if (typeof said !== "string" || said.trim() === "") {
      return yield* badField(row, field, "is no text, or an empty one; fill it or drop the response")
    }
    const response: { text: string } & { [N in NumberName]?: number } = { text: said }
    for (const name of numbers) {
      const [place, given] = valueOf(name)
      const value = yield* numberOf(row, place, given)
      if (value === undefined) continue
      const refusal = refusals[name]
      if (refusal !== undefined && !refusal[0](value)) return yield* badField(row, place, `is ${value}; ${refusal[1]}`)
      response[name] = name === "logprob" ? Math.min(0, value) : value
    }
    return response
  })

const textOf = (row: RawRow, field: string): string | undefined => {
  const value = row.values[field]
  return typeof value === "string" && value !== "" ? value : typeof value === "number" ? String(value) : undefined
}

interface Part {
  readonly key: string
  readonly slate: Omit<LoggedSlate, "responses">
  readonly responses: ReadonlyArray<LoggedResponse>
}

/** The slate of a row, or the response that a row adds to one. */
const partOf = (row: RawRow, columns: SlateColumns, stem: string): Read<Part> =>
  Result.gen(function* () {
    const wide = has(row, columns.responses)
    const missing = [
      ...(has(row, columns.prompt) ? [] : [columns.prompt]),
      ...(wide || has(row, columns.response) ? [] : [columns.responses])
    ]
    if (missing.length > 0) return yield* noLayout(row, "logged slate", missing)
    const prompt = yield* text(row, columns.prompt)
    const promptId = textOf(row, "promptId") ?? prompt
    const source = textOf(row, "source")
    const named = (id: string) => ({ id, promptId, prompt, ...(source === undefined ? {} : { source }) })
    if (!wide) {
      const key = textOf(row, columns.slate) ?? promptId
      const response = yield* responseOf(row, columns.response, row.values[columns.response], (name) => [
        columns[name],
        row.values[columns[name]]
      ])
      return { key, slate: named(key), responses: [response] }
    }
    const given = row.values[columns.responses]
    const list = typeof given === "string" ? parsed(given) : given
    if (!Array.isArray(list) || list.length === 0) {
      return yield* badField(row, columns.responses, "is no list of responses, or an empty one; drop the row")
    }
    const beside = new Map<NumberName, ReadonlyArray<unknown>>()
    for (const name of numbers) {
      const column = row.values[columns[name]]
      const values = typeof column === "string" ? parsed(column) : column
      if (!Array.isArray(values)) continue
      if (values.length !== list.length) {
        return yield* badField(row, columns[name], `has ${values.length} entries for ${list.length} responses`)
      }
      beside.set(name, values)
    }
    const responses: Array<LoggedResponse> = []
    for (const [k, entry] of list.entries()) {
      const object = isObject(entry) ? entry : undefined
      const at = `${columns.responses}[${k}]`
      const said = object === undefined ? entry : (object["text"] ?? object[columns.response])
      responses.push(
        yield* responseOf(row, at, said, (name) =>
          object !== undefined && object[columns[name]] !== undefined
            ? [`${at}.${columns[name]}`, object[columns[name]]]
            : [`${columns[name]}[${k}]`, beside.get(name)?.[k]]
        )
      )
    }
    const id = textOf(row, "id") ?? textOf(row, columns.slate) ?? `${stem}/${row.index}`
    return { key: id, slate: named(id), responses }
  })

/** The slates of a source, in the order of their first row. Fails where there is none, and at the first row that is none. */
export const readSlates = (
  source: DataSource,
  columns: SlateColumns = defaultSlateColumns
): Effect.Effect<ReadonlyArray<LoggedSlate>, DataError> =>
  Effect.gen(function* () {
    const stem = sourceStem(source)
    const slates = new Map<string, { slate: Part["slate"]; responses: Array<LoggedResponse> }>()
    const parts = yield* streamRows(source).pipe(
      Stream.mapEffect((row) => Effect.map(Effect.fromResult(partOf(row, columns, stem)), (part) => ({ part, row }))),
      Stream.runCollect
    )
    for (const { part, row } of parts) {
      const known = slates.get(part.key)
      if (known === undefined) slates.set(part.key, { slate: part.slate, responses: [...part.responses] })
      else if (known.slate.prompt === part.slate.prompt) known.responses.push(...part.responses)
      else {
        return yield* Effect.fromResult(
          badField(
            row,
            columns.prompt,
            `belongs to slate ${JSON.stringify(part.key)}, which has another prompt; a slate answers one prompt`
          )
        )
      }
    }
    const found = [...slates.values()].map(({ responses, slate }) => ({ ...slate, responses }))
    if (found.length === 0) {
      return yield* new DataError({ reason: new EmptyDataset({ source: sourceName(source), wanted: "logged slate" }) })
    }
    return yield* Effect.orDie(Schema.decodeUnknownEffect(Schema.Array(LoggedSlateSchema))(found))
  })
