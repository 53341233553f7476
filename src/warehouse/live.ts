/**
 * The supervisor's own database, `live.duckdb`. DuckDB's lock on it is the one-supervisor mutex: it goes away with the
 * process, so after a `kill -9` the next run takes over, and first takes in what journals gained in between.
 */
import { mkdirSync, realpathSync, statSync } from "node:fs"
import { join } from "node:path"
import { type Context, Effect, Layer, type Scope, Semaphore } from "effect"
import { SqlClient } from "effect/sql"
import { Indexes } from "../runner/Index.ts"
import { type AblationCache, refreshAblation } from "./ablationTable.ts"
import { DuckDb } from "./DuckDb.ts"
import { WarehouseError, WarehouseInUse } from "./errors.ts"
import { databaseError, ingestJournal, journals } from "./ingest.ts"
import { migrate, recreateViews } from "./Migrations.ts"
import { liveName, publish } from "./publish.ts"

export interface Live {
  readonly dir: string
  /** Takes in what is new of these journals (paths relative to the warehouse folder), exactly once. */
  readonly ingest: (files: ReadonlyArray<string>) => Effect.Effect<void, WarehouseError>
  /** Takes in what is new of every journal there is. */
  readonly catchUp: Effect.Effect<void, WarehouseError>
  /** Recomputes the ablation and refreshes `overtone.duckdb`, if anything changed since the last time. */
  readonly publish: Effect.Effect<void, WarehouseError>
  /** For statements of one's own on the live database. */
  readonly context: Context.Context<SqlClient.SqlClient | DuckDb>
}

/** Live databases that this process holds: a second opening would succeed here, and corrupt, so it is refused. */
const held = new Set<string>()

/** The supervisor needs little of the machine: workers have it. */
const config = { threads: "2", memory_limit: "512MB" }

const openFailure =
  (dir: string) =>
  (error: {
    readonly message: string
    readonly reason: { readonly _tag: string; readonly message?: string | undefined }
  }) => {
    const text = error.reason.message ?? error.message
    if (error.reason._tag === "LockTimeoutError") {
      const pid = /\(PID (\d+)\)/.exec(text)?.[1]
      return new WarehouseInUse({ dir, pid: pid === undefined ? null : Number(pid) })
    }
    return new WarehouseError({
      reason: "database",
      file: liveName,
      detail: `cannot be opened: ${text}. It is made from the journals: delete it and run \`exp rebuild\``,
      cause: error
    })
  }

/** Holds a warehouse's lock and its open database until the scope closes. Makes the folder if need be. */
export const lock = (
  dir: string
): Effect.Effect<Context.Context<SqlClient.SqlClient | DuckDb>, WarehouseInUse | WarehouseError, Scope.Scope> =>
  Effect.gen(function* () {
    const real = yield* Effect.try({
      try: () => {
        mkdirSync(dir, { recursive: true })
        return realpathSync(dir)
      },
      catch: (e) =>
        new WarehouseError({ reason: "database", file: dir, detail: `cannot be made: ${String(e)}`, cause: e })
    })
    yield* Effect.acquireRelease(
      Effect.suspend(() => {
        if (held.has(real)) return Effect.fail(new WarehouseInUse({ dir, pid: process.pid }))
        held.add(real)
        return Effect.void
      }),
      () => Effect.sync(() => held.delete(real))
    )
    return yield* Layer.build(DuckDb.layer({ path: join(real, liveName), config })).pipe(
      Effect.mapError(openFailure(dir)),
      Effect.tapError(() => Effect.sync(() => held.delete(real)))
    )
  })

const ingestedOffsets = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const known = yield* sql<{ file: string; bytes: bigint }>`select file, bytes from raw.journals`
  return new Map(known.map(({ file, bytes }) => [file, Number(bytes)]))
})

/** Bytes of a file; 0 where there is none, as of a journal that has not begun. */
const sizeOf = (path: string): number => statSync(path, { throwIfNoEntry: false })?.size ?? 0

/** The live database of a locked folder, migrated, its views made, every journal taken in. */
export const start = Effect.fn("warehouse.start")(function* (
  dir: string,
  context: Context.Context<SqlClient.SqlClient | DuckDb>
) {
  const onSqlError = databaseError(liveName)
  const inside = <A, E>(effect: Effect.Effect<A, E, SqlClient.SqlClient | DuckDb>) => Effect.provide(effect, context)
  const prepare = Effect.gen(function* () {
    yield* migrate()
    yield* recreateViews()
  }).pipe(Effect.catchTag("SqlError", (e) => Effect.fail(onSqlError(e))))
  yield* inside(prepare)

  const cache: AblationCache = new Map()
  let changed = true

  // What is known of each journal, so that one without news costs a `stat` and no transaction.
  const offsets = yield* inside(ingestedOffsets).pipe(Effect.mapError(onSqlError))
  const ingest = Effect.fn("warehouse.ingestAll")(function* (files: ReadonlyArray<string>) {
    for (const file of files) {
      if (sizeOf(join(dir, file)) === (offsets.get(file) ?? 0)) continue
      offsets.delete(file)
      const { lines, offset } = yield* inside(ingestJournal(dir, file))
      offsets.set(file, offset)
      changed ||= lines > 0
    }
  })
  const catchUp = Effect.flatMap(journals(dir), ingest)

  const show = Effect.gen(function* () {
    if (!changed) return
    changed = false
    yield* inside(
      refreshAblation(cache).pipe(
        Effect.catchTag("SqlError", (e) => Effect.fail(onSqlError(e))),
        Effect.andThen(publish(dir))
      )
    ).pipe(Effect.tapError(() => Effect.sync(() => (changed = true))))
  }).pipe(Semaphore.makeUnsafe(1).withPermit)

  yield* catchUp
  const live: Live = { dir, ingest, catchUp, publish: show, context }
  return live
})

/** Opens a warehouse for one supervisor: lock, migrate, catch up. */
export const open = Effect.fn("warehouse.open")(function* (dir: string) {
  return yield* start(dir, yield* lock(dir))
})

/** The index behind `exp run`. */
export const layer: Layer.Layer<Indexes> = Layer.succeed(Indexes, Indexes.of({ open }))
