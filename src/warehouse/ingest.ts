/**
 * From journals into the live database, exactly once: the rows of a journal's new whole lines and the offset reached are
 * one transaction, so that after any crash the next call goes on where the last committed one ended. A last line without
 * its newline is a write in progress, or a torn one, and is left for later.
 */
import { constants } from "node:fs"
import { type FileHandle, open, readdir } from "node:fs/promises"
import { join } from "node:path"
import { Effect } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import { DuckDb } from "./DuckDb.ts"
import { WarehouseError } from "./errors.ts"
import { BadLine, type Journal, take } from "./lines.ts"
import { type Batch, columns, tables, write } from "./tables.ts"

/** What a call added. */
export interface Ingested {
  readonly lines: number
  readonly rows: number
  /** Bytes of the journal that are in the database now. */
  readonly offset: number
}

/** The journal at a path relative to the warehouse folder; null for a path that is none. */
export const journalOf = (file: string): Journal | null => {
  const run = /^runs\/([^/]+)\.ndjson$/.exec(file)
  if (run) return { kind: "run", id: run[1]! }
  const attempt = /^attempts\/([^/]+)\/journal\.ndjson$/.exec(file)
  return attempt ? { kind: "attempt", id: attempt[1]! } : null
}

export const attemptFile = (attempt: string): string => `attempts/${attempt}/journal.ndjson`

const journalError = (file: string, detail: string, cause?: unknown) =>
  new WarehouseError({ reason: "journal", file, detail, ...(cause === undefined ? {} : { cause }) })

export const databaseError = (file: string) => (cause: SqlError.SqlError) =>
  new WarehouseError({ reason: "database", file, detail: cause.reason.message ?? cause.message, cause })

/** Bytes read at a time, and so the size of a transaction; a longer line is read whole. */
const CHUNK = 8 * 1024 * 1024

/** The bytes from `offset` up to and including the last newline within reach; empty when no line is complete. */
const wholeLines = async (handle: FileHandle, offset: number, size: number): Promise<Buffer> => {
  for (let reach = CHUNK; ; reach *= 2) {
    const length = Math.min(reach, size - offset)
    const buffer = Buffer.allocUnsafe(length)
    let filled = 0
    while (filled < length) {
      const { bytesRead } = await handle.read(buffer, filled, length - filled, offset + filled)
      if (bytesRead === 0) break
      filled += bytesRead
    }
    const end = buffer.subarray(0, filled).lastIndexOf(10) + 1
    if (end > 0 || filled < length || length === size - offset) return buffer.subarray(0, end)
  }
}

interface Parsed {
  readonly batch: Batch
  readonly lines: number
  /** Offsets of whole lines that are no JSON objects. */
  readonly damaged: ReadonlyArray<number>
}

/** Throws `WarehouseError` at the first line that is not as docs/formats.md has it. */
const parse = (file: string, journal: Journal, offset: number, bytes: Buffer): Parsed => {
  const batch: Batch = new Map()
  const damaged: Array<number> = []
  let lines = 0
  for (let start = 0; start < bytes.length; lines++) {
    const end = bytes.indexOf(10, start)
    try {
      if (!take(batch, journal, offset + start, bytes.toString("utf8", start, end))) damaged.push(offset + start)
    } catch (error) {
      if (!(error instanceof BadLine)) throw error
      throw journalError(file, `the line at byte ${offset + start}: ${error.message}; the journal is another version's`)
    }
    start = end + 1
  }
  return { batch, lines, damaged }
}

/** Forgets what came from a journal, inside the open transaction. */
const forget = Effect.fnUntraced(function* (file: string, journal: Journal) {
  const sql = yield* SqlClient.SqlClient
  const column = journal.kind === "run" ? "run_id" : "attempt_id"
  for (const table of tables) {
    if (Object.keys(columns[table])[0] === column)
      yield* sql.unsafe(`delete from raw.${table} where ${column} = ?`, [journal.id])
  }
  yield* sql`delete from raw.journals where file = ${file}`
})

