/** A reward from a user's module, scoring in a thread of its own (`thread.ts`). */
import { basename } from "node:path"
import { Worker } from "node:worker_threads"
import { Effect } from "effect"
import { type Asked, checked, failedWith, type Origin, type Scorer } from "./answers.ts"
import type { Reason } from "./RewardFailed.ts"
import type { FromReward } from "./section.ts"
import { type Batch, type Said, type Start, threadFile } from "./thread.ts"

/** Seconds in which the module has to be loaded: a slow disk takes some. */
const startSeconds = 60

interface Thread {
  /** Posts and waits for the next word; fails with the reason why there is none. */
  readonly ask: (batch: Batch | null, seconds: number, of: number) => Effect.Effect<Said, Reason>
  readonly end: Effect.Effect<void>
}

const open = (start: Start): Thread => {
  const worker = new Worker(threadFile, { workerData: start, stdout: false, stderr: false })
  let over: Reason | undefined
  let heard: ((said: Said | Reason) => void) | undefined
  let early: Said | Reason | undefined
  const hear = (said: Said | Reason): void => {
    // Whoever is told may ask at once.
    const listener = heard
    heard = undefined
    if (listener === undefined) early = said
    else listener(said)
  }
  const died = (detail: string): void => {
    over ??= { _tag: "Died", detail }
    hear(over)
  }
  worker.on("message", (said: Said) => hear(said))
  worker.on("error", (cause) => died(cause instanceof Error ? cause.message : String(cause)))
  worker.on("exit", (code) => died(`its thread ended with exit code ${code}`))
  worker.unref()
  return {
    ask: (batch, seconds, of) =>
      Effect.callback<Said, Reason>((resume) => {
        worker.ref()
        const timer = setTimeout(() => hear({ _tag: "TimedOut", seconds, of }), seconds * 1000)
        const answer = (said: Said | Reason): void => {
          clearTimeout(timer)
          worker.unref()
          resume("_tag" in said ? Effect.fail(said) : Effect.succeed(said))
        }
        const waiting = early ?? over
        early = undefined
        if (waiting !== undefined) return answer(waiting)
        heard = answer
        if (batch !== null) worker.postMessage(batch)
      }),
    end: Effect.promise(() => worker.terminate().then(() => undefined))
  }
}

/** Loads the module and checks that it is the reward that the plan has seen. */
export const openModule = Effect.fn("reward.from")(function* (name: string, section: FromReward) {
  const { from, ...params } = section
  const origin: Origin = { reward: name, origin: `${basename(from.module)}#${from.export}` }
  const start: Start = { overtoneReward: true, module: from.module, export: from.export, params }
  const thread = yield* Effect.acquireRelease(
    Effect.sync(() => open(start)),
    ({ end }) => end
  )
  const because = (reason: Reason) => failedWith(origin, reason)
  const first = yield* thread.ask(null, startSeconds, 0).pipe(Effect.mapError(because))
  if ("broken" in first) return yield* because({ _tag: "Unreachable", detail: first.broken })
  const embeddings = "ready" in first && first.embeddings
  let id = 0
  const score = Effect.fn("reward.from.score")(function* (batch: ReadonlyArray<Asked>) {
    const rows = batch.map(({ input }) => input)
    const said = yield* thread.ask({ id: id++, rows }, section.timeout, batch.length).pipe(Effect.mapError(because))
    if ("threw" in said) {
      const at = { row: said.row, asked: batch[said.row]! }
      return yield* failedWith(origin, { _tag: "Threw", detail: said.threw }, at)
    }
    if (!("scores" in said)) return yield* because({ _tag: "Garbled", detail: "its thread said nothing of the batch" })
    return yield* checked(origin, said.scores, batch)
  })
  const scorer: Scorer = { name, embeddings, score }
  return scorer
})
