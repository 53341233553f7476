/**
 * What losses on ranked lists share: a list is a group of K rows, best first; lists that are shorter are filled up with empty
 * rows whose `present` is 0, after the others.
 */
import { stopGradient } from "../tensor/ops/control.ts"
import { add, div, greater, max, mul, sub } from "../tensor/ops/elementwise.ts"
import { ones, zeros } from "../tensor/ops/leaf.ts"
import type { Tensor } from "../tensor/Tensor.ts"
import { type BatchInput, inputOf, ofGroup, perRow, type TokenOutputs } from "./Objective.ts"
import { groupMean, indicator, refLogprobs } from "./pairs.ts"

export const listInputs: Readonly<Record<string, BatchInput>> = {
  ...refLogprobs,
  present: { per: "row", dtype: "f32" }
}

/** Throws a RangeError unless lists have at least two places. */
export const checkList = (name: string, size: number, beta: number): void => {
  if (!(Number.isInteger(size) && size >= 2)) throw new RangeError(`${name}: a list has at least 2 places, not ${size}`)
  if (!(beta > 0)) throw new RangeError(`${name}: beta must be > 0`)
}

export interface Lists {
  /** beta (log p - log p_ref), of an answer's tokens the sum or the mean, by place: K of [lists]. */
  readonly scores: ReadonlyArray<Tensor>
  /** 1 where a place is taken, by place. */
  readonly present: ReadonlyArray<Tensor>
}

/** The scores of the places of every list. */
export const listsOf = (
  name: string,
  size: number,
  beta: number,
  outputs: TokenOutputs,
  inputs: Readonly<Record<string, Tensor>>,
  lengths: "normalised" | "sums" = "sums"
): Lists => {
  const sums = perRow(sub(outputs.logprobs, inputOf(name, inputs, "refLogprobs")), outputs)
  const ratios = lengths === "sums" ? sums : div(sums, max(perRow(ones(outputs.mask.shape), outputs), 1))
  const present = inputOf(name, inputs, "present")
  const places = Array.from({ length: size }, (_, k) => k)
  return {
    scores: places.map((k) => mul(ofGroup(ratios, k, outputs), beta)),
    present: places.map((k) => ofGroup(present, k, outputs))
  }
}

/**
 * Metrics of lists: `rewards/chosen` is the first answer's, `rewards/rejected` the last one's, `rewards/accuracies` the share of a
 * list's pairs that the policy has in the right order; all means over lists.
 */
export const listLogs = ({ present, scores }: Lists, outputs: TokenOutputs): Readonly<Record<string, Tensor>> => {
  const mean = (values: Tensor) => groupMean(values, scores.length, outputs)
  const rewards = scores.map((score) => stopGradient(score))
  const [first] = rewards as [Tensor]
  // The last place taken: the one whose successor is not.
  const last = rewards
    .map((reward, k) => mul(reward, sub(present[k]!, present[k + 1] ?? zeros(first.shape))))
    .reduce((sum, value) => add(sum, value))
  const pairs = rewards.flatMap((better, i) =>
    rewards.slice(i + 1).map((worse, j) => {
      const both = mul(present[i]!, present[i + 1 + j]!)
      return { both, right: mul(both, indicator(greater(better, worse))) }
    })
  )
  const sum = (values: ReadonlyArray<Tensor>) => values.reduce((total, value) => add(total, value))
  return {
    "rewards/chosen": mean(first),
    "rewards/rejected": mean(last),
    "rewards/accuracies": mean(div(sum(pairs.map(({ right }) => right)), max(sum(pairs.map(({ both }) => both)), 1))),
    "rewards/margins": mean(sub(first, last))
  }
}
