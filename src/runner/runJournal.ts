/** The run journal (docs/formats.md): what a run set out to do and what became of it, in the supervisor's own words. */
import { join } from "node:path"
import type { Plan, PlannedTask } from "../dsl/Planned.ts"
import type { Failure } from "./events.ts"
import { type JournalWriter, openJournal } from "./journal.ts"
import type { Provenance } from "./provenance.ts"

export type TaskState = "planned" | "running" | "done" | "failed"
export type RunEnd = "done" | "failed" | "interrupted"

export interface RunHead {
  readonly run: string
  readonly experiment: string
  readonly file: string
  readonly provenance: Provenance
  /** Metrics, baseline and gates, as the experiment states them. */
  readonly report: unknown
  /** Only some of the experiment's cells or nodes: the others stand as they were. */
  readonly partial: boolean
}

export interface AttemptStart {
  readonly attempt: string
  readonly key: string
  readonly contentKey: string
  readonly codeDigest: string
  readonly pid: number
  /** The cards that it has to itself, as CUDA names them, where it has any. */
  readonly cards?: ReadonlyArray<string>
  readonly resumes: { readonly attempt: string; readonly offset: number; readonly step: number } | null
}

export interface RunJournal {
  /** Relative to the warehouse directory. */
  readonly path: string
  readonly head: (head: RunHead, plan: Plan) => void
  readonly state: (key: string, state: TaskState, attempt?: string) => void
  readonly attempt: (start: AttemptStart) => void
  readonly attemptEnd: (attempt: string, state: "done" | "failed" | "killed", failure?: Failure) => void
  /** Whether an attempt has begun and its end is not there yet. */
  readonly isOpen: (attempt: string) => boolean
  /** From now on the task's rows are those of this attempt. */
  readonly bind: (key: string, attempt: string, cached: boolean) => void
  readonly end: (state: RunEnd, counts: { ran: number; cached: number; failed: number }) => void
  readonly sync: () => void
  readonly close: () => void
}

const now = (): string => new Date().toISOString()

/** Opens `runs/<run>.ndjson`, a new one or that of a run which came to no end. */
export const openRunJournal = (root: string, run: string): RunJournal => {
  const path = `runs/${run}.ndjson`
  const journal: JournalWriter = openJournal(join(root, path))
  const open = new Set<string>()
  return {
    path,
    head: (head, plan) => {
      journal.append({ t: "run", format: 1, ...head, startedAt: now() })
      for (const { id, arm, seed, params, tasks } of plan.cells) {
        journal.append({ t: "cell", cell: id, arm, seed, params, tasks })
      }
      for (const task of plan.tasks) journal.append(taskLine(task))
      journal.sync()
    },
    state: (key, state, attempt) => {
      journal.append({ t: "state", key, state, ...(attempt === undefined ? {} : { attempt }) })
    },
    attempt: (start) => {
      open.add(start.attempt)
      journal.append({ t: "attempt", ...start, startedAt: now() })
      journal.sync()
    },
    attemptEnd: (attempt, state, failure) => {
      open.delete(attempt)
      const error = failure === undefined ? {} : { error: { tag: failure.tag, message: failure.message } }
      journal.append({ t: "attempt-end", attempt, state, signal: failure?.signal ?? null, endedAt: now(), ...error })
    },
    isOpen: (attempt) => open.has(attempt),
    bind: (key, attempt, cached) => {
      journal.append({ t: "bind", key, attempt, cached })
    },
    end: (state, counts) => {
      journal.append({ t: "end", state, ...counts, endedAt: now() })
      journal.sync()
    },
    sync: journal.sync,
    close: journal.close
  }
}

const taskLine = (task: PlannedTask) => ({
  t: "task",
  key: task.key,
  stage: task.stage,
  version: task.version,
  params: task.keyParams,
  inputs: task.inputs,
  class: task.class,
  seed: task.seed,
  codeDigest: task.code.digest
})
