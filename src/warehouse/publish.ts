/**
 * Shows the live database to readers: a copy in a new file, renamed over `overtone.duckdb`. A reader that has the old file
 * open keeps it; whoever opens next sees the new one. The copy is of the file, after a checkpoint, while nothing else writes;
 * it costs milliseconds where writing the tables anew takes seconds. Another process makes it, for closing any descriptor of
 * the live file in this one would drop its lock. Where the system has no `cp` or lets nobody read a locked file, DuckDB's
 * own `COPY FROM DATABASE` makes it.
 */
import { execFile } from "node:child_process"
import { open, rename, rm } from "node:fs/promises"
import { join } from "node:path"
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import { DuckDb } from "./DuckDb.ts"
import { WarehouseError } from "./errors.ts"

export const liveName = "live.duckdb"
export const publishedName = "overtone.duckdb"
const draftName = "publishing.duckdb"

/** A name or path inside SQL text. */
const quoted = (text: string) => `'${text.replaceAll("'", "''")}'`

const problem = (detail: string, cause?: unknown) =>
  new WarehouseError({
    reason: "publish",
    file: publishedName,
    detail: `could not be refreshed: ${detail}`,
    ...(cause === undefined ? {} : { cause })
  })

const removeDraft = (dir: string) =>
  Effect.tryPromise({
    try: async () => {
      await rm(join(dir, draftName), { force: true })
      await rm(join(dir, `${draftName}.wal`), { force: true })
    },
    catch: (e) => problem(String(e), e)
  })

/** Whether another process could copy the file. */
const copied = (from: string, to: string) =>
  Effect.uninterruptible(
    Effect.promise(
      () => new Promise<boolean>((resolve) => execFile("cp", [from, to], (error) => resolve(error === null)))
    )
  )

/** What was written reaches the disk before its name does. */
const flushed = (file: string) =>
  Effect.tryPromise({
    try: async () => {
      const handle = await open(file, "r+")
      try {
        await handle.sync()
      } finally {
        await handle.close()
      }
    },
    catch: (e) => problem(String(e), e)
  })

/** Publishes everything committed so far. One at a time per warehouse: the caller holds the live database. */
export const publish = Effect.fn("warehouse.publish")(function* (dir: string) {
  const sql = yield* SqlClient.SqlClient
  const { connection } = yield* DuckDb
  const run = (text: string) =>
    Effect.uninterruptible(Effect.tryPromise({ try: () => connection.run(text), catch: (e) => problem(String(e), e) }))
  yield* removeDraft(dir)
  // The reserved connection keeps other fibers' statements out of the copy.
  yield* Effect.scoped(
    Effect.gen(function* () {
      yield* Effect.mapError(sql.reserve, (e) => problem(e.message, e))
      yield* run("checkpoint")
      if (yield* copied(join(dir, liveName), join(dir, draftName))) return yield* flushed(join(dir, draftName))
      yield* removeDraft(dir)
      yield* run(`attach ${quoted(join(dir, draftName))} as draft`)
      yield* run("copy from database live to draft").pipe(Effect.ensuring(Effect.ignore(run("detach draft"))))
    })
  ).pipe(Effect.tapError(() => Effect.ignore(removeDraft(dir))))
  yield* Effect.tryPromise({
    try: () => rename(join(dir, draftName), join(dir, publishedName)),
    catch: (e) => problem(String(e), e)
  })
})
