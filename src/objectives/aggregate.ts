/**
 * How token losses become one number. Each is additive over micro-batches, and each divides by something of the whole
 * update, never of a micro-batch:
 *
 * | name | sum over tokens of mask * loss, divided by | TRL `loss_type` | verl `loss_agg_mode` |
 * | --- | --- | --- | --- |
 * | `token-mean` | the tokens of this update | `bnpo` (over the whole update) | `token-mean` |
 * | `token-mean-global` | the tokens of the whole generation step / its updates | `dapo` | |
 * | `sequence-mean` | the row's own tokens, then the rows of this update | `grpo` | `seq-mean-token-mean` |
 * | `constant` | the rows of this update x the most tokens an answer may have | `dr_grpo` | `seq-mean-token-sum-norm` |
 *
 * In a token mean long answers weigh more; under `sequence-mean` each answer weighs the same, so each token of a long one
 * less; under `constant` a token weighs the same wherever it stands and however long its batch is (Dr. GRPO, 2503.20783).
 * With one update a generation `token-mean-global` is `token-mean`; TRL divides by all tokens of the generation, which with
 * several updates is the same loss, smaller by their number.
 */

import { div, max, mul } from "../tensor/ops/elementwise.ts"
import { gather, segmentSum } from "../tensor/ops/indexing.ts"
import { reduceSum } from "../tensor/ops/reduce.ts"
import type { Tensor } from "../tensor/Tensor.ts"
import type { TokenOutputs } from "./Objective.ts"

/** The aggregations that need nothing but the batch. */
export type Aggregation = "token-mean" | "sequence-mean"

/** Those of policy gradients: `token-mean-global` and `constant` need a divisor that the caller knows. */
export const policyAggregations = ["token-mean", "token-mean-global", "sequence-mean", "constant"] as const
export type PolicyAggregation = (typeof policyAggregations)[number]

/** sum(mask * values) / divisor. `values`: f32 [tokens]; `divisor`: a scalar of the whole batch. */
export const tokenSum = (values: Tensor, { mask }: TokenOutputs, divisor: Tensor): Tensor =>
  div(reduceSum(mul(values, mask)), divisor)

/** sum(mask * values) / tokens of the whole batch. `values`: f32 [tokens]. */
export const tokenMean = (values: Tensor, outputs: TokenOutputs): Tensor =>
  tokenSum(values, outputs, outputs.totalTokens)

/** Mean over rows of the row's token mean; rows without tokens count as 0. `values`: f32 [tokens]. */
export const sequenceMean = (values: Tensor, { mask, rowCount, rows, totalRows }: TokenOutputs): Tensor => {
  const lengths = segmentSum(mask, rows, rowCount)
  const weight = div(mask, gather(max(lengths, 1), rows))
  return div(reduceSum(mul(values, weight)), totalRows)
}

/** sum(mask * values) / (rows of the whole batch * `maxTokens`). */
export const constantMean = (values: Tensor, outputs: TokenOutputs, maxTokens: number): Tensor =>
  tokenSum(values, outputs, mul(outputs.totalRows, maxTokens))

export const aggregate = (how: Aggregation, values: Tensor, outputs: TokenOutputs): Tensor => {
  switch (how) {
    case "token-mean":
      return tokenMean(values, outputs)
    case "sequence-mean":
      return sequenceMean(values, outputs)
  }
}