const openJournal = (dir: string, file: string) =>
  Effect.acquireRelease(
    Effect.tryPromise({
      try: () =>
        open(join(dir, file), constants.O_RDONLY).catch((error: NodeJS.ErrnoException) => {
          if (error.code === "ENOENT") return null
          throw error
        }),
      catch: (e) => journalError(file, `cannot be read: ${String(e)}`, e)
    }),
    (handle) => (handle === null ? Effect.void : Effect.promise(() => handle.close()))
  )

/**
 * Takes in what is new of one journal (`file` is relative to `dir`). A journal that does not exist yet has no lines.
 * Needs the database to itself between chunks only: readers of other journals may interleave.
 */
export const ingestJournal = Effect.fn("warehouse.ingest")(function* (dir: string, file: string) {
  const journal = journalOf(file)
  if (journal === null)
    return yield* journalError(file, "is no journal: runs/*.ndjson and attempts/*/journal.ndjson are")
  const sql = yield* SqlClient.SqlClient
  const { connection } = yield* DuckDb
  const total = { lines: 0, rows: 0, offset: 0 }

  const chunk = (handle: FileHandle) =>
    Effect.gen(function* () {
      const size = yield* Effect.tryPromise({
        try: async () => (await handle.stat()).size,
        catch: (e) => journalError(file, String(e), e)
      })
      let known = yield* sql<{ bytes: bigint }>`select bytes from raw.journals where file = ${file}`
      if (size < Number(known[0]?.bytes ?? 0)) {
        // Its writer cut off what it could not write whole (a full disk): what stands there now is what counts.
        yield* Effect.logWarning(`${file} is shorter than it was: it is read anew`)
        yield* forget(file, journal)
        known = []
      }
      const offset = Number(known[0]?.bytes ?? 0)
      total.offset = offset
      const bytes = yield* Effect.tryPromise({
        try: () => wholeLines(handle, offset, size),
        catch: (e) => journalError(file, String(e), e)
      })
      if (bytes.length === 0) return false
      const { batch, lines, damaged } = yield* Effect.try({
        try: () => parse(file, journal, offset, bytes),
        catch: (e) => (e instanceof WarehouseError ? e : journalError(file, String(e), e))
      })
      for (const at of damaged)
        yield* Effect.logWarning(`${file}: the line at byte ${at} is no JSON and was passed over`)
      const rows = yield* Effect.tryPromise({
        try: () => write(connection, batch),
        catch: (cause) =>
          new WarehouseError({
            reason: "database",
            file,
            detail: `its rows could not be stored: ${String(cause)}`,
            cause
          })
      })
      const reached = offset + bytes.length
      yield* known.length > 0
        ? sql`update raw.journals set bytes = ${reached} where file = ${file}`
        : sql`insert into raw.journals values (${file}, ${reached})`
      total.lines += lines
      total.rows += rows
      total.offset = reached
      return true
    })

  yield* Effect.scoped(
    Effect.gen(function* () {
      const handle = yield* openJournal(dir, file)
      if (handle === null) return
      while (yield* sql.withTransaction(chunk(handle))) {}
    })
  ).pipe(Effect.catchTag("SqlError", (e) => Effect.fail(databaseError("live.duckdb")(e))))
  return total satisfies Ingested
})

const list = (dir: string): Effect.Effect<ReadonlyArray<string>, WarehouseError> =>
  Effect.tryPromise({
    try: () =>
      readdir(dir).catch((error: NodeJS.ErrnoException) => {
        if (error.code === "ENOENT") return []
        throw error
      }),
    catch: (e) =>
      new WarehouseError({ reason: "journal", file: dir, detail: `cannot be listed: ${String(e)}`, cause: e })
  })

/** Every journal of a warehouse folder, relative to it: runs first, each kind in the order of its ids, which is time's. */
export const journals = Effect.fn("warehouse.journals")(function* (dir: string) {
  const runs = (yield* list(join(dir, "runs"))).filter((name) => name.endsWith(".ndjson"))
  const attempts = yield* list(join(dir, "attempts"))
  return [...runs.sort().map((name) => `runs/${name}`), ...[...attempts].sort().map(attemptFile)]
})
