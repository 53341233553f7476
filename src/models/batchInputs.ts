/** The named values that come with a batch, as the tensors of one micro-batch. */
import { f32, type HostTensor, i32 } from "../device/HostTensor.ts"
import type { BatchInput, Objective } from "../objectives/Objective.ts"
import { byRow, type Sequence } from "./batching.ts"

/** Values for an objective's inputs: a number per row, numbers per completion token of each row, or one for the batch. */
export type BatchValues = ReadonlyArray<number> | ReadonlyArray<ArrayLike<number>> | number

const tensor = (dtype: BatchInput["dtype"], shape: ReadonlyArray<number>, values: ArrayLike<number>): HostTensor =>
  dtype === "f32" ? f32(shape, values) : i32(shape, values)

/**
 * Feeds `batch:<name>` of a micro-batch whose rows are `part` of the batch. Throws a RangeError that names the input where
 * values are missing or do not fit the rows.
 */
export const packInputs = <Outputs>(
  objective: Objective<Outputs>,
  given: Readonly<Record<string, BatchValues>>,
  sequences: ReadonlyArray<Pick<Sequence, "completion">>,
  part: ReadonlyArray<number>
): Readonly<Record<string, HostTensor>> => {
  const feeds: Record<string, HostTensor> = {}
  for (const [name, { dtype, per }] of Object.entries(objective.inputs)) {
    const values = given[name]
    const wrong = (detail: string) => new RangeError(`batch input "${name}" of ${objective.name}: ${detail}`)
    if (values === undefined) throw wrong("is missing")
    if (per === "batch") {
      if (typeof values !== "number") throw wrong("must be one number")
      feeds[`batch:${name}`] = tensor(dtype, [], [values])
      continue
    }
    if (typeof values === "number" || values.length !== sequences.length) {
      throw wrong(
        `has ${typeof values === "number" ? "one value" : `${values.length} rows`} for ${sequences.length} rows`
      )
    }
    const flat = part.flatMap((row) => {
      const value = values[row]!
      if (per === "row") {
        if (typeof value !== "number") throw wrong("must be one number per row")
        return [value]
      }
      const tokens = sequences[row]!.completion.length
      if (typeof value === "number" || value.length !== tokens) {
        const found = typeof value === "number" ? "one value" : `${value.length} values`
        throw wrong(`row ${row} has ${found} for ${tokens} completion tokens`)
      }
      return Array.from(value)
    })
    const { groupSize = 1 } = objective
    const whole = tensor(dtype, [flat.length], flat)
    feeds[`batch:${name}`] = per === "row" ? byRow(whole, groupSize) : whole
  }
  return feeds
}
