/**
 * One attempt at one task, from verified inputs to a realisation: the worker's folder, its process, what it wrote
 * published and bound to its content and code. Whatever ends it in between, what is on disk is either that of a finished
 * attempt or can be taken up or thrown away.
 */
import { existsSync } from "node:fs"
import { mkdir, open, rm } from "node:fs/promises"
import { join } from "node:path"
import { Deferred, Effect } from "effect"
import { type FileFailure, fileFailure } from "../artifact/FileFailure.ts"
import { syncFolder } from "../artifact/folder.ts"
import { type Output, writeRealisation } from "../artifact/realisation.ts"
import type { Store, StoreError } from "../artifact/store.ts"
import { isLost } from "../device/lost.ts"
import { type Mesh, meshText } from "../device/mesh.ts"
import { familyKey } from "../dsl/growth.ts"
import type { PlannedTask } from "../dsl/Planned.ts"
import type { Interrupted } from "./checkpoint.ts"
import type { Failure } from "./events.ts"
import { handedOver, joinFamily } from "./families.ts"
import { newId } from "./ids.ts"
import { cardNames } from "./leases.ts"
import type { RunJournal } from "./runJournal.ts"
import { deviceLostTag, outOfMemoryTag, type TaskFile } from "./taskFile.ts"
import { type Outcome, type Seen, startWorker, type WorkerProcess } from "./workerProcess.ts"

export interface Workplace {
  /** The warehouse directory. */
  readonly root: string
  readonly store: Store
  readonly interrupted: Interrupted
  readonly journal: RunJournal
  /** How the devices that share each device task are arranged; undefined for one. */
  readonly mesh: Mesh | undefined
  /** The cards that the task has to itself, counted among those that this process may use; undefined for all. */
  readonly cards?: ReadonlyArray<number> | undefined
  /** The module that the attempt's process runs, where it is another than the worker. */
  readonly worker?: string | undefined
}

/** A task whose inputs exist. */
export interface Ready {
  readonly task: PlannedTask
  readonly contentKey: string
  /** For each input the SHA-256 of the artifact it is. */
  readonly inputs: Readonly<Record<string, string>>
}

export interface Started {
  readonly attempt: string
  readonly firstStep: number
  readonly worker: WorkerProcess
  /** The attempt that it takes up, whose rows are its own too. */
  readonly resumes: string | null
}

export type Result =
  | { readonly _tag: "Done"; readonly attempt: string; readonly outputs: Readonly<Record<string, Output>> }
  | { readonly _tag: "Failed"; readonly attempt: string | null; readonly failure: Failure; readonly killed: boolean }
  /** An input turned out to be corrupt or gone: the task that made it has to run again. */
  | { readonly _tag: "InputLost"; readonly sha256: string; readonly error: StoreError }

export interface Watcher {
  readonly started: (started: Started) => void
  /** What a person should know although nothing failed. */
  readonly notice: (message: string) => void
  readonly progress: (seen: Seen) => void
}

const followEveryMs = 250

/** The least share of the usual micro-batch that a task is tried with. */
export const leastBatchShare = 1 / 64

/**
 * Devices whose results are promised within tolerances, not to the bit: there a batch may be cut differently, and what broke off
 * with the device is tried once more. Elsewhere the same would come of it.
 */
const promisesTolerances = (task: PlannedTask): boolean => task.class !== null && task.class.provider !== "cpu"

/** Whether the device went away: by the worker's own word, or in the last words of its crash (XLA ends the process at some). */
const lostDevice = ({ message, tag }: Failure): boolean =>
  tag === deviceLostTag || (tag === "Crashed" && isLost(message))

/** A failure before there was a worker. */
export const failureOf = (error: { readonly _tag: string; readonly message: string }): Failure => ({
  tag: error._tag,
  message: error.message,
  signal: null,
  logLines: [],
  log: null
})

