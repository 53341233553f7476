import type { Objective, TokenObjective, TokenOutputs } from "../../src/objectives/Objective.ts"
import { gradient } from "../../src/tensor/gradient.ts"
import { interpret } from "../../src/tensor/interpret.ts"
import { program } from "../../src/tensor/Program.ts"
import { input } from "../../src/tensor/Tensor.ts"

export interface Rows {
  /** [rows][tokens], 0 where the mask is. */
  readonly logprobs: ReadonlyArray<ReadonlyArray<number>>
  readonly mask: ReadonlyArray<ReadonlyArray<number>>
  /** Per token [rows][tokens] or per row [rows]. */
  readonly inputs?: Readonly<Record<string, ReadonlyArray<ReadonlyArray<number>> | ReadonlyArray<number>>>
  /** Totals of the batch that these rows are a part of. */
  readonly totalTokens?: number
  readonly totalRows?: number
}

/** Loss, logs and the loss's derivative by every log-probability, in the reference interpreter. */
export const evaluateTokens = (objective: TokenObjective, rows: Rows) => {
  const flat = rows.logprobs.flatMap((row, i) => row.map((logprob, j) => ({ logprob, i, j, mask: rows.mask[i]![j]! })))
  const outputs: TokenOutputs = {
    logprobs: input("logprobs", "f32", ["tokens"]),
    entropies: input("entropies", "f32", ["tokens"]),
    mask: input("mask", "f32", ["tokens"]),
    rows: input("rows", "i32", ["tokens"]),
    rowCount: rows.logprobs.length,
    totalTokens: input("totalTokens", "f32", []),
    totalRows: input("totalRows", "f32", [])
  }
  const inputs = Object.fromEntries(
    Object.entries(objective.inputs).map(([name, { dtype, per }]) => [
      name,
      input(name, dtype, per === "token" ? ["tokens"] : per === "row" ? [rows.logprobs.length] : [])
    ])
  )
  const { logs, loss } = objective.build(outputs, inputs)
  const [by] = gradient(loss, [outputs.logprobs])
  const feed = (data: ReadonlyArray<number>, shape: ReadonlyArray<number> = [data.length]) => ({ shape, data })
  const tokens = flat.reduce((n, { mask }) => n + mask, 0)
  const result = interpret(program("objective", { outputs: { loss, by: by!, ...logs } }), {
    logprobs: feed(flat.map(({ logprob }) => logprob)),
    entropies: feed(flat.map(() => 0.5)),
    mask: feed(flat.map(({ mask }) => mask)),
    rows: feed(flat.map(({ i }) => i)),
    totalTokens: feed([rows.totalTokens ?? tokens], []),
    totalRows: feed([rows.totalRows ?? rows.logprobs.length], []),
    ...Object.fromEntries(
      Object.keys(objective.inputs).map((name) => {
        const values = rows.inputs![name]!
        return [name, feed(values.flat() as ReadonlyArray<number>)]
      })
    )
  }).outputs
  const log = (name: string) => result[name]!.data[0]!
  return { loss: log("loss"), by: Array.from(result["by"]!.data), log }
}

export const namesOf = <Outputs>(objective: Objective<Outputs>): ReadonlyArray<string> => Object.keys(objective.inputs)

/** Row-major values as rows. */
export const asRows = (values: ReadonlyArray<number>, [rows, columns]: readonly [number, number]) =>
  Array.from({ length: rows }, (_, i) => values.slice(i * columns, (i + 1) * columns))
