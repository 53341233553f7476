/**
 * Brings a database to the shape that this version expects: `warehouse/migrations/NNNN_name.sql` once each, in order and
 * recorded with their hashes; then every view anew from `warehouse/views/*.sql`.
 */
import { createHash } from "node:crypto"
import { readdirSync, readFileSync } from "node:fs"
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import { DuckDb } from "./DuckDb.ts"
import { WarehouseError } from "./errors.ts"

export interface SqlFile {
  readonly name: string
  readonly text: string
}

const folder = (name: string) => new URL(`../../warehouse/${name}/`, import.meta.url)

const read = (name: string): ReadonlyArray<SqlFile> =>
  readdirSync(folder(name))
    .filter((file) => file.endsWith(".sql"))
    .sort()
    .map((file) => ({ name: file, text: readFileSync(new URL(file, folder(name)), "utf8") }))

/** This version's migrations, in order. */
export const migrations = (): ReadonlyArray<SqlFile> => read("migrations")

/** This version's views, in the order in which they build on each other. */
export const views = (): ReadonlyArray<SqlFile> => read("views")

const digest = (text: string) => createHash("sha256").update(text.replaceAll("\r\n", "\n")).digest("hex")

const failure = (file: string, detail: string) => new WarehouseError({ reason: "migration", file, detail })

/** Numbers must be 0001, 0002, ...: a gap or a number given twice is a mistake of whoever added the file. */
const checkNumbers = (files: ReadonlyArray<SqlFile>): WarehouseError | null => {
  for (const [i, { name }] of files.entries()) {
    const expected = String(i + 1).padStart(4, "0")
    if (!name.startsWith(`${expected}_`))
      return failure(name, `migrations are numbered 0001, 0002, ...; this one should begin with ${expected}_`)
  }
  return null
}

/**
 * Runs what has not been run. Each migration and its record are one transaction. Fails with reason `migration` where the
 * database was made by migrations that this version does not have.
 */
export const migrate = Effect.fn("warehouse.migrate")(function* (files: ReadonlyArray<SqlFile> = migrations()) {
  const sql = yield* SqlClient.SqlClient
  const { connection, path } = yield* DuckDb
  const misnumbered = checkNumbers(files)
  if (misnumbered) return yield* misnumbered
  yield* sql`create schema if not exists meta`
  yield* sql`create table if not exists meta.migrations (name varchar not null, sha256 varchar not null)`
  const done = yield* sql<{ name: string; sha256: string }>`select name, sha256 from meta.migrations order by name`
  for (const [i, { name, sha256 }] of done.entries()) {
    const ours = files[i]
    if (ours === undefined || ours.name !== name || digest(ours.text) !== sha256) {
      return yield* failure(
        path.split("/").at(-1) ?? path,
        `was made by another version of Overtone (its migration ${name} is not this version's); journals are the truth: \`exp rebuild\` remakes it`
      )
    }
  }
  for (const { name, text } of files.slice(done.length)) {
    yield* sql.withTransaction(
      Effect.tryPromise({ try: () => connection.run(text), catch: (e) => failure(name, String(e)) }).pipe(
        Effect.andThen(sql`insert into meta.migrations values (${name}, ${digest(text)})`)
      )
    )
  }
  return files.length - done.length
})

/** Drops every view and makes this version's. */
export const recreateViews = Effect.fn("warehouse.recreateViews")(function* (files: ReadonlyArray<SqlFile> = views()) {
  const sql = yield* SqlClient.SqlClient
  const { connection } = yield* DuckDb
  const make = Effect.fnUntraced(function* () {
    const old = yield* sql<{ name: string }>`
      select format('"{}"."{}"', schema_name, view_name) as name from duckdb_views()
      where not internal and database_name = current_database()`
    for (const { name } of old) yield* sql.unsafe(`drop view ${name}`)
    for (const { name, text } of files) {
      yield* Effect.tryPromise({ try: () => connection.run(text), catch: (e) => failure(name, String(e)) })
    }
  })
  yield* sql.withTransaction(make())
})
