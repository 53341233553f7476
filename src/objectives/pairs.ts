/**
 * What losses on preference pairs share: sums over the two answers of a pair, means over pairs, and TRL's metrics.
 *
 * A pair is a group of two rows, the chosen answer and the rejected one. Answers with equal texts have equal sums, so every
 * loss of their difference has a constant value and no gradient.
 */
import { stopGradient } from "../tensor/ops/control.ts"
import { div, greater, max, mul, neg, select, sub } from "../tensor/ops/elementwise.ts"
import { ones, zeros } from "../tensor/ops/leaf.ts"
import { reduceSum } from "../tensor/ops/reduce.ts"
import type { Tensor } from "../tensor/Tensor.ts"
import { type BatchInput, inputOf, ofGroup, perRow, type TokenOutputs } from "./Objective.ts"

/** A value for the chosen and one for the rejected answer of every pair: f32 [pairs] each. */
export interface Pairs {
  readonly chosen: Tensor
  readonly rejected: Tensor
}

/** The rows [2 * pairs] of pairs, taken apart. */
export const pairsOf = (rowValues: Tensor, outputs: TokenOutputs): Pairs => ({
  chosen: ofGroup(rowValues, 0, outputs),
  rejected: ofGroup(rowValues, 1, outputs)
})

/** Sums of token values [tokens] over both answers. */
export const pairSums = (tokenValues: Tensor, outputs: TokenOutputs): Pairs =>
  pairsOf(perRow(tokenValues, outputs), outputs)

/** Tokens of both answers, at least 1. */
export const pairLengths = (outputs: TokenOutputs): Pairs => {
  const { chosen, rejected } = pairSums(ones(outputs.mask.shape), outputs)
  return { chosen: max(chosen, 1), rejected: max(rejected, 1) }
}

/** The same function of both sides. */
export const onBoth = (f: (...values: ReadonlyArray<Tensor>) => Tensor, ...pairs: ReadonlyArray<Pairs>): Pairs => ({
  chosen: f(...pairs.map(({ chosen }) => chosen)),
  rejected: f(...pairs.map(({ rejected }) => rejected))
})

/** Sums of log p - log p_ref over both answers; the reference's are the batch tensor `refLogprobs` [tokens]. */
export const logRatios = (name: string, outputs: TokenOutputs, inputs: Readonly<Record<string, Tensor>>): Pairs =>
  pairSums(sub(outputs.logprobs, inputOf(name, inputs, "refLogprobs")), outputs)

export const refLogprobs: Readonly<Record<string, BatchInput>> = { refLogprobs: { per: "token", dtype: "f32" } }

/** Sum of a value per group over the groups of the whole batch: its share of the mean. */
export const groupMean = (values: Tensor, groupSize: number, { totalRows }: TokenOutputs): Tensor =>
  mul(div(reduceSum(values), totalRows), groupSize)

/** Mean over pairs of `values` [pairs]. */
export const pairMean = (values: Tensor, outputs: TokenOutputs): Tensor => groupMean(values, 2, outputs)

/** 1 where a condition holds, else 0. */
export const indicator = (condition: Tensor): Tensor => select(condition, ones(condition.shape), zeros(condition.shape))

/**
 * TRL's metrics of pairs: `rewards/chosen`, `rewards/rejected`, `rewards/accuracies`, `rewards/margins`, `logps/chosen`,
 * `logps/rejected`; log-probabilities are sums over the answer.
 */
export const pairLogs = (rewards: Pairs, outputs: TokenOutputs): Readonly<Record<string, Tensor>> => {
  const detached = onBoth((x) => stopGradient(x!), rewards)
  const logps = pairSums(stopGradient(outputs.logprobs), outputs)
  const mean = (values: Tensor) => pairMean(values, outputs)
  return {
    "rewards/chosen": mean(detached.chosen),
    "rewards/rejected": mean(detached.rejected),
    "rewards/accuracies": mean(indicator(greater(detached.chosen, detached.rejected))),
    "rewards/margins": mean(sub(detached.chosen, detached.rejected)),
    "logps/chosen": mean(logps.chosen),
    "logps/rejected": mean(logps.rejected)
  }
}

/** A pair may weigh more or less than others: the batch tensor `weights`, read of its chosen row. */
export interface Weighted {
  /** `given`: the mean over pairs is of weight x loss. Default `equal`. */
  readonly weights?: "equal" | "given"
}

export const weightInput = ({ weights = "equal" }: Weighted): Readonly<Record<string, BatchInput>> =>
  weights === "given" ? { weights: { per: "row", dtype: "f32" } } : {}

/** Mean over pairs of the losses [pairs], each times its weight where weights are given. */
export const weightedMean = (
  name: string,
  losses: Tensor,
  { weights = "equal" }: Weighted,
  outputs: TokenOutputs,
  inputs: Readonly<Record<string, Tensor>>
): Tensor =>
  pairMean(weights === "given" ? mul(losses, ofGroup(inputOf(name, inputs, "weights"), 0, outputs)) : losses, outputs)

/** Batch tensor of losses with a likelihood term: the chosen answers' tokens of the whole batch. */
export const chosenTokens: Readonly<Record<string, BatchInput>> = { chosenTokens: { per: "batch", dtype: "f32" } }

/** Negative log-likelihood of the chosen answers, mean over their tokens (TRL's `nll_loss`). */
export const chosenNll = (name: string, outputs: TokenOutputs, inputs: Readonly<Record<string, Tensor>>): Tensor =>
  div(neg(reduceSum(pairSums(outputs.logprobs, outputs).chosen)), max(inputOf(name, inputs, "chosenTokens"), 1))