/** Runs an attempt to its end, however that comes. Fails only where the run's own journal cannot be written. */
export const runAttempt = Effect.fn("runAttempt")(
  function* (place: Workplace, ready: Ready, watcher: Watcher) {
    const lost = yield* verifyInputs(place.store, ready)
    if (lost !== undefined) return lost
    let share = 1
    let lostBefore = false
    for (;;) {
      const started = yield* start(place, ready, share)
      watcher.started(started)
      const outcome = yield* follow(started.worker, watcher).pipe(
        // whoever waits is gone: what it waited for must have ended before its card is another's
        Effect.onError(() => Effect.andThen(Effect.sync(started.worker.kill), outcomeOf(started.worker)))
      )
      const result = yield* settle(place, ready, started.attempt, outcome)
      if (result._tag === "Done" || !promisesTolerances(ready.task)) return result
      const who = `${ready.task.nodes.join(", ")} (${ready.task.stage})`
      if (result.failure.tag === outOfMemoryTag) {
        if (share <= leastBatchShare) return exhausted(result)
        share /= 2
        watcher.notice(
          `${who} ran out of the device's memory; it goes on from its last checkpoint with micro-batches of 1/${1 / share} ` +
            "of the usual size"
        )
      } else if (!lostBefore && lostDevice(result.failure)) {
        lostBefore = true
        watcher.notice(
          `${who} lost its device; it goes on from its last checkpoint in a new process, once. ${result.failure.message}`
        )
      } else return result
    }
  },
  (effect) =>
    Effect.catch(effect, (error) =>
      Effect.succeed<Result>({ _tag: "Failed", attempt: null, failure: failureOf(error), killed: false })
    )
)

const exhausted = (failed: Extract<Result, { readonly _tag: "Failed" }>): Result => ({
  ...failed,
  failure: {
    ...failed.failure,
    message:
      `${failed.failure.message} It was tried with ever smaller micro-batches, down to 1/${1 / leastBatchShare} of the usual ` +
      "size. What takes less: `lora` on the stage, `compute.dtype: bf16`, `rematerialise: true`, fewer `maxNewTokens`, a smaller " +
      "policy, or several cards (`--mesh fsdp=N`)."
  }
})

const verifyInputs = Effect.fnUntraced(function* (store: Store, { inputs }: Ready) {
  for (const sha256 of Object.values(inputs)) {
    const checked = yield* Effect.result(store.verify(sha256))
    if (checked._tag === "Success") continue
    const error = checked.failure
    if (error.reason._tag !== "Corrupt" && error.reason._tag !== "Missing") return yield* error
    return { _tag: "InputLost", sha256, error } satisfies Result
  }
})

const start = Effect.fnUntraced(function* (place: Workplace, ready: Ready, batchShare: number) {
  const { task, contentKey, inputs } = ready
  const codeDigest = task.code.digest
  const { growth } = task
  const family =
    growth === null
      ? null
      : { key: familyKey({ ...task, params: task.keyParams }, growth.param, inputs), steps: growth.steps }
  const own = yield* place.interrupted.find(contentKey, codeDigest)
  const shorter =
    family === null || growth?.because !== null
      ? undefined
      : yield* handedOver(place, { family: family.key, codeDigest, steps: family.steps, after: own?.step ?? 0 })
  const resumes = shorter ?? own ?? null
  const attempt = newId(Date.now())
  const dir = join(place.root, "attempts", attempt)
  const lease = place.cards === undefined ? {} : { cards: cardNames(place.cards) }
  const asked: TaskFile = {
    format: 1,
    attempt,
    key: task.key,
    stage: task.stage,
    version: task.version,
    contentKey,
    codeDigest,
    source: task.source,
    params: task.params,
    inputs,
    seed: task.seed,
    class: task.class,
    ...(batchShare === 1 ? {} : { batchShare }),
    mesh: task.class === null || place.mesh === undefined ? null : meshText(place.mesh),
    ...lease,
    family,
    resumes
  }
  yield* Effect.tryPromise({ try: () => writeDurably(dir, asked), catch: fileFailure("writing", dir) })
  place.interrupted.begun(contentKey, codeDigest, attempt)
  return yield* Effect.try({
    try: (): Started => {
      const worker = startWorker(place.root, attempt, { ...lease, module: place.worker })
      const from = resumes === null ? null : { attempt: resumes.attempt, offset: resumes.offset, step: resumes.step }
      try {
        const pid = worker.pid
        place.journal.attempt({ attempt, key: task.key, contentKey, codeDigest, pid, ...lease, resumes: from })
        place.journal.state(task.key, "running", attempt)
        place.journal.sync()
      } catch (cause) {
        worker.kill()
        throw cause
      }
      return { attempt, worker, firstStep: resumes?.step ?? 0, resumes: resumes?.attempt ?? null }
    },
    catch: fileFailure("starting a worker for", dir)
  })
})

