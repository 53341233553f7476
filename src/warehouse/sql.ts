/**
 * Questions to a warehouse: one reading statement on the published database, opened read-only, with no way to files,
 * extensions, settings or the network. DuckDB itself says what a statement is, not a list of words.
 */
import { existsSync } from "node:fs"
import { mkdtemp, readFile, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout } from "node:timers/promises"
import {
  type DuckDBConnection,
  type DuckDBPreparedStatement,
  type DuckDBResultReader,
  StatementType
} from "@duckdb/node-api"
import { Effect, type Scope } from "effect"
import type { SqlError } from "effect/sql"
import { table } from "../report/table.ts"
import { connect } from "./DuckDb.ts"
import { QueryRefused } from "./errors.ts"
import { type JsonRow, jsonRows } from "./json.ts"
import { publishedName } from "./publish.ts"

export type Format = "table" | "json" | "csv" | "parquet"

type Reason = QueryRefused["reason"]
const refused = (reason: Reason, detail: string) => new QueryRefused({ reason, detail })

const remedy = "One statement that reads is taken: SELECT, WITH, FROM, VALUES, DESCRIBE, SHOW, SUMMARIZE or EXPLAIN."

/** DuckDB's complaint as an answer; what it will not do for safety's sake is told from what it does not understand. */
const complaint = (cause: unknown): QueryRefused => {
  const text = cause instanceof Error ? cause.message : String(cause)
  if (/read-only mode/.test(text))
    return refused("writes", `this statement writes; the database is open for reading only. ${remedy}`)
  if (/^(Failed to \w+ \w+: )?Permission Error/.test(text)) {
    return refused("access", `this query reaches outside the database, which is not allowed: ${text}`)
  }
  return refused("invalid", text.replace(/^Failed to extract statements: /, ""))
}

const attempt = <A>(work: () => Promise<A>): Effect.Effect<A, QueryRefused> =>
  Effect.tryPromise({ try: work, catch: complaint })

const safe = {
  access_mode: "READ_ONLY",
  autoinstall_known_extensions: "false",
  autoload_known_extensions: "false",
  allow_community_extensions: "false"
}

const unreadable = (path: string, reason: SqlError.SqlErrorReason) =>
  reason._tag === "LockTimeoutError"
    ? refused(
        "missing",
        `${path} is open for writing in another program: close it there, or open it read-only (duckdb -readonly)`
      )
    : refused(
        "missing",
        `${path} cannot be read (${reason.message ?? reason._tag}): \`exp rebuild\` makes it again from the journals`
      )

/** The published database of a warehouse folder, locked down. `folder`: the one folder that it may write to. */
const openPublished = (dir: string, folder?: string): Effect.Effect<DuckDBConnection, QueryRefused, Scope.Scope> =>
  Effect.gen(function* () {
    const path = join(dir, publishedName)
    if (!existsSync(path)) {
      return yield* refused(
        "missing",
        `${dir} has no database yet (${publishedName}): \`exp run EXPERIMENT\` makes it, and \`exp rebuild\` makes it again from journals. --warehouse names another folder`
      )
    }
    const connection = yield* connect({ path, config: safe }).pipe(Effect.mapError((e) => unreadable(path, e.reason)))
    yield* attempt(async () => {
      if (folder !== undefined) await connection.run(`set allowed_directories = ['${folder.replaceAll("'", "''")}']`)
      await connection.run("set TimeZone = 'UTC'")
      await connection.run("set enable_external_access = false")
      await connection.run("set lock_configuration = true")
    })
    return connection
  })

