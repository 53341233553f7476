/**
 * SimPO: preference optimisation without a reference, by the mean log-probability of an answer's tokens and a margin.
 * Meng et al. (2405.14734), eq. 6; their values beta 2 to 2.5, gamma / beta 0.3 to 0.6. TRL: `CPOTrainer`, `loss_type="simpo"`,
 * `cpo_alpha=0`; with `nllWeight` > 0 it is CPO-SimPO.
 *
 *     D = beta (mean logp_chosen - mean logp_rejected) - gamma;     loss = -(1 - e) log sigmoid(D) - e log sigmoid(-D) + alpha NLL
 */

import { logSigmoid } from "../tensor/composites/activation.ts"
import { add, div, mul, neg, sub } from "../tensor/ops/elementwise.ts"
import type { TokenObjective } from "./Objective.ts"
import {
  chosenNll,
  chosenTokens,
  onBoth,
  pairLengths,
  pairLogs,
  pairSums,
  type Weighted,
  weightedMean,
  weightInput
} from "./pairs.ts"

export interface SimpoSettings extends Weighted {
  /** Scale of the mean log-probabilities, > 0; default 2.5. */
  readonly beta?: number
  /** Margin that the chosen answer is to have, in units of the reward; >= 0, default 1.375. */
  readonly gamma?: number
  /** In [0, 1/2]; default 0. */
  readonly labelSmoothing?: number
  /** Weight of the likelihood of the chosen answer; >= 0, default 0. */
  readonly nllWeight?: number
}

/** Batch tensors: `chosenTokens` where `nllWeight` > 0, `weights` [rows] where given. Logs: of pairs, and `nll_loss`. */
export const simpo = (settings: SimpoSettings = {}): TokenObjective => {
  const { beta = 2.5, gamma = 1.375, labelSmoothing: e = 0, nllWeight = 0 } = settings
  const name = `simpo(${[beta, gamma, e, nllWeight, settings.weights ?? "equal"].join(", ")})`
  if (!(beta > 0 && gamma >= 0 && nllWeight >= 0 && e >= 0 && e <= 0.5)) {
    throw new RangeError(`${name}: beta must be > 0, gamma and the likelihood's weight >= 0, the smoothing in [0, 1/2]`)
  }
  return {
    name,
    groupSize: 2,
    inputs: { ...(nllWeight > 0 ? chosenTokens : {}), ...weightInput(settings) },
    build: (outputs, inputs) => {
      const rewards = onBoth(
        (sum, n) => mul(div(sum!, n!), beta),
        pairSums(outputs.logprobs, outputs),
        pairLengths(outputs)
      )
      const d = sub(sub(rewards.chosen, rewards.rejected), gamma)
      const losses = e === 0 ? neg(logSigmoid(d)) : neg(add(mul(logSigmoid(d), 1 - e), mul(logSigmoid(neg(d)), e)))
      const preference = weightedMean(name, losses, settings, outputs, inputs)
      const logs = pairLogs(rewards, outputs)
      if (nllWeight === 0) return { loss: preference, logs }
      const nll = chosenNll(name, outputs, inputs)
      return { loss: add(preference, mul(nll, nllWeight)), logs: { ...logs, nll_loss: nll } }
    }
  }
}
