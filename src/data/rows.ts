/**
 * Rows of a data file or query, in order and streamed, as plain values with the place they come from: JSONL, JSON (a
 * list of objects), CSV and TSV with a header, Parquet and DuckDB queries.
 */
import { createReadStream } from "node:fs"
import { readFile } from "node:fs/promises"
import { basename, extname } from "node:path"
import { createInterface } from "node:readline"
import { DuckDBInstance } from "@duckdb/node-api"
import { Schema, Stream } from "effect"
import { CsvFault, csvRecords } from "./csv.ts"
import { BadRow, DataError, SourceUnreadable, UnknownFormat } from "./DataError.ts"

/**
 * Where rows come from: a file by its path, or a DuckDB query: on a database file, or over a file that it calls `data`,
 * or on neither.
 */
export const DataSource = Schema.Union([
  Schema.Struct({ path: Schema.NonEmptyString }),
  Schema.Struct({
    query: Schema.NonEmptyString,
    database: Schema.optionalKey(Schema.NonEmptyString),
    data: Schema.optionalKey(Schema.NonEmptyString)
  })
])
export type DataSource = typeof DataSource.Type

export interface RawRow {
  /** File name or "query": what messages call the source. */
  readonly source: string
  /** "line 12" or "row 3". */
  readonly place: string
  /** Position among the rows, from 0. */
  readonly index: number
  readonly values: Readonly<Record<string, unknown>>
}

/** What messages call a source. */
export const sourceName = (source: DataSource): string =>
  "path" in source ? source.path : source.data === undefined ? "query" : `query over ${source.data}`

/** A short name for ids: the file's name without its ending. */
export const sourceStem = (source: DataSource): string =>
  "path" in source ? basename(source.path, extname(source.path)) : "query"

const bad = (source: string, place: string, detail: string) =>
  new DataError({ reason: new BadRow({ source, place, detail }) })

const unreadable = (source: string, cause: unknown) => {
  const missing = cause instanceof Error && "code" in cause && cause.code === "ENOENT"
  const detail = missing ? "no such file; check the path" : cause instanceof Error ? cause.message : String(cause)
  return new DataError({ reason: new SourceUnreadable({ source, detail }) })
}

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const parseJson = (text: string, source: string, place: string): unknown => {
  try {
    return JSON.parse(text)
  } catch (cause) {
    const detail = cause instanceof Error ? cause.message : String(cause)
    throw bad(source, place, `is not JSON: ${detail}`)
  }
}

async function* jsonlRows(path: string): AsyncGenerator<RawRow> {
  let line = 0
  let index = 0
  for await (const text of createInterface({
    input: createReadStream(path, "utf8"),
    crlfDelay: Number.POSITIVE_INFINITY
  })) {
    line++
    if (text.trim() === "") continue
    const place = `line ${line}`
    const values = parseJson(text, path, place)
    if (!isObject(values)) throw bad(path, place, "is not a JSON object; write one object a line")
    yield { source: path, place, index: index++, values }
  }
}

async function* jsonRows(path: string): AsyncGenerator<RawRow> {
  const list = parseJson(await readFile(path, "utf8"), path, "the whole file")
  if (!Array.isArray(list))
    throw bad(path, "the whole file", "is not a list of objects; for one object a line name it .jsonl")
  for (const [index, values] of list.entries()) {
    if (!isObject(values)) throw bad(path, `row ${index}`, "is not a JSON object")
    yield { source: path, place: `row ${index}`, index, values }
  }
}

async function* csvRows(path: string, delimiter: "," | "\t"): AsyncGenerator<RawRow> {
  const text = createReadStream(path, { encoding: "utf8", highWaterMark: 1 << 18 })
  let header: ReadonlyArray<string> | null = null
  let index = 0
  try {
    for await (const { line, cells } of csvRecords(text, { delimiter, quotes: delimiter === "," })) {
      if (header === null) {
        header = cells.map((cell) => cell.trim())
        const twice = header.find((name, k) => header?.indexOf(name) !== k)
        if (twice !== undefined) throw bad(path, `line ${line}`, `the header names the column "${twice}" twice`)
        continue
      }
      if (cells.length !== header.length) {
        throw bad(
          path,
          `line ${line}`,
          `has ${cells.length} cells where the header has ${header.length}; quote cells that hold commas or line breaks`
        )
      }
      yield {
        source: path,
        place: `line ${line}`,
        index: index++,
        values: Object.fromEntries(header.map((name, k) => [name, cells[k]!]))
      }
    }
  } catch (cause) {
    throw cause instanceof CsvFault ? bad(path, `line ${cause.line}`, cause.message) : cause
  }
}

/** JavaScript values as JSON has them: integers that fit become numbers. */
const plain = (value: unknown): unknown =>
  typeof value === "bigint"
    ? Number.isSafeInteger(Number(value))
      ? Number(value)
      : String(value)
    : Array.isArray(value)
      ? value.map(plain)
      : isObject(value) && !(value instanceof Date)
        ? Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plain(inner)]))
        : value

async function* queryRows(
  source: string,
  query: string,
  values: Array<string>,
  { data, database }: { readonly database?: string; readonly data?: string } = {}
): AsyncGenerator<RawRow> {
  const instance = await DuckDBInstance.create(database ?? ":memory:", database ? { access_mode: "READ_ONLY" } : {})
  try {
    const connection = await instance.connect()
    try {
      if (data !== undefined) {
        await connection.run(`create temp view data as select * from '${data.replaceAll("'", "''")}'`)
      }
      const result = await connection.stream(query, values)
      let index = 0
      for await (const rows of result.yieldRowObjectJs()) {
        for (const row of rows) {
          const place = `row ${index}`
          yield { source, place, index: index++, values: plain(row) as Readonly<Record<string, unknown>> }
        }
      }
    } finally {
      connection.closeSync()
    }
  } finally {
    instance.closeSync()
  }
}

const open = (source: DataSource): AsyncIterable<RawRow> => {
  if ("query" in source) return queryRows(sourceName(source), source.query, [], source)
  const { path } = source
  switch (extname(path).toLowerCase()) {
    case ".jsonl":
    case ".ndjson":
      return jsonlRows(path)
    case ".json":
      return jsonRows(path)
    case ".csv":
      return csvRows(path, ",")
    case ".tsv":
      return csvRows(path, "\t")
    case ".parquet":
      return queryRows(path, "SELECT * FROM read_parquet(?)", [path])
    default:
      throw new DataError({ reason: new UnknownFormat({ source: path }) })
  }
}

/** The rows of a source, streamed in order. */
export const streamRows = (source: DataSource): Stream.Stream<RawRow, DataError> =>
  Stream.suspend(() => {
    try {
      return Stream.fromAsyncIterable(open(source), (cause) =>
        cause instanceof DataError ? cause : unreadable(sourceName(source), cause)
      )
    } catch (cause) {
      return Stream.fail(cause instanceof DataError ? cause : unreadable(sourceName(source), cause))
    }
  })
