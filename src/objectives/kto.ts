/**
 * Kahneman-Tversky optimisation: answers that are good or bad by themselves, without a partner. Ethayarajh et al.
 * (2402.01306), eqs. 7-8; TRL's `KTOTrainer`.
 *
 *     l = sum of log p - log p_ref;     z = max(0, mean over mismatched pairs of l), no gradient
 *     desirable:  lambda_D (1 - sigmoid(beta (l - z)));     undesirable:  lambda_U (1 - sigmoid(beta (z - l)))
 *
 * The mean is over all rows. z is a number that comes with the batch: whoever trains scores prompts with the answers of
 * other prompts. The paper recommends lambda_D n_D / (lambda_U n_U) in [1, 4/3].
 */

import { stopGradient } from "../tensor/ops/control.ts"
import { add, div, greater, max, mul, select, sigmoid, sub } from "../tensor/ops/elementwise.ts"
import { fill } from "../tensor/ops/leaf.ts"
import { reduceSum } from "../tensor/ops/reduce.ts"
import type { Tensor } from "../tensor/Tensor.ts"
import { inputOf, perRow, type TokenObjective } from "./Objective.ts"
import { indicator, refLogprobs } from "./pairs.ts"

export interface KtoSettings {
  /** > 0; default 0.1. */
  readonly beta?: number
  /** lambda_D >= 0; default 1. */
  readonly desirableWeight?: number
  /** lambda_U >= 0; default 1. */
  readonly undesirableWeight?: number
}

/**
 * Batch tensors: `refLogprobs` [tokens]; `labels` [rows], 1 desirable, 0 not; `kl`, the mean over mismatched pairs, of either
 * sign; `desirable`, how many rows of the whole batch are. Logs: `rewards/chosen` and `logps/chosen` are means over the
 * desirable rows, `rewards/rejected` and `logps/rejected` over the others (0 where there are none), `rewards/margins` their
 * difference.
 */
export const kto = (settings: KtoSettings = {}): TokenObjective => {
  const { beta = 0.1, desirableWeight = 1, undesirableWeight = 1 } = settings
  const name = `kto(${[beta, desirableWeight, undesirableWeight].join(", ")})`
  if (!(beta > 0 && desirableWeight >= 0 && undesirableWeight >= 0)) {
    throw new RangeError(`${name}: beta must be > 0, the weights >= 0`)
  }
  return {
    name,
    inputs: {
      ...refLogprobs,
      labels: { per: "row", dtype: "f32" },
      kl: { per: "batch", dtype: "f32" },
      desirable: { per: "batch", dtype: "f32" }
    },
    build: (outputs, inputs) => {
      const { logprobs, totalRows } = outputs
      const l = perRow(sub(logprobs, inputOf(name, inputs, "refLogprobs")), outputs)
      const good = greater(inputOf(name, inputs, "labels"), 0.5)
      const sided = (yes: number, no: number) => select(good, fill(yes, l.shape), fill(no, l.shape))
      const z = max(inputOf(name, inputs, "kl"), 0)
      // 1 - sigmoid(x) = sigmoid(-x), which keeps its digits where x is large.
      const losses = mul(sigmoid(mul(mul(sub(z, l), beta), sided(1, -1))), sided(desirableWeight, undesirableWeight))

      const chosen = indicator(good)
      const desirable = inputOf(name, inputs, "desirable")
      const of = (values: Tensor) => ({
        chosen: div(reduceSum(mul(values, chosen)), max(desirable, 1)),
        rejected: div(reduceSum(mul(values, sub(1, chosen))), max(sub(totalRows, desirable), 1))
      })
      const rewards = of(mul(stopGradient(l), beta))
      const logps = of(perRow(stopGradient(logprobs), outputs))
      return {
        loss: div(reduceSum(losses), totalRows),
        logs: {
          "rewards/chosen": rewards.chosen,
          "rewards/rejected": rewards.rejected,
          "rewards/margins": add(rewards.chosen, mul(rewards.rejected, -1)),
          "logps/chosen": logps.chosen,
          "logps/rejected": logps.rejected
        }
      }
    }
  }
}
