/**
 * `Task` as a worker process provides it: rows go to the attempt's journal, checkpoints beside it.
 *
 * The journal's head is written when it is known whether the stage takes up the interrupted attempt: at its call of
 * `resume`, or at its first row. So a stage that does not ask cannot inherit rows that it writes again.
 */
import { mkdirSync } from "node:fs"
import { join } from "node:path"
import { Effect, Option } from "effect"
import type { Checkpoint, TaskShape } from "../dsl/Task.ts"
import { beginCheckpoint, commitCheckpoint, resumeDir } from "./checkpoint.ts"
import type { JournalWriter } from "./journal.ts"
import { assertJson, nonFinite } from "./nonFinite.ts"
import type { TaskFile } from "./taskFile.ts"

const checkpointEveryMs = 2000
/** A stage that computes in native calls gives the event loop a turn this often, so that signals are heard. */
const turnEveryMs = 50

export interface LiveTask {
  readonly task: TaskShape
  /** Rows of the runner itself: they wait for the head. */
  readonly event: (name: string, detail: unknown) => void
  /** Writes the last line, durable. */
  readonly end: (line: Readonly<Record<string, unknown>>) => void
  /** The next checkpoint is due at once, and the stage is interrupted after it. */
  readonly stop: () => void
}

type Line = Readonly<Record<string, unknown>>

/** @param attemptDir the attempt's folder, under `<warehouse>/attempts`. */
export const liveTask = (attemptDir: string, asked: TaskFile, journal: JournalWriter): LiveTask => {
  let waiting: Array<Line> | undefined = []
  let stopping = false
  let checkpointedAt = performance.now()
  let askedAt = checkpointedAt
  let turnedAt = checkpointedAt
  let shownAt = checkpointedAt

  /** Decides the head, once; true if this call made it resume. */
  const head = (resume: boolean): boolean => {
    if (waiting === undefined) return false
    const point = resume ? asked.resumes : null
    journal.append({
      t: "head",
      format: 1,
      attempt: asked.attempt,
      task: asked.key,
      stage: asked.stage,
      contentKey: asked.contentKey,
      codeDigest: asked.codeDigest,
      resumes: point === null ? null : { attempt: point.attempt, offset: point.offset, step: point.step }
    })
    for (const line of waiting) journal.append(line)
    waiting = undefined
    return point !== null
  }

  const row = (line: Line): void => {
    head(false)
    journal.append(line)
  }
  const event = (name: string, detail: unknown): void => {
    const line = { t: "event", name, detail: detail ?? null }
    if (waiting === undefined) journal.append(line)
    else waiting.push(line)
  }
  /** Seen from outside at once, unless steps are so short that the next one carries it along. */
  const progress = (step: number, of: number): void => {
    row({ t: "progress", step, of })
    const now = performance.now()
    if (now - shownAt < turnEveryMs) return
    shownAt = now
    journal.flush()
  }
  /** Rows whose NaN and infinities become null; an event beside them says which. */
  const rows = (t: string, content: Line): Effect.Effect<void> =>
    Effect.sync(() => {
      row({ t, ...content })
      const odd = nonFinite(content)
      if (odd.length > 0) event("non-finite", { in: t, step: content["step"] ?? null, values: odd })
    })

  const turn = Effect.suspend(() => {
    if (performance.now() - turnedAt < turnEveryMs) return Effect.void
    return Effect.promise(() => new Promise<void>((resolve) => setImmediate(resolve))).pipe(
      Effect.andThen(Effect.sync(() => (turnedAt = performance.now())))
    )
  })

  const resume = Effect.sync((): Option.Option<Checkpoint> => {
    if (!head(true) || asked.resumes === null) return Option.none()
    const { step, state } = asked.resumes
    return Option.some({ step, dir: resumeDir(attemptDir, asked.resumes), state })
  })

  const checkpointDue = turn.pipe(
    Effect.andThen(
      Effect.sync(() => {
        const now = performance.now()
        const step = now - askedAt
        askedAt = now
        // Due now if waiting for the next chance would make it later than it may be.
        return stopping || now - checkpointedAt + step >= checkpointEveryMs
      })
    )
  )

  const checkpoint: TaskShape["checkpoint"] = Effect.fnUntraced(function* (step, state, write) {
    head(false)
    const dir = yield* Effect.promise(() => beginCheckpoint(attemptDir, step))
    yield* write(dir)
    yield* Effect.promise(() => commitCheckpoint(attemptDir, journal, step, state))
    checkpointedAt = askedAt = performance.now()
    if (stopping) return yield* Effect.interrupt
  })

  // Its hash is known when the output is; the line says which rows go with it.
  const handOver = (step: number, state: unknown): void => {
    assertJson(state, "the state of output checkpoint")
    row({ t: "checkpoint", step, state: state ?? null, output: "checkpoint", offset: journal.length() })
  }

  const scratch = join(attemptDir, "scratch")
  mkdirSync(scratch, { recursive: true })

  return {
    task: {
      key: asked.key,
      stage: asked.stage,
      metrics: (step, values) => rows("metrics", { step, values }),
      samples: (samples) => rows("samples", { rows: samples }),
      items: (items) => rows("items", { rows: items }),
      event: (name, detail) => Effect.sync(() => event(name, detail)),
      progress: (step, of) =>
        Effect.andThen(
          Effect.sync(() => progress(step, of)),
          turn
        ),
      resume,
      checkpointDue,
      checkpoint,
      handOver: (step, state) => Effect.sync(() => handOver(step, state)),
      scratch
    },
    event,
    end: (line) => {
      head(false)
      journal.append({ t: "end", ...line })
      journal.sync()
    },
    stop: () => {
      stopping = true
    }
  }
}
