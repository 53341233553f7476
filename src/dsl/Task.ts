/**
 * What a running stage can say and ask: journal rows, progress, checkpoints. The runner implements it in the worker
 * process; tests provide an in-memory one. Rows are appended to the attempt's journal and reach DuckDB exactly once.
 */
import { Context, type Effect, type Option } from "effect"

/** One completion. `idx` counts the samples of a prompt within a step; `reward` is null for evaluation samples. */
export interface SampleRow {
  readonly step: number
  readonly promptId: string
  readonly idx: number
  readonly prompt: string
  readonly completion: string
  readonly reward: number | null
  readonly advantage: number | null
  /** Every reward part of this completion: the value after shaping and before weighting. */
  readonly parts: ReadonlyArray<{ readonly name: string; readonly value: number; readonly weight: number }>
}

/** One per-prompt result; what paired statistics use. */
export interface ItemRow {
  readonly promptId: string
  readonly split: string
  readonly name: string
  readonly value: number
}

export interface Checkpoint {
  /** Steps done when it was written: training goes on with this step. */
  readonly step: number
  /** Verified bytes; must not be written to. */
  readonly dir: string
  /** Whatever small JSON the stage saved beside the folder (data position, best metric, ...). */
  readonly state: unknown
}

export interface TaskShape {
  readonly key: string
  readonly stage: string
  readonly metrics: (step: number, values: Readonly<Record<string, number>>) => Effect.Effect<void>
  readonly samples: (rows: ReadonlyArray<SampleRow>) => Effect.Effect<void>
  readonly items: (rows: ReadonlyArray<ItemRow>) => Effect.Effect<void>
  readonly event: (name: string, detail: unknown) => Effect.Effect<void>
  /** What people see: `step` of `of` done. Free text goes to the attempt's log by `Effect.log`. */
  readonly progress: (step: number, of: number) => Effect.Effect<void>
  /**
   * The newest verified checkpoint of an interrupted attempt of this very task and code, or what a shorter run handed over;
   * whichever is further.
   */
  readonly resume: Effect.Effect<Option.Option<Checkpoint>>
  /** True when a checkpoint is due: two seconds after the last, or one step, whichever is later. */
  readonly checkpointDue: Effect.Effect<boolean>
  /** Journal rows written so far become durable together with the checkpoint: both or neither. */
  readonly checkpoint: <E, R>(
    step: number,
    state: unknown,
    write: (dir: string) => Effect.Effect<void, E, R>
  ) => Effect.Effect<void, E, R>
  /**
   * Of a stage that `grows`: its output `checkpoint` holds all that a longer run needs to go on with `step`. The rows so
   * far are that run's rows too, those after this call are not.
   */
  readonly handOver: (step: number, state: unknown) => Effect.Effect<void>
  /** A folder of this attempt for scratch files; not kept. */
  readonly scratch: string
}

export class Task extends Context.Service<Task, TaskShape>()("overtone/dsl/Task") {}
