/**
 * DuckDB as an Effect `SqlClient`: one database file, one connection, statements of all fibers one after another, and the
 * raw connection beside it for what SQL text cannot do (appenders, statement extraction).
 *
 * DuckDB has no SAVEPOINT: a `withTransaction` inside another fails with a `SqlError` and rolls the outer one back.
 * `count(*)`, sums of integers and BIGINT come back as `bigint`; TIMESTAMP as `Date`; JSON as text.
 */
import {
  blobValue,
  type DuckDBConnection,
  DuckDBInstance,
  DuckDBTimestampValue,
  type DuckDBValue
} from "@duckdb/node-api"
import { Context, Effect, Layer, type Scope, Semaphore, Stream } from "effect"
import { Reactivity } from "effect/reactivity"
import { SqlClient, type SqlConnection, SqlError, Statement } from "effect/sql"

export interface DuckDbOptions {
  /** Absolute path of the database file, or `:memory:`. */
  readonly path: string
  /** DuckDB settings, as `SET` takes them. */
  readonly config?: Readonly<Record<string, string>>
}

/** The connection that the `SqlClient` of the same layer runs on. Use it inside `sql.withTransaction`, or alone. */
export class DuckDb extends Context.Service<DuckDb, { readonly connection: DuckDBConnection; readonly path: string }>()(
  "overtone/warehouse/DuckDb"
) {
  static readonly layer = (options: DuckDbOptions): Layer.Layer<DuckDb | SqlClient.SqlClient, SqlError.SqlError> =>
    Layer.effectContext(
      Effect.gen(function* () {
        const connection = yield* connect(options)
        const client = yield* makeClient(connection)
        return Context.make(SqlClient.SqlClient, client).pipe(
          Context.add(DuckDb, DuckDb.of({ connection, path: options.path }))
        )
      })
    )
}

/** The kind of failure from the class that DuckDB puts at the head of its messages. */
export const classify = (cause: unknown, operation: string): SqlError.SqlErrorReason => {
  const message = cause instanceof Error ? cause.message : String(cause)
  const fields = { cause, message, operation }
  const kind = /^(?:Failed to \w+ \w+: )?([A-Za-z ]+?) ?(?:Error|Exception): /.exec(message)?.[1] ?? ""
  switch (kind) {
    case "Constraint":
      return /duplicate key|unique constraint|primary key/i.test(message)
        ? new SqlError.UniqueViolation({
            ...fields,
            constraint: /Duplicate key "([^"]*)"/.exec(message)?.[1] ?? "unknown"
          })
        : new SqlError.ConstraintError(fields)
    case "Parser":
    case "Syntax":
    case "Binder":
    case "Catalog":
      return new SqlError.SqlSyntaxError(fields)
    case "Permission":
      return new SqlError.AuthorizationError(fields)
    case "TransactionContext":
      return /conflict/i.test(message) ? new SqlError.SerializationError(fields) : new SqlError.UnknownError(fields)
    case "IO":
    case "Connection":
      if (/Could not set lock/.test(message)) return new SqlError.LockTimeoutError(fields)
      return operation === "open" || kind === "Connection"
        ? new SqlError.ConnectionError(fields)
        : new SqlError.UnknownError(fields)
    case "INTERRUPT":
      return new SqlError.StatementTimeoutError(fields)
    default:
      return /read-only mode/.test(message)
        ? new SqlError.AuthorizationError(fields)
        : new SqlError.UnknownError(fields)
  }
}

const sqlError = (operation: string) => (cause: unknown) =>
  new SqlError.SqlError({ reason: classify(cause, operation) })

/** An open database with one connection, closed (and so checkpointed) with the scope. */
export const connect = (options: DuckDbOptions): Effect.Effect<DuckDBConnection, SqlError.SqlError, Scope.Scope> =>
  Effect.gen(function* () {
    const instance = yield* Effect.acquireRelease(
      Effect.tryPromise({
        try: () => DuckDBInstance.create(options.path, { ...options.config }),
        catch: sqlError("open")
      }),
      (i) => Effect.sync(() => i.closeSync())
    )
    return yield* Effect.acquireRelease(
      Effect.tryPromise({ try: () => instance.connect(), catch: sqlError("connect") }),
      (c) => Effect.sync(() => c.closeSync())
    )
  })

const bind = (value: unknown): DuckDBValue => {
  if (value instanceof Uint8Array) return blobValue(value)
  if (value instanceof Date) return new DuckDBTimestampValue(BigInt(value.getTime()) * 1000n)
  return (value ?? null) as DuckDBValue
}

const makeConnection = (duck: DuckDBConnection): SqlConnection.Connection => {
  // A statement cannot be half done: interruption waits for it, so that the next one finds the connection free.
  const run = (sql: string, params: ReadonlyArray<unknown>) =>
    Effect.uninterruptible(
      Effect.tryPromise({ try: () => duck.runAndReadAll(sql, params.map(bind)), catch: sqlError("execute") })
    )
  const execute: SqlConnection.Connection["execute"] = (sql, params, transform) =>
    Effect.map(run(sql, params), (result) => {
      const rows = result.getRowObjectsJS()
      return transform ? transform(rows) : rows
    })
  const executeValues: SqlConnection.Connection["executeValues"] = (sql, params) =>
    Effect.map(run(sql, params), (result) => result.getRowsJS())
  return {
    execute,
    executeUnprepared: execute,
    executeValues,
    executeValuesUnprepared: executeValues,
    executeRaw: run,
    executeStream: (sql, params, transform) => Stream.fromIterableEffect(execute(sql, params, transform))
  }
}

// The dialect only steers what the client itself writes; SQLite's is the one whose choices DuckDB understands.
const compiler = Statement.makeCompiler({
  dialect: "sqlite",
  placeholder: () => "?",
  onIdentifier: Statement.defaultEscape('"'),
  onCustom: () => ["", []],
  onRecordUpdate: () => ["", []]
})

/** A client on a connection that it alone uses. */
export const makeClient = (connection: DuckDBConnection): Effect.Effect<SqlClient.SqlClient, never, Scope.Scope> =>
  SqlClient.make({
    ...SqlClient.makeSqliteAcquirers({
      connection: Effect.succeed(makeConnection(connection)),
      semaphore: Semaphore.makeUnsafe(1)
    }),
    compiler,
    driver: "duckdb",
    spanAttributes: [["db.system.name", "duckdb"]]
  }).pipe(Effect.provide(Reactivity.layer))
