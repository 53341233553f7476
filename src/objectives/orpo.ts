/**
 * Odds-ratio preference optimisation: supervised fine-tuning on the chosen answer and, in the same breath, odds against
 * the rejected one. Hong et al. (2403.07691), eqs. 4-7; TRL's `ORPOTrainer`, whose `beta` is the paper's lambda.
 *
 *     p = exp(mean logp of the answer's tokens);     log odds = log p - log(1 - p)
 *     loss = NLL(chosen) - lambda log sigmoid(log odds_chosen - log odds_rejected)
 *
 * NLL is the mean over the chosen answers' tokens of the batch. An answer that is certain (p = 1) has infinite odds: mean
 * log-probabilities are held below -1e-6, where float32 still tells 1 - p from 0.
 */

import { logSigmoid } from "../tensor/composites/activation.ts"
import { stopGradient } from "../tensor/ops/control.ts"
import { add, div, expm1, log, min, mul, neg, sub } from "../tensor/ops/elementwise.ts"
import type { Tensor } from "../tensor/Tensor.ts"
import type { TokenObjective } from "./Objective.ts"
import {
  chosenNll,
  chosenTokens,
  onBoth,
  pairLengths,
  pairLogs,
  pairMean,
  pairSums,
  type Weighted,
  weightedMean,
  weightInput
} from "./pairs.ts"

export interface OrpoSettings extends Weighted {
  /** Weight of the odds ratio, > 0; default 0.1. */
  readonly lambda?: number
}

const mostLogprob = -1e-6

/** log(p / (1 - p)) of log p <= 0. */
const logOdds = (logp: Tensor): Tensor => {
  const held = min(logp, mostLogprob)
  return sub(held, log(neg(expm1(held))))
}

/**
 * Batch tensors: `chosenTokens`; `weights` [rows] where given. Logs: of pairs (rewards are lambda x mean logp, as TRL's),
 * `nll_loss`, `log_odds_chosen` (mean log odds ratio), `log_odds_ratio` (mean of its log sigmoid).
 */
export const orpo = (settings: OrpoSettings = {}): TokenObjective => {
  const { lambda = 0.1 } = settings
  const name = `orpo(${lambda}, ${settings.weights ?? "equal"})`
  if (!(lambda > 0)) throw new RangeError(`${name}: lambda must be > 0`)
  return {
    name,
    groupSize: 2,
    inputs: { ...chosenTokens, ...weightInput(settings) },
    build: (outputs, inputs) => {
      const means = onBoth((sum, n) => div(sum!, n!), pairSums(outputs.logprobs, outputs), pairLengths(outputs))
      const ratio = sub(logOdds(means.chosen), logOdds(means.rejected))
      const fit = logSigmoid(ratio)
      const nll = chosenNll(name, outputs, inputs)
      return {
        loss: add(nll, mul(weightedMean(name, neg(fit), settings, outputs, inputs), lambda)),
        logs: {
          ...pairLogs(
            onBoth((logp) => mul(logp!, lambda), means),
            outputs
          ),
          nll_loss: nll,
          log_odds_chosen: pairMean(stopGradient(ratio), outputs),
          log_odds_ratio: pairMean(stopGradient(fit), outputs)
        }
      }
    }
  }
}
