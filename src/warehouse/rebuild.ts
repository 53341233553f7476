/**
 * Makes the databases again from journals: the live one is emptied under its own lock (or, where it is no database any
 * more, removed), every journal is read from its beginning, and the result is published. Stopped half-way, it is ended
 * by the next run or the next rebuild.
 */
import { rm } from "node:fs/promises"
import { join } from "node:path"
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import type { WarehouseError } from "./errors.ts"
import { databaseError } from "./ingest.ts"
import { type Live, lock, start } from "./live.ts"
import { liveName } from "./publish.ts"

/** Rows of every table and view that people may read, and of the private tables as `raw.<name>`. */
export type Counts = Readonly<Record<string, number>>

const empty = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const schemas = yield* sql<{ name: string }>`
    select distinct schema_name as name from duckdb_schemas()
    where not internal and database_name = current_database() and schema_name <> 'main'`
  const views = yield* sql<{ name: string }>`
    select format('"{}"."{}"', schema_name, view_name) as name from duckdb_views()
    where not internal and database_name = current_database()`
  const tables = yield* sql<{ name: string }>`
    select format('"{}"."{}"', schema_name, table_name) as name from duckdb_tables()
    where not internal and database_name = current_database()`
  for (const { name } of views) yield* sql.unsafe(`drop view ${name}`)
  for (const { name } of tables) yield* sql.unsafe(`drop table ${name}`)
  for (const { name } of schemas) yield* sql.unsafe(`drop schema "${name.replaceAll('"', '""')}"`)
})

const counts = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const names = yield* sql<{ schema: string; name: string }>`
    select table_schema as schema, table_name as name from information_schema.tables
    where table_catalog = current_database() and table_schema in ('main', 'raw')
    order by table_schema, table_name`
  const found: Record<string, number> = {}
  for (const { schema, name } of names) {
    const rows = yield* sql<{ n: bigint }>`select count(*) as n from ${sql(schema)}.${sql(name)}`
    found[schema === "main" ? name : `${schema}.${name}`] = Number(rows[0]!.n)
  }
  return found
})

const files = [liveName, `${liveName}.wal`]

/** The lock, with a live file that DuckDB cannot open as such put out of the way. */
const lockOrReplace = (dir: string) =>
  lock(dir).pipe(
    Effect.catchTag("WarehouseError", (error) =>
      Effect.tryPromise({
        try: async () => {
          for (const file of files) await rm(join(dir, file), { force: true })
        },
        catch: () => error
      }).pipe(Effect.andThen(lock(dir)))
    )
  )

/** Row counts of a live database's tables and views. */
export const countsOf = (live: Live): Effect.Effect<Counts, WarehouseError> =>
  Effect.provide(counts, live.context).pipe(Effect.mapError(databaseError(liveName)))

/** Remakes the databases of a warehouse folder. Fails with `WarehouseInUse` while a run is on. */
export const rebuild = Effect.fn("warehouse.rebuild")(function* (dir: string) {
  return yield* Effect.scoped(
    Effect.gen(function* () {
      const context = yield* lockOrReplace(dir)
      const emptied = Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* sql.withTransaction(empty)
      })
      yield* Effect.provide(emptied, context).pipe(Effect.mapError(databaseError(liveName)))
      const live = yield* start(dir, context)
      yield* live.publish
      return yield* countsOf(live)
    })
  )
})
