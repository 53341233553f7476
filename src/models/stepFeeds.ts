/** What the rows of a wave feed to the next run of decoding: one step (`decode.ts`) or a segment of them (`segment.ts`). */
import { f32, type HostTensor, i32 } from "../device/HostTensor.ts"
import { uniformAt } from "../device/random.ts"
import type { Row, Rules } from "./sampling.ts"

/** A run of many steps: how many the program has room for, how many it is to do, and the live rows at which it ends. */
export interface Run {
  readonly steps: number
  readonly left: number
  readonly leave: number
}

/** What rows feed to a run: where they stand, and the numbers that they draw. */
export const stepFeeds = (
  rows: ReadonlyArray<Row & { readonly prompt: number }>,
  prompts: ReadonlyArray<ReadonlyArray<number>>,
  { choice, lines }: Rules,
  { leave, left, steps }: Run,
  stops: ReadonlySet<number>
): Record<string, HostTensor> => {
  const n = rows.length
  const perRow = (value: (row: Row & { readonly prompt: number }) => number) => i32([n], rows.map(value))
  const stands = (row: Row) => row.finish !== undefined
  const missing = (row: Row) => (lines === undefined ? 0 : Math.max(0, lines.count - row.lines))
  const feeds: Record<string, HostTensor> = {
    token: perRow((row) => row.ids.at(-1) ?? prompts[row.prompt]!.at(-1)!),
    lengths: perRow((row) => prompts[row.prompt]!.length - 1 + row.ids.length - (stands(row) ? 1 : 0))
  }
  if (!choice.greedy) {
    const uniform = new Float32Array(steps * n)
    for (let at = 0; at < left * n; at++) {
      const row = rows[at % n]!
      uniform[at] = uniformAt(row.stream, row.ids.length + Math.floor(at / n))
    }
    feeds["uniform"] = f32(steps === 1 ? [n] : [steps, n], uniform)
  }
  if (steps === 1) {
    if (lines !== undefined) feeds["banned"] = perRow((row) => (missing(row) > 0 ? lines.closing : -1))
    return feeds
  }
  feeds["left"] = i32([], [left])
  feeds["leave"] = i32([], [leave])
  feeds["live"] = perRow((row) => (stands(row) ? 0 : 1))
  feeds["stops"] = i32([stops.size], [...stops])
  if (lines !== undefined) {
    feeds["lines"] = perRow(missing)
    feeds["closing"] = i32([], [lines.closing])
    feeds["newline"] = i32([], [lines.newline])
  }
  return feeds
}
