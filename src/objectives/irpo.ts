/**
 * In-context ranking preference optimisation (IRPO): a ranked list with graded relevance, every answer against all others of
 * the list, discounted by its place as in DCG. **Reconstructed** from the paper's abstract; its constants are not known
 * here, so treat numbers as this project's.
 *
 *     s = beta sum(log p - log p_ref)
 *     loss = - sum over places i of y_i / log2(1 + i) * log sigmoid( - log sum over j != i of exp(s_j - s_i) )
 *
 * The inner term is log softmax(s)_i, and is computed as that. With relevance (1, 0) of two answers it is DPO.
 */

import { stopGradient } from "../tensor/ops/control.ts"
import { add, exp, greater, log, max, mul, select, sub } from "../tensor/ops/elementwise.ts"
import type { Tensor } from "../tensor/Tensor.ts"
import { checkList, listInputs, listLogs, listsOf } from "./lists.ts"
import { inputOf, ofGroup, type TokenObjective } from "./Objective.ts"
import { groupMean } from "./pairs.ts"

export interface IrpoSettings {
  /** Places K of a list, >= 2. */
  readonly size: number
  /** > 0; default 0.1. */
  readonly beta?: number
}

const nothing = -1e30

/** Batch tensors: `refLogprobs` [tokens]; `present` and `relevance` [rows], both 0 for filling. Places count from 1. */
export const irpo = ({ beta = 0.1, size }: IrpoSettings): TokenObjective => {
  const name = `irpo(${size}, ${beta})`
  checkList(name, size, beta)
  return {
    name,
    groupSize: size,
    inputs: { ...listInputs, relevance: { per: "row", dtype: "f32" } },
    build: (outputs, inputs) => {
      const lists = listsOf(name, size, beta, outputs, inputs)
      const relevance = inputOf(name, inputs, "relevance")
      const scores = lists.scores.map((score, k) => select(greater(lists.present[k]!, 0.5), score, nothing))
      const top = stopGradient(scores.reduce((most, score) => max(most, score)))
      const total = scores.map((score) => exp(sub(score, top))).reduce((sum, value) => add(sum, value))
      const partition = add(top, log(total))
      const losses = lists.scores
        .map((score, k): Tensor => {
          const gain = mul(ofGroup(relevance, k, outputs), 1 / Math.log2(2 + k))
          return mul(mul(sub(partition, score), gain), lists.present[k]!)
        })
        .reduce((sum, value) => add(sum, value))
      return { loss: groupMean(losses, size, outputs), logs: listLogs(lists, outputs) }
    }
  }
}
