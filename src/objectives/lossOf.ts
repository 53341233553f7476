/**
 * The value of an objective on given log-probabilities, without a model and without a gradient: what held-out rows are worth
 * under a loss. The objective's own graph, in the reference interpreter (float64).
 */
import { interpret } from "../tensor/interpret.ts"
import { program } from "../tensor/Program.ts"
import { input } from "../tensor/Tensor.ts"
import type { TokenObjective, TokenOutputs } from "./Objective.ts"

/** Values for an objective's inputs: a number per row, numbers per token of each row, or one for the batch. */
type Given = ReadonlyArray<number> | ReadonlyArray<ArrayLike<number>> | number

/**
 * @param logprobs [rows][tokens], the rows of a group one after the other; the rows are the whole batch
 * @param given by name; names that the objective does not ask for are left alone
 * Throws a RangeError where an input is missing, or the rows are not whole groups. Entropies count as 0.
 */
export const lossOf = (
  objective: TokenObjective,
  logprobs: ReadonlyArray<ArrayLike<number>>,
  given: Readonly<Record<string, Given>>
): number => {
  const { groupSize = 1, name } = objective
  const rows = logprobs.length
  const groups = rows / groupSize
  if (rows === 0 || !Number.isInteger(groups)) {
    throw new RangeError(`${name}: [${rows}] rows are not whole groups of [${groupSize}]`)
  }
  // Row k of group g is row k * groups + g of the graph.
  const order = Array.from({ length: rows }, (_, at) => (at % groups) * groupSize + Math.floor(at / groups))
  const perToken = (values: ReadonlyArray<ArrayLike<number>>) => order.flatMap((row) => Array.from(values[row]!))
  const flat = perToken(logprobs)
  const outputs: TokenOutputs = {
    logprobs: input("logprobs", "f32", [flat.length]),
    entropies: input("entropies", "f32", [flat.length]),
    mask: input("mask", "f32", [flat.length]),
    rows: input("rows", "i32", [flat.length]),
    rowCount: rows,
    groupCount: groups,
    totalTokens: input("totalTokens", "f32", []),
    totalRows: input("totalRows", "f32", [])
  }
  const vector = (data: ReadonlyArray<number>) => ({ shape: [data.length], data })
  const scalar = (value: number) => ({ shape: [], data: [value] })
  const asked = Object.entries(objective.inputs).map(([input, { per }]) => {
    const values = given[input]
    if (values === undefined) throw new RangeError(`${name}: the batch tensor "${input}" is missing`)
    if (typeof values === "number") return [input, scalar(values)] as const
    if (values.length !== rows) throw new RangeError(`${name}: [${values.length}] of "${input}" for [${rows}] rows`)
    return [
      input,
      vector(per === "token" ? perToken(values as never) : order.map((row) => Number(values[row])))
    ] as const
  })
  const inputs = Object.fromEntries(
    asked.map(([name, { shape }]) => [name, input(`batch:${name}`, objective.inputs[name]!.dtype, shape)])
  )
  const { loss } = objective.build(outputs, inputs)
  const { outputs: found } = interpret(program(name, { outputs: { loss } }), {
    logprobs: vector(flat),
    entropies: vector(flat.map(() => 0)),
    mask: vector(flat.map(() => 1)),
    rows: vector(order.flatMap((row, at) => Array.from(logprobs[row]!, () => at))),
    totalTokens: scalar(flat.length),
    totalRows: scalar(rows),
    ...Object.fromEntries(asked.map(([name, feed]) => [`batch:${name}`, feed]))
  })
  return found["loss"]!.data[0]!
}
