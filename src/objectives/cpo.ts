/**
 * Contrastive preference optimisation: DPO with a uniform reference, and the likelihood of the chosen answer to hold the
 * policy in its place. Xu et al. (2401.08417), eqs. 3 and 5; TRL's `CPOTrainer`, `loss_type="sigmoid"`.
 *
 *     D = beta (logp_chosen - logp_rejected);     loss = -(1 - e) log sigmoid(D) - e log sigmoid(-D) + alpha NLL(chosen)
 *
 * NLL is the mean over the chosen answers' tokens of the batch, as in TRL; the paper writes sums over an answer.
 */

import { logSigmoid } from "../tensor/composites/activation.ts"
import { add, mul, neg, sub } from "../tensor/ops/elementwise.ts"
import type { TokenObjective } from "./Objective.ts"
import {
  chosenNll,
  chosenTokens,
  onBoth,
  pairLogs,
  pairSums,
  type Weighted,
  weightedMean,
  weightInput
} from "./pairs.ts"

export interface CpoSettings extends Weighted {
  /** > 0; default 0.1. */
  readonly beta?: number
  /** In [0, 1/2]; default 0. */
  readonly labelSmoothing?: number
  /** Weight alpha of the likelihood of the chosen answer; >= 0, default 1. */
  readonly nllWeight?: number
}

/** Batch tensors: `chosenTokens`; `weights` [rows] where given. Logs: of pairs, and `nll_loss`. */
export const cpo = (settings: CpoSettings = {}): TokenObjective => {
  const { beta = 0.1, labelSmoothing: e = 0, nllWeight = 1 } = settings
  const name = `cpo(${[beta, e, nllWeight, settings.weights ?? "equal"].join(", ")})`
  if (!(beta > 0 && nllWeight >= 0 && e >= 0 && e <= 0.5)) {
    throw new RangeError(`${name}: beta must be > 0, the likelihood's weight >= 0, the label smoothing in [0, 1/2]`)
  }
  return {
    name,
    groupSize: 2,
    inputs: { ...chosenTokens, ...weightInput(settings) },
    build: (outputs, inputs) => {
      const rewards = onBoth((sum) => mul(sum!, beta), pairSums(outputs.logprobs, outputs))
      const d = sub(rewards.chosen, rewards.rejected)
      const losses = e === 0 ? neg(logSigmoid(d)) : neg(add(mul(logSigmoid(d), 1 - e), mul(logSigmoid(neg(d)), e)))
      const nll = chosenNll(name, outputs, inputs)
      return {
        loss: add(weightedMean(name, losses, settings, outputs, inputs), mul(nll, nllWeight)),
        logs: { ...pairLogs(rewards, outputs), nll_loss: nll }
      }
    }
  }
}
