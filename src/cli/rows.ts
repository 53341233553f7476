/** Rows of a query as a table for people, and one row as its fields. Pure. */
import { table } from "../report/table.ts"

export type Row = Readonly<Record<string, unknown>>

/** Up to six significant digits; lists and objects as JSON; null as nothing. */
export const cell = (value: unknown): string => {
  if (value === null || value === undefined) return ""
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(6)))
  return typeof value === "object" ? JSON.stringify(value) : String(value)
}

/** Columns are those of the first row; a column of numbers is right-aligned. */
export const rowsTable = (rows: ReadonlyArray<Row>, width?: number): string => {
  const names = Object.keys(rows[0] ?? {})
  const columns = names.map((name) => {
    const numbers = rows.every((row) => row[name] === null || typeof row[name] === "number")
    return { name, align: numbers ? ("right" as const) : ("left" as const) }
  })
  const cells = rows.map((row) => names.map((name) => cell(row[name])))
  return table(columns, cells, width === undefined ? {} : { width })
}

/** `name  value` lines; a text of several lines goes below its name, indented. */
export const fields = (row: Row): string => {
  const width = Math.max(...Object.keys(row).map((name) => name.length))
  return Object.entries(row)
    .map(([name, value]) => {
      const text = cell(value)
      return text.includes("\n")
        ? `${name}\n${text.replaceAll(/^/gm, "  ")}`
        : `${name.padEnd(width)}  ${text}`.trimEnd()
    })
    .join("\n")
}
