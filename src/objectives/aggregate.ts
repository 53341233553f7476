/**
 * How token losses become one number (TRL's `loss_type`). Each is additive over micro-batches.
 *
 * - `token-mean` (TRL `dapo`, verl `token-mean`): sum over tokens / tokens of the whole batch. Long answers weigh more.
 * - `sequence-mean` (TRL `grpo`, verl `seq-mean-token-mean`): mean over rows of the mean over the row's tokens.
 */

import { div, max, mul } from "../tensor/ops/elementwise.ts"
import { gather, segmentSum } from "../tensor/ops/indexing.ts"
import { reduceSum } from "../tensor/ops/reduce.ts"
import type { Tensor } from "../tensor/Tensor.ts"
import type { TokenOutputs } from "./Objective.ts"

export type Aggregation = "token-mean" | "sequence-mean"

/** sum(mask * values) / tokens of the whole batch. `values`: f32 [tokens]. */
export const tokenMean = (values: Tensor, { mask, totalTokens }: TokenOutputs): Tensor =>
  div(reduceSum(mul(values, mask)), totalTokens)

/** Mean over rows of the row's token mean; rows without tokens count as 0. `values`: f32 [tokens]. */
export const sequenceMean = (values: Tensor, { mask, rowCount, rows, totalRows }: TokenOutputs): Tensor => {
  const lengths = segmentSum(mask, rows, rowCount)
  const weight = div(mask, gather(max(lengths, 1), rows))
  return div(reduceSum(mul(values, weight)), totalRows)
}

export const aggregate = (how: Aggregation, values: Tensor, outputs: TokenOutputs): Tensor => {
  switch (how) {
    case "token-mean":
      return tokenMean(values, outputs)
    case "sequence-mean":
      return sequenceMean(values, outputs)
  }
}
