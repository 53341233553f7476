/**
 * `Task` in memory, for tests of stages without a worker: what was said is there to be looked at, checkpoints lie in a
 * folder of the test, and a run can be broken off after a checkpoint to show that k steps and the rest are N steps.
 */
import { mkdirSync } from "node:fs"
import { join } from "node:path"
import { Effect, Option } from "effect"
import type { Checkpoint, ItemRow, SampleRow, TaskShape } from "../../src/dsl/Task.ts"

export interface Said {
  readonly metrics: Array<{ readonly step: number; readonly values: Readonly<Record<string, number>> }>
  readonly samples: Array<SampleRow>
  readonly items: Array<ItemRow>
  readonly events: Array<{ readonly name: string; readonly detail: unknown }>
  readonly progress: Array<{ readonly step: number; readonly of: number }>
  readonly checkpoints: Array<Checkpoint>
  /** What was handed over to a longer run, and how many metric rows go with it. */
  readonly handedOver: Array<{ readonly step: number; readonly state: unknown; readonly metrics: number }>
}

export interface MemoryTaskOptions {
  /** An empty folder for checkpoints and scratch. */
  readonly dir: string
  readonly stage?: string
  /** Taken up, as after an interruption. */
  readonly resume?: Checkpoint
  /** Every so many calls of `checkpointDue` one is due; never where it is left out. */
  readonly checkpointEvery?: number
  /** Interrupts the stage after the checkpoint at this step. */
  readonly breakAt?: number
}

export const memoryTask = (options: MemoryTaskOptions): { readonly task: TaskShape; readonly said: Said } => {
  const said: Said = { metrics: [], samples: [], items: [], events: [], progress: [], checkpoints: [], handedOver: [] }
  const scratch = join(options.dir, "scratch")
  mkdirSync(scratch, { recursive: true })
  let asked = 0
  const checkpoint: TaskShape["checkpoint"] = Effect.fnUntraced(function* (step, state, write) {
    const dir = join(options.dir, "checkpoint", String(step))
    mkdirSync(dir, { recursive: true })
    yield* write(dir)
    // As a journal gives it back.
    said.checkpoints.push({ step, dir, state: JSON.parse(JSON.stringify(state ?? null)) })
    if (step === options.breakAt) return yield* Effect.interrupt
  })
  const task: TaskShape = {
    key: "memory",
    stage: options.stage ?? "memory",
    metrics: (step, values) => Effect.sync(() => void said.metrics.push({ step, values })),
    samples: (rows) => Effect.sync(() => void said.samples.push(...rows)),
    items: (rows) => Effect.sync(() => void said.items.push(...rows)),
    event: (name, detail) => Effect.sync(() => void said.events.push({ name, detail })),
    progress: (step, of) => Effect.sync(() => void said.progress.push({ step, of })),
    resume: Effect.succeed(Option.fromNullishOr(options.resume)),
    checkpointDue: Effect.sync(() => options.checkpointEvery !== undefined && ++asked % options.checkpointEvery === 0),
    checkpoint,
    handOver: (step, state) =>
      Effect.sync(() => {
        const back: unknown = JSON.parse(JSON.stringify(state ?? null))
        said.handedOver.push({ step, state: back, metrics: said.metrics.length })
      }),
    scratch
  }
  return { task, said }
}
