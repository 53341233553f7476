/**
 * Numbers that a model gives for many texts, micro-batch by micro-batch: progress is seen, and what is there is kept in
 * checkpoints, so that a kill costs one micro-batch and not all. The micro-batches are the model's own (`plan`), so the
 * numbers are those of one call with all texts, bit for bit, interrupted or not.
 */
import { readFile, writeFile } from "node:fs/promises"
import { Effect } from "effect"
import { Task } from "../dsl/Task.ts"

export interface Chunked<E, R> {
  /** Names the numbers in a checkpoint; the checkpoint's state is `{ phase: name, before }`. */
  readonly name: string
  /** Row numbers, each row in one part. */
  readonly parts: ReadonlyArray<ReadonlyArray<number>>
  /** Numbers of a row. */
  readonly width: number
  /** The numbers of some rows, `width` each, in their order. */
  readonly compute: (rows: ReadonlyArray<number>) => Effect.Effect<ReadonlyArray<ArrayLike<number>>, E, R>
  /** Steps that were done before the first row, and all steps of the task: a row is a step. */
  readonly before: number
  readonly of: number
  /** Folder of a checkpoint of this phase, to go on from. */
  readonly resumed?: string | undefined
  /** What else a checkpoint must hold. */
  readonly beside?: (dir: string) => Effect.Effect<void>
}

const file = (dir: string, name: string) => `${dir}/${name}.f32`

/** All numbers, [rows, width] row-major. */
export const inChunks = Effect.fn("inChunks")(function* <E, R>(work: Chunked<E, R>) {
  const { beside, before, compute, name, of, parts, resumed, width } = work
  const task = yield* Task
  const order = parts.flat()
  const data = new Float32Array(order.length * width)
  const kept =
    resumed === undefined
      ? new Float32Array(0)
      : yield* Effect.promise(async () => {
          const bytes = await readFile(file(resumed, name))
          return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength))
        })
  const known = kept.length / Math.max(1, width)
  for (let k = 0; k < known; k++) data.set(kept.subarray(k * width, (k + 1) * width), order[k]! * width)
  yield* task.progress(before + known, of)
  let done = 0
  for (const part of parts) {
    done += part.length
    if (done <= known) continue
    const found = yield* compute(part)
    part.forEach((row, i) => {
      data.set(found[i]!, row * width)
    })
    yield* task.progress(before + done, of)
    if (before + done < of && (yield* task.checkpointDue)) {
      const rows = order.slice(0, done)
      yield* task.checkpoint(before + done, { phase: name, before }, (dir) =>
        Effect.andThen(
          Effect.promise(() => {
            const bytes = new Float32Array(done * width)
            rows.forEach((row, k) => {
              bytes.set(data.subarray(row * width, (row + 1) * width), k * width)
            })
            return writeFile(file(dir, name), bytes)
          }),
          beside?.(dir) ?? Effect.void
        )
      )
    }
  }
  return data
})
