/**
 * Runs a plan: what is realised already is bound, the rest is attempted in worker processes, and every step of it is in
 * the run journal before anyone is told. One fibre decides; attempts and the index run beside it and report to it.
 *
 * Killed at any point, the next run goes on from what is on disk. Interrupted (Ctrl-C, SIGTERM), it lets the workers
 * write one more checkpoint, records the state and ends.
 */
import { availableParallelism } from "node:os"
import { Cause, Effect, Fiber, Queue, type Scope } from "effect"
import { type FileFailure, fileFailure } from "../artifact/FileFailure.ts"
import { makeFolders } from "../artifact/realisation.ts"
import { makeStore } from "../artifact/store.ts"
import type { Mesh } from "../device/mesh.ts"
import type { Plan, PlannedTask } from "../dsl/Planned.ts"
import { failureOf, type Ready, type Result, runAttempt, type Started, type Workplace } from "./attempt.ts"
import { interruptedAttempts } from "./checkpoint.ts"
import { keepCode } from "./code.ts"
import type { Failure, RunEvent, Summary } from "./events.ts"
import { type IndexError, Indexes } from "./Index.ts"
import { newId } from "./ids.ts"
import { type Indexing, makeIndexing } from "./indexing.ts"
import { leases, tasksOnCards } from "./leases.ts"
import { provenance } from "./provenance.ts"
import { recover } from "./recovery.ts"
import { openRunJournal, type RunEnd } from "./runJournal.ts"
import { chainCosts, startable } from "./scheduler.ts"
import { Tasks } from "./tasks.ts"

export interface RunOptions {
  /** The warehouse directory, absolute; made if it is not there. */
  readonly root: string
  /** A folder of the project whose code runs. */
  readonly projectRoot: string
  /** The YAML, as it was named. */
  readonly file: string
  /** Metrics, baseline and gates, as the run journal keeps them. */
  readonly report: unknown
  /** At most so many tasks at once; the CPU's slots where it is left out. */
  readonly jobs?: number | undefined
  /** How the devices that share each device task are arranged; one device where it is left out. */
  readonly mesh?: Mesh | undefined
  /** Cards of the device, where it is one of cards: each device task has its own, as many as the mesh has devices. */
  readonly cards?: number | undefined
  /** The module that each attempt's process runs; worker.ts where it is left out. */
  readonly worker?: string | undefined
  /** Stop everything at the first failure; otherwise what does not depend on it goes on. */
  readonly failFast?: boolean | undefined
  /** The tasks that may run (`select`); all where it is left out. */
  readonly wanted?: ReadonlySet<string> | undefined
  /** Whether `plan` is less than the experiment (`select` says). */
  readonly partial?: boolean | undefined
  readonly onEvent: (event: RunEvent) => void
  /** Cores to share out; those of the machine where it is left out. */
  readonly cores?: number | undefined
  /** How long workers may take to their next checkpoint when the run is interrupted. */
  readonly graceMs?: number | undefined
}

const defaultGraceMs = 5000

type Message =
  | { readonly _tag: "Ended"; readonly key: string; readonly result: Result; readonly seconds: number }
  | { readonly _tag: "Fatal"; readonly error: IndexError }

/** Of a plan: what its tasks compute on. */
interface Classes {
  readonly tasks: ReadonlyArray<Pick<PlannedTask, "class">>
}

/** CPU threads that a task keeps busy. */
export const threadsOf = (task: Pick<PlannedTask, "class">): number => Math.max(1, task.class?.threads ?? 1)

/** How many tasks fit on the processor at once: floor(cores / threads of the widest), at least one. */
export const cpuSlots = (plan: Classes, cores = availableParallelism()): number =>
  Math.max(1, Math.floor(cores / Math.max(1, ...plan.tasks.map(threadsOf))))

const onCard = (task: Pick<PlannedTask, "class">): boolean => task.class?.provider === "xla:cuda"