const writeDurably = async (dir: string, asked: TaskFile): Promise<void> => {
  await mkdir(dir, { recursive: true })
  const file = await open(join(dir, "task.json"), "w")
  try {
    await file.writeFile(`${JSON.stringify(asked, null, 2)}\n`)
    await file.sync()
  } finally {
    await file.close()
  }
  await syncFolder(dir)
}

/** Of a worker that has ended. */
const outcomeOf = ({ outcome }: WorkerProcess): Effect.Effect<Outcome> => Effect.promise(() => outcome)

/** Reports what the worker does until it has ended. */
const follow = Effect.fnUntraced(function* (worker: WorkerProcess, watcher: Watcher) {
  const ended = yield* Deferred.make<Outcome>()
  worker.outcome.then((outcome) => Deferred.doneUnsafe(ended, Effect.succeed(outcome)))
  for (;;) {
    const outcome = yield* Deferred.await(ended).pipe(Effect.timeoutOption(followEveryMs))
    const seen = worker.follow()
    if (seen !== undefined) watcher.progress(seen)
    if (outcome._tag === "Some") return outcome.value
  }
})

/** Publishes and binds what a finished worker left; records an attempt that came to nothing. */
export const settle = Effect.fnUntraced(function* (
  place: Workplace,
  ready: Pick<Ready, "contentKey"> & {
    readonly task: { readonly key: string; readonly stage: string; readonly code: { readonly digest: string } }
  },
  attempt: string,
  outcome: Outcome
) {
  const { task, contentKey } = ready
  const dir = join(place.root, "attempts", attempt)
  const published = outcome.state === "done" ? yield* Effect.result(publish(place, dir, outcome.outputs)) : undefined
  const tidy = Effect.promise(async () => {
    for (const name of ["out", "scratch"]) await rm(join(dir, name), { recursive: true, force: true })
  })
  yield* tidy
  if (outcome.state === "done" && published?._tag === "Success") {
    // First: with the realisation alone nothing would ever write it.
    yield* joinFamily(place.root, attempt, outcome.outputs)
    yield* writeRealisation(place.root, {
      format: 1,
      contentKey,
      codeDigest: task.code.digest,
      task: task.key,
      stage: task.stage,
      attempt,
      outputs: outcome.outputs
    })
    yield* place.interrupted.forget(contentKey, task.code.digest)
    yield* Effect.promise(() => rm(join(dir, "checkpoint"), { recursive: true, force: true }))
    yield* record(place, () => {
      place.journal.attemptEnd(attempt, "done")
      place.journal.bind(task.key, attempt, false)
      place.journal.state(task.key, "done", attempt)
    })
    return { _tag: "Done", attempt, outputs: outcome.outputs } satisfies Result
  }
  const failure =
    outcome.state !== "done"
      ? outcome.failure
      : published?._tag === "Failure"
        ? { ...failureOf(published.failure), log: `attempts/${attempt}/log.txt` }
        : failureOf({ _tag: "Unpublished", message: "its outputs were not published" })
  const killed = outcome.state === "killed"
  yield* record(place, () => place.journal.attemptEnd(attempt, killed ? "killed" : "failed", failure))
  return { _tag: "Failed", attempt, failure, killed } satisfies Result
})

const publish = Effect.fnUntraced(function* (place: Workplace, dir: string, outputs: Readonly<Record<string, Output>>) {
  for (const [name, { kind, sha256 }] of Object.entries(outputs)) {
    const out = join(dir, "out", name)
    // A supervisor that died while publishing may have moved it already.
    if (!existsSync(out) && place.store.has(sha256)) yield* place.store.verify(sha256)
    else yield* place.store.publish(out, kind, sha256)
  }
})

const record = (place: Workplace, write: () => void): Effect.Effect<void, FileFailure> =>
  Effect.try({
    try: () => {
      write()
      place.journal.sync()
    },
    catch: fileFailure("writing", place.journal.path)
  })
