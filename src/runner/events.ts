/** What a run tells whoever watches it. The JSON of `exp run --json` is made of these, and so is the live display. */
export interface TaskEvent {
  readonly type: "task"
  readonly key: string
  readonly stage: string
  readonly nodes: ReadonlyArray<string>
  /** Of the worker, a direct child of this process; null where none was started. */
  readonly pid: number | null
  readonly state: "started" | "done" | "cached" | "failed"
  /** Of `started`, `done` and `failed`. */
  readonly attempt?: string
  /** Of `started`: the step it goes on with; 0 when it starts from nothing. */
  readonly firstStep?: number
  /** Of `done` and `failed`. */
  readonly seconds?: number
  /** Of `failed`. */
  readonly failure?: Failure
}

export interface Failure {
  /** Tag of the stage's error; `Killed`, `Crashed` and `WorkerLost` are the runner's. */
  readonly tag: string
  readonly message: string
  readonly signal: string | null
  /** Of the worker's log, newest last. */
  readonly logLines: ReadonlyArray<string>
  /** Relative to the warehouse directory; null when no worker was started. */
  readonly log: string | null
}

export interface ProgressEvent {
  readonly type: "progress"
  readonly key: string
  readonly step: number
  readonly of: number
  /** The newest step metrics, for display. */
  readonly metrics: Readonly<Record<string, number | null>>
}

/** A task that will not be tried because something that it needs failed. */
export interface SkippedEvent {
  readonly type: "skipped"
  readonly key: string
  readonly stage: string
  readonly nodes: ReadonlyArray<string>
  /** The failed task. */
  readonly because: string
}

/** Something worth a line to people, which stops nothing (a corrupt artifact was moved aside, ...). */
export interface NoticeEvent {
  readonly type: "notice"
  readonly message: string
}

export interface Summary {
  readonly type: "summary"
  readonly experiment: string
  /** Tasks that were run to their end. */
  readonly ran: number
  readonly cached: number
  readonly failed: number
  readonly skipped: number
  readonly cells: number
  readonly wallSeconds: number
}

export type RunEvent = TaskEvent | ProgressEvent | SkippedEvent | NoticeEvent | Summary