/** On a card that is not counted: WebGPU's adapter, and what makers other than NVIDIA have. */
const alone = ({ class: asked }: Pick<PlannedTask, "class">): boolean =>
  asked !== null && !["cpu", "xla:cpu", "xla:cuda"].includes(asked.provider)

/**
 * How many tasks run at once: as many as are asked for, else as many as fit. There are never more tasks than their cards
 * are enough for; one that has all devices of a mesh on the CPU, or a card that is not counted, is alone whatever is asked for.
 */
export const slotsOf = (
  plan: Classes,
  { cards = 1, cores, jobs, mesh }: Pick<RunOptions, "jobs" | "mesh" | "cards" | "cores">
): number => {
  if (plan.tasks.some(onCard)) {
    const room = tasksOnCards(cards, mesh)
    return Math.min(jobs ?? room, room)
  }
  if (mesh !== undefined || plan.tasks.some(alone)) return 1
  return jobs ?? cpuSlots(plan, cores)
}

/** Device stages are what takes long; the rest are seconds. Only proportions matter. */
const costOf = (task: PlannedTask): number => (task.class === null ? 1 : 10)

export const run = Effect.fn("supervisor.run")(function* (plan: Plan, options: RunOptions) {
  return yield* Effect.scoped(supervise(plan, options))
})

const supervise = Effect.fnUntraced(function* (plan: Plan, options: RunOptions) {
  const started = performance.now()
  const { root } = options
  yield* Effect.try({ try: () => makeFolders(root), catch: fileFailure("creating", root) })
  const made = provenance(options.projectRoot)
  const index = yield* (yield* Indexes).open(root)
  const { mesh, worker } = options
  const shared = { root, store: makeStore(root), interrupted: interruptedAttempts(root), mesh, worker }
  const unseen = yield* recover(shared)
  const id = newId(Date.now())
  const journal = yield* Effect.acquireRelease(
    Effect.try({ try: () => openRunJournal(root, id), catch: fileFailure("creating", root) }),
    (open) => Effect.sync(() => open.close())
  )
  const head = {
    run: id,
    experiment: plan.experiment,
    file: options.file,
    provenance: yield* Effect.promise(() => made),
    report: options.report,
    partial: options.partial ?? false
  }
  yield* Effect.try({
    try: () => {
      keepCode(root, plan)
      journal.head(head, plan)
    },
    catch: fileFailure("writing", journal.path)
  })
  const indexing = yield* makeIndexing(index, journal.path)
  for (const path of unseen) indexing.leave(path)
  const place: Workplace = { ...shared, journal }
  const run = yield* makeRun(plan, options, place, indexing)
  const ending = (state: RunEnd) => run.finish(state).pipe(Effect.andThen(indexing.finish))
  yield* run.loop.pipe(
    Effect.onInterrupt(() => run.drain.pipe(Effect.andThen(ending("interrupted")), Effect.ignore)),
    Effect.tapError(() => run.drain.pipe(Effect.andThen(ending("failed")), Effect.ignore))
  )
  const counts = run.counts()
  yield* ending(counts.failed > 0 ? "failed" : "done")
  const summary: Summary = {
    type: "summary",
    experiment: plan.experiment,
    ...counts,
    cells: plan.cells.length,
    wallSeconds: Math.round(performance.now() - started) / 1000
  }
  options.onEvent(summary)
  return summary
})

interface Live {
  readonly ready: Ready
  readonly cards: ReadonlyArray<number> | undefined
  started: Started | undefined
}

