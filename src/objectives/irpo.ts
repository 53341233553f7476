/**
 * In-context ranking preference optimisation (IRPO), Wu et al. (2504.15477): a ranked list with graded relevance, every answer
 * against the mean of all others of the list, discounted by its place as in DCG. The form is that of the authors' public code
 * (`rdpo_loss` of its `trainers.py`); the paper's own equations have not been read.
 *
 *     s = beta mean over tokens (log p - log p_ref)                                         `sums`: beta sum over tokens
 *     loss = - mean over places i of g(y_i) / log2(1 + i) * log sigmoid( - log mean over j != i of exp(s_j - s_i) )
 *
 * `exponential` is the authors' gain g(y) = 2^y - 1, made for grades of a few levels; `linear` is y, which counts of votes need.
 * Their code scores the items of one answer; here every item is an answer of its own. Its mean leaves in e^(-100 beta) of an
 * answer against itself, which is left out here. With relevance (1, 0) of two answers and `lengths: sums` the loss is half of DPO's.
 */
import { logSigmoid } from "../tensor/composites/activation.ts"
import { stopGradient } from "../tensor/ops/control.ts"
import { add, div, exp, expm1, greater, log, max, mul, neg, select, sub } from "../tensor/ops/elementwise.ts"
import type { Tensor } from "../tensor/Tensor.ts"
import { checkList, listInputs, listLogs, listsOf } from "./lists.ts"
import { inputOf, ofGroup, type TokenObjective } from "./Objective.ts"
import { groupMean } from "./pairs.ts"

export interface IrpoSettings {
  /** Places K of a list, >= 2. */
  readonly size: number
  /** > 0; default 1, the authors'. */
  readonly beta?: number
  /** Default `linear`. */
  readonly gain?: "linear" | "exponential"
  /** Default `normalised`, the authors'. */
  readonly lengths?: "normalised" | "sums"
}

const nothing = -1e30

/** Batch tensors: `refLogprobs` [tokens]; `present` and `relevance` [rows], both 0 for filling. Places count from 1. */
export const irpo = (settings: IrpoSettings): TokenObjective => {
  const { beta = 1, gain = "linear", lengths = "normalised", size } = settings
  const name = `irpo(${size}, ${beta}, ${gain}, ${lengths})`
  checkList(name, size, beta)
  return {
    name,
    groupSize: size,
    inputs: { ...listInputs, relevance: { per: "row", dtype: "f32" } },
    build: (outputs, inputs) => {
      const lists = listsOf(name, size, beta, outputs, inputs, lengths)
      const relevance = inputOf(name, inputs, "relevance")
      const sum = (values: ReadonlyArray<Tensor>) => values.reduce((total, value) => add(total, value))
      const taken = sum(lists.present)
      const scores = lists.scores.map((score, k) => select(greater(lists.present[k]!, 0.5), score, nothing))
      const losses = lists.scores.map((score, i) => {
        const others = scores.filter((_, j) => j !== i)
        const top = stopGradient(others.reduce((most, other) => max(most, other)))
        const total = add(top, log(sum(others.map((other) => exp(sub(other, top))))))
        const ahead = sub(sub(total, log(max(sub(taken, 1), 1))), score)
        const y = ofGroup(relevance, i, outputs)
        const gained = gain === "linear" ? y : expm1(mul(y, Math.LN2))
        return mul(mul(neg(logSigmoid(neg(ahead))), mul(gained, 1 / Math.log2(2 + i))), lists.present[i]!)
      })
      const loss = groupMean(div(sum(losses), max(taken, 1)), size, outputs)
      return { loss, logs: listLogs(lists, outputs) }
    }
  }
}
