/** Reading fields of a raw row, with errors that name source, place, field and remedy. */
import { Result } from "effect"
import { BadRow, DataError, MissingColumn } from "./DataError.ts"
import type { RawRow } from "./rows.ts"

export type Read<A> = Result.Result<A, DataError>

const kind = (value: unknown): string =>
  value === null || value === undefined ? "empty" : Array.isArray(value) ? "a list" : `a ${typeof value}`

/** A failure at a field of a row. */
export const badField = (row: RawRow, field: string, detail: string): Read<never> =>
  Result.fail(new DataError({ reason: new BadRow({ source: row.source, place: row.place, field, detail }) }))

/** A row that has none of the layouts of columns that make a record. */
export const noLayout = (row: RawRow, wanted: string, missing: ReadonlyArray<string>): Read<never> =>
  Result.fail(
    new DataError({
      reason: new MissingColumn({
        source: row.source,
        place: row.place,
        wanted,
        missing,
        found: Object.keys(row.values)
      })
    })
  )

/** Whether the row has all these columns (their values may be anything). */
export const has = (row: RawRow, ...columns: ReadonlyArray<string>): boolean =>
  columns.every((column) => Object.hasOwn(row.values, column))

/** A text, trimmed; not empty unless `empty` is allowed. */
export const text = (row: RawRow, field: string, options: { readonly empty?: boolean } = {}): Read<string> => {
  const value = row.values[field]
  if (typeof value !== "string") {
    return options.empty && (value === null || value === undefined)
      ? Result.succeed("")
      : badField(row, field, `is ${kind(value)}, not a text`)
  }
  return value.trim() === "" && !options.empty
    ? badField(row, field, "is empty; fill it or drop the row")
    : Result.succeed(value)
}

/** A list of texts, none empty. A text that holds a JSON list (as CSV does) is read as that. */
export const texts = (row: RawRow, field: string): Read<ReadonlyArray<string>> => {
  const given = row.values[field]
  const value = typeof given === "string" ? parsed(given) : given
  if (!Array.isArray(value)) return badField(row, field, `is ${kind(given)}, not a list of texts`)
  const wrong = value.findIndex((entry) => typeof entry !== "string" || entry.trim() === "")
  return wrong === -1
    ? Result.succeed(value)
    : badField(
        row,
        field,
        `entry ${wrong} is ${typeof value[wrong] === "string" ? "an empty text" : kind(value[wrong])}, not a text`
      )
}

/** The JSON value of a text, or undefined if it is none. */
export const parsed = (value: string): unknown => {
  try {
    return JSON.parse(value)
  } catch {
    return undefined
  }
}

/** The row's own `id` as text (a number as JSON writes it), or a name made of the source and the row's position. */
export const idOf = (row: RawRow, stem: string): string => {
  const { id } = row.values
  if (typeof id === "number" && Number.isFinite(id)) return String(id)
  return typeof id === "string" && id !== "" ? id : `${stem}/${row.index}`
}