const makeRun = Effect.fnUntraced(function* (plan: Plan, options: RunOptions, place: Workplace, indexing: Indexing) {
  const { onEvent } = options
  const cores = options.cores ?? availableParallelism()
  const jobs = slotsOf(plan, { ...options, cores })
  const scope: Scope.Scope = yield* Effect.scope
  const mailbox = yield* Queue.unbounded<Message>()
  const tasks = new Tasks(plan, options.wanted, place)
  const chain = chainCosts(plan.tasks, costOf)
  const live = new Map<string, Live>()
  const lent = options.cards === undefined ? undefined : leases(options.cards, options.mesh)
  let stopping = false
  /** Milliseconds that a stopped worker is given; 0 when they are over. */
  let patience = options.graceMs ?? defaultGraceMs

  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      for (const { started } of live.values()) started?.worker.kill()
    })
  )
  const indexer = yield* indexing.loop.pipe(
    Effect.catch((error) => Queue.offer(mailbox, { _tag: "Fatal", error })),
    Effect.forkIn(scope)
  )

  const journaled = <A>(work: () => A): Effect.Effect<A, FileFailure> =>
    Effect.try({ try: work, catch: fileFailure("writing", place.journal.path) })

  const named = ({ key, stage, nodes }: PlannedTask) => ({ key, stage, nodes })

  /** Binds what is realised, skips what cannot be had, and returns what could start, the longest chain first. */
  const settle = journaled((): ReadonlyArray<Ready> => {
    const { bound, skipped, ready } = tasks.settle()
    for (const { task, attempt } of bound) {
      place.journal.bind(task.key, attempt, true)
      place.journal.state(task.key, "done", attempt)
      if (tasks.isWanted(task.key)) onEvent({ type: "task", ...named(task), pid: null, state: "cached", attempt })
    }
    for (const { task, because } of skipped) {
      place.journal.state(task.key, "planned")
      onEvent({ type: "skipped", ...named(task), because })
    }
    return [...ready].sort((a, b) => (chain.get(b.task.key) ?? 0) - (chain.get(a.task.key) ?? 0))
  })

  const launch = Effect.fnUntraced(function* (ready: Ready) {
    const { task } = ready
    const cards = onCard(task) ? lent?.take() : undefined
    const own: Live = { ready, cards, started: undefined }
    const from = performance.now()
    live.set(task.key, own)
    tasks.start(ready)
    const watcher = {
      started: (started: Started): void => {
        own.started = started
        const { attempt, firstStep, resumes } = started
        indexing.follow(journalOf(attempt))
        if (resumes !== null) indexing.leave(journalOf(resumes))
        onEvent({ type: "task", ...named(task), pid: started.worker.pid, state: "started", attempt, firstStep })
        if (patience === 0) started.worker.kill()
        else if (stopping) started.worker.stop()
      },
      notice: (message: string): void => {
        if (own.started !== undefined) indexing.leave(journalOf(own.started.attempt))
        onEvent({ type: "notice", message })
      },
      progress: (seen: { step: number; of: number; metrics: Readonly<Record<string, number | null>> }): void =>
        onEvent({ type: "progress", key: task.key, ...seen })
    }
    yield* runAttempt({ ...place, cards }, ready, watcher).pipe(
      Effect.catchCause((cause) => Effect.succeed(brokenOff(cause))),
      Effect.flatMap((result) =>
        Queue.offer(mailbox, {
          _tag: "Ended",
          key: task.key,
          result,
          seconds: Math.round(performance.now() - from) / 1000
        })
      ),
      Effect.forkIn(scope)
    )
  })

  const ended = Effect.fnUntraced(function* ({ key, result, seconds }: Extract<Message, { _tag: "Ended" }>) {
    const own = live.get(key)
    live.delete(key)
    if (own === undefined) return
    if (own.cards !== undefined) lent?.giveBack(own.cards)
    const { task } = own.ready
    const pid = own.started?.worker.pid ?? null
    if (own.started !== undefined) indexing.leave(journalOf(own.started.attempt))
    if (result._tag === "InputLost") {
      onEvent({ type: "notice", message: result.error.message })
      if (!tasks.lost(key, result.sha256)) {
        yield* fail(task, failureOf(result.error), { pid, attempt: null, seconds, stopped: false })
      }
    } else if (result._tag === "Done") {
      tasks.done(key, result.outputs)
      onEvent({ type: "task", ...named(task), pid, state: "done", attempt: result.attempt, seconds })
    } else {
      const attempt = result.attempt ?? own.started?.attempt ?? null
      // where following it broke off, nobody has said so yet
      if (attempt !== null && place.journal.isOpen(attempt)) {
        yield* journaled(() => place.journal.attemptEnd(attempt, "failed", result.failure))
      }
      yield* fail(task, result.failure, { pid, attempt, seconds, stopped: stopping && result.killed })
    }
    yield* indexing.refresh
  })

  const fail = Effect.fnUntraced(function* (
    task: PlannedTask,
    failure: Failure,
    of: { pid: number | null; attempt: string | null; seconds: number; stopped: boolean }
  ) {
    const attempt = of.attempt === null ? {} : { attempt: of.attempt }
    // What was stopped with the run did not fail: it goes on with the next one.
    yield* journaled(() => place.journal.state(task.key, of.stopped ? "planned" : "failed", of.attempt ?? undefined))
    if (of.stopped) return tasks.stopped(task.key)
    tasks.fail(task.key)
    onEvent({ type: "task", ...named(task), pid: of.pid, state: "failed", seconds: of.seconds, failure, ...attempt })
    if (options.failFast) yield* stopAll
  })

  const stopAll = Effect.sync(() => {
    stopping = true
    for (const { started } of live.values()) started?.worker.stop()
  })
  const killAll = (): void => {
    patience = 0
    for (const { started } of live.values()) started?.worker.kill()
  }

  /** Takes one message; a fatal one ends the run. */
  const heed = Queue.take(mailbox).pipe(
    Effect.flatMap((message) => (message._tag === "Fatal" ? Effect.fail(message.error) : ended(message)))
  )

  const loop = Effect.gen(function* () {
    for (;;) {
      const ready = stopping ? [] : yield* settle
      const wide = ready.map((r) => ({ ...r, threads: threadsOf(r.task) }))
      const running = [...live.values()].map(({ ready: r }) => ({ threads: threadsOf(r.task) }))
      for (const next of startable(wide, running, { cores, jobs })) yield* launch(next)
      if (live.size === 0) return
      yield* heed
      if (stopping) yield* drain
    }
  })

  /** Stops every worker at its next checkpoint, or after the grace, or at a second Ctrl-C, and records what it came to. */
  const drain = Effect.gen(function* () {
    yield* stopAll
    if (live.size === 0) return
    process.on("SIGINT", killAll)
    const grace = yield* Effect.sleep(patience).pipe(Effect.andThen(Effect.sync(killAll)), Effect.forkIn(scope))
    while (live.size > 0)
      yield* Queue.take(mailbox).pipe(Effect.flatMap((m) => (m._tag === "Ended" ? ended(m) : Effect.void)))
    yield* Fiber.interrupt(grace)
  }).pipe(Effect.ensuring(Effect.sync(() => process.off("SIGINT", killAll))))

  const finish = (state: RunEnd) =>
    Fiber.interrupt(indexer).pipe(
      Effect.andThen(
        journaled(() => {
          for (const key of tasks.unfinished()) place.journal.state(key, "planned")
          const { ran, cached, failed } = tasks.counts()
          place.journal.end(state, { ran, cached, failed })
        })
      )
    )

  return { loop, drain, finish, counts: () => tasks.counts() }
})

/** A bug in the runner fails the task at hand, not the run. */
const brokenOff = (cause: Cause.Cause<never>): Result => {
  const failure = failureOf({ _tag: "Defect", message: `a bug in the runner: ${Cause.pretty(cause)}` })
  return { _tag: "Failed", attempt: null, failure, killed: false }
}

const journalOf = (attempt: string): string => `attempts/${attempt}/journal.ndjson`
