/**
 * The thread in which a user's module scores: whatever it does there, a loop without end included, the task can wait
 * for it no longer than its time-out, and end it. This file is both the thread's program and the import by which its
 * code counts in the digest.
 */
import { pathToFileURL } from "node:url"
import { isMainThread, parentPort, workerData } from "node:worker_threads"
import { Schema } from "effect"
import * as Param from "../../dsl/param.ts"
import { asReward, paramsOf } from "../../rewards/custom.ts"
import type { RewardInput } from "../../rewards/part.ts"
import { commonFields } from "./section.ts"

export const threadFile = new URL(import.meta.url)

/** What the thread is started with. */
export interface Start {
  readonly overtoneReward: true
  readonly module: string
  readonly export: string
  /** The section without `from`, encoded. */
  readonly params: unknown
}

export interface Batch {
  readonly id: number
  readonly rows: ReadonlyArray<RewardInput>
}

/** What it says: that it is ready (or why it cannot be), and then the scores of a batch or the row at which it threw. */
export type Said =
  | { readonly ready: true; readonly embeddings: boolean }
  | { readonly broken: string }
  | { readonly id: number; readonly scores: ReadonlyArray<unknown> }
  | { readonly id: number; readonly row: number; readonly threw: string }

const isStart = (value: unknown): value is Start =>
  typeof value === "object" && value !== null && "overtoneReward" in value

const why = (cause: unknown): string =>
  cause instanceof Error ? (cause.stack ?? cause.message).split("\n").slice(0, 3).join(" ").trim() : String(cause)

const serve = async (start: Start): Promise<void> => {
  const port = parentPort!
  const say = (said: Said): void => port.postMessage(said)
  const module = (await import(pathToFileURL(start.module).href)) as Readonly<Record<string, unknown>>
  const custom = asReward(module[start.export], Param.withDefault as never)
  if ("wrong" in custom) return say({ broken: custom.wrong })
  const params = Schema.decodeUnknownSync(paramsOf(custom, commonFields(custom.weight)))(start.params) as never
  port.on("message", async ({ id, rows }: Batch) => {
    const scores: Array<unknown> = []
    for (const [row, input] of rows.entries()) {
      try {
        scores.push(plainly(await custom.score(input, params)))
      } catch (cause) {
        return say({ id, row, threw: why(cause) })
      }
    }
    say({ id, scores })
  })
  say({ ready: true, embeddings: custom.embeddings })
}

/** What cannot be sent to another thread (a function, say) is told by its name. */
const plainly = (value: unknown): unknown =>
  typeof value === "object" && value !== null
    ? JSON.parse(JSON.stringify(value, odd))
    : typeof value === "function"
      ? "a function"
      : value

const odd = (_: string, value: unknown): unknown =>
  typeof value === "number" && !Number.isFinite(value) ? String(value) : value

if (!isMainThread && isStart(workerData)) {
  serve(workerData).catch((cause) => parentPort?.postMessage({ broken: why(cause) } satisfies Said))
}
