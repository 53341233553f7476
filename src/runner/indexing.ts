/**
 * Keeps the index close behind a run: takes in journals every few seconds, publishes at every task end and every 30 s
 * of a long task. In a run longer than five minutes publications are spaced so that they cost at most 2 % of it.
 */
import { Effect, Queue } from "effect"
import type { Index, IndexError } from "./Index.ts"

export interface Indexing {
  /** Takes in this journal from now on. */
  readonly follow: (journal: string) => void
  /** Takes it in once more, then no longer. */
  readonly leave: (journal: string) => void
  /** Something ended: readers should see it soon. */
  readonly refresh: Effect.Effect<void>
  /** Runs until interrupted; fails where the index does. */
  readonly loop: Effect.Effect<never, IndexError>
  /** Takes in everything and publishes. */
  readonly finish: Effect.Effect<void, IndexError>
}

const ingestEveryMs = 3000
const publishEveryMs = 30_000
const spacedAfterMs = 300_000
const spacedShare = 0.02

/** What a decision to publish depends on; milliseconds of one clock. */
export interface PublishState {
  readonly now: number
  readonly started: number
  readonly publishedAt: number
  /** What the last publication took. */
  readonly cost: number
  /** Whether something ended since. */
  readonly wanted: boolean
  /** Whether a task is running. */
  readonly running: boolean
}

/** Whether to publish now; the end of a run always does. */
export const publishDue = ({ cost, now, publishedAt, running, started, wanted }: PublishState): boolean => {
  const since = now - publishedAt
  if (now - started > spacedAfterMs && since * spacedShare < cost) return false
  return wanted || (running && since >= publishEveryMs)
}

/** @param runJournal path of the run's own journal, relative to the warehouse directory. */
export const makeIndexing = Effect.fnUntraced(function* (index: Index, runJournal: string) {
  const started = performance.now()
  const followed = new Set<string>()
  const left = new Set<string>()
  const wake = yield* Queue.sliding<void>(1)
  let wanted = false
  let publishedAt = started
  let cost = 0

  const ingest = Effect.suspend(() => {
    const gone = [...left]
    const journals = [runJournal, ...followed, ...gone]
    for (const journal of gone) left.delete(journal)
    return index.ingest(journals)
  })
  const publish = Effect.suspend(() => {
    const from = performance.now()
    wanted = false
    return Effect.tap(index.publish, () =>
      Effect.sync(() => {
        publishedAt = performance.now()
        cost = publishedAt - from
      })
    )
  })
  const due = (): boolean =>
    publishDue({ now: performance.now(), started, publishedAt, cost, wanted, running: followed.size > 0 })

  /** Not cut short in the middle of a transaction. */
  const catchUp = ingest.pipe(
    Effect.andThen(Effect.suspend(() => (due() ? publish : Effect.void))),
    Effect.uninterruptible
  )

  const indexing: Indexing = {
    follow: (journal) => void followed.add(journal),
    leave: (journal) => {
      followed.delete(journal)
      left.add(journal)
    },
    refresh: Effect.suspend(() => {
      wanted = true
      return Effect.asVoid(Queue.offer(wake, undefined))
    }),
    loop: Queue.take(wake).pipe(Effect.timeoutOption(ingestEveryMs), Effect.andThen(catchUp), Effect.forever),
    finish: Effect.andThen(ingest, publish)
  }
  return indexing
})
