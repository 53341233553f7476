/**
 * The database behind a run, as the supervisor sees it: something that takes in journals exactly once and shows them to
 * readers. Journals and artifacts are the truth; the index can always be made again from them.
 */
import { Context, type Effect, type Scope } from "effect"

/** Anything with a tag and a sentence for people; the warehouse's own errors are such. */
export interface IndexError extends Error {
  readonly _tag: string
}

export interface Index {
  /**
   * Takes in what was appended to these journals since the last time. Paths are relative to the warehouse directory:
   * `runs/<run>.ndjson`, `attempts/<attempt>/journal.ndjson`.
   */
  readonly ingest: (journals: ReadonlyArray<string>) => Effect.Effect<void, IndexError>
  /** Refreshes the published database from what has been taken in. */
  readonly publish: Effect.Effect<void, IndexError>
}

export class Indexes extends Context.Service<
  Indexes,
  {
    /**
     * Opens a warehouse directory's index and holds its lock until the scope closes: one supervisor at a time. Fails at
     * once with a `WarehouseInUse` if another process holds it.
     */
    readonly open: (dir: string) => Effect.Effect<Index, IndexError, Scope.Scope>
  }
>()("overtone/runner/Indexes") {}
