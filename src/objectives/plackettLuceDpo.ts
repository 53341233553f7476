/**
 * DPO over a ranking: the likelihood of the whole order under Plackett and Luce, with DPO's implied rewards as scores.
 * Rafailov et al. (2305.18290), appendix A.3. What votes on a slate of answers say is such a ranking.
 *
 *     s = beta sum(log p - log p_ref);     loss = - sum over places k of log [ exp(s_k) / sum over j >= k of exp(s_j) ]
 *
 * Of two answers it is DPO.
 */

import { softplus } from "../tensor/composites/activation.ts"
import { add, greater, mul, select, sub } from "../tensor/ops/elementwise.ts"
import { fill, zeros } from "../tensor/ops/leaf.ts"
import { checkList, listInputs, listLogs, listsOf } from "./lists.ts"
import type { TokenObjective } from "./Objective.ts"
import { groupMean } from "./pairs.ts"

export interface PlackettLuceSettings {
  /** Places K of a list, >= 2. */
  readonly size: number
  /** > 0; default 0.1. */
  readonly beta?: number
}

/** Stands for the logarithm of nothing. */
const nothing = -1e30

/** Batch tensors: `refLogprobs` [tokens]; `present` [rows], 1 for an answer, 0 for filling. */
export const plackettLuceDpo = ({ beta = 0.1, size }: PlackettLuceSettings): TokenObjective => {
  const name = `pl-dpo(${size}, ${beta})`
  checkList(name, size, beta)
  return {
    name,
    groupSize: size,
    inputs: listInputs,
    build: (outputs, inputs) => {
      const lists = listsOf(name, size, beta, outputs, inputs)
      const { present, scores } = lists
      // From the last place on: rest = log of the sum of exp(s_j) over later places; -log share = softplus(rest - s_k).
      let rest = fill(nothing, scores[0]!.shape)
      let losses = zeros(scores[0]!.shape)
      for (let k = size - 1; k >= 0; k--) {
        const beaten = softplus(sub(rest, scores[k]!))
        losses = add(losses, mul(beaten, present[k]!))
        rest = select(greater(present[k]!, 0.5), add(scores[k]!, beaten), rest)
      }
      return { loss: groupMean(losses, size, outputs), logs: listLogs(lists, outputs) }
    }
  }
}
