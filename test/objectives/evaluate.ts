import type { Objective, TokenObjective, TokenOutputs } from "../../src/objectives/Objective.ts"
import { multiplyDims } from "../../src/tensor/Dim.ts"
import { gradient } from "../../src/tensor/gradient.ts"
import { type Feed, interpret } from "../../src/tensor/interpret.ts"
import { program } from "../../src/tensor/Program.ts"
import { input } from "../../src/tensor/Tensor.ts"

export interface Rows {
  /** [rows][tokens], 0 where the mask is. */
  readonly logprobs: ReadonlyArray<ReadonlyArray<number>>
  readonly mask: ReadonlyArray<ReadonlyArray<number>>
  /** Per token [rows][tokens], per row [rows], or one for the batch. */
  readonly inputs?: Readonly<Record<string, ReadonlyArray<ReadonlyArray<number>> | ReadonlyArray<number> | number>>
  /** Totals of the batch that these rows are a part of. */
  readonly totalTokens?: number
  readonly totalRows?: number
}

/**
 * An objective's program on some rows, its feeds, and what its outputs mean.
 * @param named groups and rows are named dimensions, as in training; else numbers
 */
export const tokenProgram = (objective: TokenObjective, batch: Rows, { named = false } = {}) => {
  const count = batch.logprobs.length
  const size = objective.groupSize ?? 1
  const groups = count / size
  const [groupCount, rowCount] = named
    ? ([multiplyDims("groups", 1), multiplyDims("groups", size)] as const)
    : [groups, count]
  const order = Array.from({ length: count }, (_, i) => (i % groups) * size + Math.floor(i / groups))
  const flat = order.flatMap((row, i) =>
    batch.logprobs[row]!.map((logprob, j) => ({ logprob, i, row, j, mask: batch.mask[row]![j]! }))
  )
  const outputs: TokenOutputs = {
    logprobs: input("logprobs", "f32", ["tokens"]),
    entropies: input("entropies", "f32", ["tokens"]),
    mask: input("mask", "f32", ["tokens"]),
    rows: input("rows", "i32", ["tokens"]),
    rowCount,
    groupCount,
    totalTokens: input("totalTokens", "f32", []),
    totalRows: input("totalRows", "f32", [])
  }
  const inputs = Object.fromEntries(
    Object.entries(objective.inputs).map(([name, { dtype, per }]) => [
      name,
      input(name, dtype, per === "token" ? ["tokens"] : per === "row" ? [rowCount] : [])
    ])
  )
  const { logs, loss } = objective.build(outputs, inputs)
  const [by] = gradient(loss, [outputs.logprobs])
  const feed = (data: ReadonlyArray<number>, shape: ReadonlyArray<number> = [data.length]) => ({ shape, data })
  const tokens = flat.reduce((n, { mask }) => n + mask, 0)
  const given = Object.keys(objective.inputs).map((name) => {
    const values = batch.inputs![name]!
    if (typeof values === "number") return [name, feed([values], [])] as const
    const ordered = order.map((row) => values[row]!)
    return [name, feed(ordered.flat() as ReadonlyArray<number>)] as const
  })
  const feeds: Readonly<Record<string, Feed>> = {
    logprobs: feed(flat.map(({ logprob }) => logprob)),
    entropies: feed(flat.map(() => 0.5)),
    mask: feed(flat.map(({ mask }) => mask)),
    rows: feed(flat.map(({ i }) => i)),
    totalTokens: feed([batch.totalTokens ?? tokens], []),
    totalRows: feed([batch.totalRows ?? count], []),
    ...Object.fromEntries(given)
  }
  const read = (outputs: Readonly<Record<string, { readonly data: ArrayLike<number> }>>) => {
    const log = (name: string) => outputs[name]!.data[0]!
    const derivatives = flat.map(({ row, j }, token) => ({ row, j, by: outputs["by"]!.data[token]! }))
    const sorted = derivatives.toSorted((a, b) => a.row - b.row || a.j - b.j)
    return { loss: log("loss"), by: sorted.map(({ by }) => by), log }
  }
  const results = { loss, by: by!, ...logs }
  if (!named) return { program: program("objective", { outputs: results }), feeds, read }
  // what tells how many groups there are
  const counted = input("counted", "i32", ["groups"])
  const { rowCount: _, groupCount: __, ...tensors } = outputs
  const all = [...Object.values(tensors), ...Object.values(inputs), counted]
  return {
    program: program("objective", { inputs: all, outputs: results }),
    feeds: { ...feeds, counted: feed(Array.from({ length: groups }, () => 0)) },
    read
  }
}

/**
 * Loss, logs and the loss's derivative by every log-probability, in the reference interpreter. The rows of a group come one
 * after the other, as in a batch; the derivatives come back in the order of the rows.
 */
export const evaluateTokens = (objective: TokenObjective, batch: Rows) => {
  const { feeds, program, read } = tokenProgram(objective, batch)
  return read(interpret(program, feeds).outputs)
}

export const namesOf = <Outputs>(objective: Objective<Outputs>): ReadonlyArray<string> => Object.keys(objective.inputs)

/** Row-major values as rows. */
export const asRows = (values: ReadonlyArray<number>, [rows, columns]: readonly [number, number]) =>
  Array.from({ length: rows }, (_, i) => values.slice(i * columns, (i + 1) * columns))