/** The one statement of a text, if it only reads. */
const prepare = (connection: DuckDBConnection, text: string): Effect.Effect<DuckDBPreparedStatement, QueryRefused> =>
  Effect.gen(function* () {
    // DuckDB has no answer for a text without any statement.
    if (text.replace(/--[^\n]*|\/\*[\s\S]*?\*\//g, "").replace(/[\s;]/g, "") === "") {
      return yield* refused("empty", `there is no statement in ${JSON.stringify(text)}. ${remedy}`)
    }
    const statements = yield* attempt(() => connection.extractStatements(text))
    if (statements.count > 1) {
      // DuckDB makes two statements of a PIVOT that has to look for its columns.
      const hint = /\bpivot\b/i.test(text)
        ? " A PIVOT needs its columns named: PIVOT t ON c IN ('a', 'b') USING ..."
        : ""
      return yield* refused("several", `these are ${statements.count} statements. ${remedy}${hint}`)
    }
    const statement = yield* attempt(() => statements.prepare(0))
    const type = statement.statementType
    if (type !== StatementType.SELECT && type !== StatementType.EXPLAIN) {
      return yield* refused(
        "writes",
        `this is a statement of type ${StatementType[type] ?? type}, which may change something. ${remedy}`
      )
    }
    if (statement.parameterCount > 0) {
      return yield* refused(
        "invalid",
        "the query has parameters ($1, ?), but there is nothing to fill them with: write the values"
      )
    }
    return statement
  })

/**
 * A query that ends when whoever asked goes away (Ctrl-C). DuckDB computes on another thread: it has to be told, more
 * than once since what it is told before it begins is forgotten, and has to have ended before its connection closes.
 */
const stoppable = <A>(connection: DuckDBConnection, work: () => Promise<A>): Effect.Effect<A, QueryRefused> =>
  Effect.suspend(() => {
    const running = work()
    const ended = running.then(
      () => true,
      () => true
    )
    const stop = Effect.gen(function* () {
      for (;;) {
        connection.interrupt()
        if (yield* Effect.promise(() => Promise.race([ended, setTimeout(50, false)]))) return
      }
    })
    return attempt(() => running).pipe(Effect.onInterrupt(() => stop))
  })

const read = Effect.fnUntraced(function* (dir: string, text: string, folder?: string) {
  const connection = yield* openPublished(dir, folder)
  const statement = yield* prepare(connection, text)
  return [yield* stoppable(connection, () => statement.runAndReadAll()), connection] as const
})

const identifier = (name: string) => `"${name.replaceAll('"', '""')}"`

/** The rows of a result in a file that DuckDB writes: from a temporary table, since not every statement nests in COPY. */
const copied = Effect.fnUntraced(function* (dir: string, text: string, options: string) {
  const folder = yield* Effect.acquireRelease(
    Effect.promise(() => mkdtemp(join(tmpdir(), "exp-sql-"))),
    (made) => Effect.promise(() => rm(made, { recursive: true, force: true }))
  )
  const [reader, connection] = yield* read(dir, text, folder)
  const names = reader.deduplicatedColumnNames()
  const file = join(folder, "result")
  return yield* attempt(async () => {
    const definitions = reader
      .columnTypes()
      .map((type, c) => `${identifier(names[c]!)} ${type.alias ?? type.toString()}`)
    await connection.run(`create temp table result (${definitions.join(", ")})`)
    const appender = await connection.createAppender("result", "main", "temp")
    const types = reader.columnTypes()
    for (const row of reader.getRows()) {
      for (const [c, value] of row.entries())
        value === null ? appender.appendNull() : appender.appendValue(value, types[c]!)
      appender.endRow()
    }
    appender.closeSync()
    await connection.run(`copy temp.main.result to '${file.replaceAll("'", "''")}' (${options})`)
    return new Uint8Array(await readFile(file))
  })
})

const rightAligned = /^(TINYINT|SMALLINT|INTEGER|BIGINT|HUGEINT|U\w*INT|FLOAT|DOUBLE|DECIMAL)/

/** A result as aligned text; JSON values are printed as JSON, null as nothing. */
export const asTable = (reader: DuckDBResultReader, width?: number): string => {
  const types = reader.columnTypes()
  const columns = reader.deduplicatedColumnNames().map((name, c) => ({
    name,
    align: rightAligned.test(types[c]!.toString()) ? ("right" as const) : ("left" as const)
  }))
  const rows = reader
    .getRows()
    .map((row) => row.map((value) => (value === null ? "" : typeof value === "number" ? number(value) : String(value))))
  const count = `${rows.length.toLocaleString("en")} row${rows.length === 1 ? "" : "s"}`
  return `${table(columns, rows, width === undefined ? {} : { width })}\n${count}`
}

/** Up to nine significant digits: enough to tell rows apart, and no tail of binary fractions. */
const number = (value: number): string =>
  Number.isInteger(value) || !Number.isFinite(value) ? String(value) : String(Number(value.toPrecision(9)))

/** An answer as one text; V8 has none of more than half a gigabyte. */
export const written = (make: () => string): Effect.Effect<string, QueryRefused> =>
  Effect.suspend(() => {
    try {
      return Effect.succeed(make())
    } catch (cause) {
      if (!/string l/.test(String(cause))) throw cause
      const text = "the answer is too long for one text (over 500 MB): ask for less of it, or for --format parquet"
      return Effect.fail(refused("invalid", text))
    }
  })

/** The rows as JSON objects (docs/warehouse.md says how values are written). */
export const rows = (dir: string, text: string): Effect.Effect<ReadonlyArray<JsonRow>, QueryRefused> =>
  Effect.scoped(Effect.map(read(dir, text), ([reader]) => jsonRows(reader))).pipe(Effect.withSpan("warehouse.rows"))

/**
 * Answers a query in a format: text without a final newline for table, json and csv; bytes for parquet. Fails with
 * `QueryRefused` for everything but one reading statement.
 * @param options.width characters a line of `table` may have.
 */
export const query = (
  dir: string,
  text: string,
  format: Format,
  options: { readonly width?: number } = {}
): Effect.Effect<string | Uint8Array, QueryRefused> => {
  switch (format) {
    case "table":
      return Effect.scoped(Effect.flatMap(read(dir, text), ([reader]) => written(() => asTable(reader, options.width))))
    case "json":
      return Effect.flatMap(rows(dir, text), (found) =>
        written(() => (found.length === 0 ? "[]" : `[\n${found.map((row) => JSON.stringify(row)).join(",\n")}\n]`))
      )
    case "csv":
      return Effect.scoped(copied(dir, text, "format csv, header")).pipe(
        Effect.flatMap((bytes) => written(() => new TextDecoder().decode(bytes).replace(/\n$/, "")))
      )
    case "parquet":
      return Effect.scoped(copied(dir, text, "format parquet"))
  }
}
