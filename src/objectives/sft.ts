/**
 * Supervised fine-tuning: negative log-likelihood of the demonstrated answer, prompts not scored.
 *
 *   loss = - sum(mask * logp) / tokens of the batch
 *
 * Logs: `entropy` (mean over completion tokens, nats).
 */

import { stopGradient } from "../tensor/ops/control.ts"
import { neg } from "../tensor/ops/elementwise.ts"
import { type Aggregation, aggregate, tokenMean } from "./aggregate.ts"
import type { TokenObjective } from "./Objective.ts"

export interface SftSettings {
  /** Default `token-mean`. */
  readonly aggregation?: Aggregation
}

export const sft = ({ aggregation = "token-mean" }: SftSettings = {}): TokenObjective => ({
  name: `sft(${aggregation})`,
  inputs: {},
  build: (outputs) => ({
    loss: aggregate(aggregation, neg(outputs.logprobs), outputs),
    logs: { entropy: tokenMean(stopGradient(outputs.entropies), outputs) }
  })
})
