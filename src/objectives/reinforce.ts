/**
 * REINFORCE (Williams, 1992): the log-probability of what was drawn, weighted by its advantage.
 *
 *   l = -A logp
 *
 * Its gradient is right only on policy: nothing corrects for updates since the answers were drawn (use one update a step,
 * or importance weights). With the mean of the other answers as baseline it is RLOO (2402.14740); with returns-to-go,
 * whitened over the tokens of the batch, REINFORCE++ (2501.03262), which adds PPO's clip: `grpo` with those advantages.
 */
import { mul, neg } from "../tensor/ops/elementwise.ts"
import type { TokenObjective } from "./Objective.ts"
import { type PolicyGradientSettings, policyGradient } from "./policyGradient.ts"

export const reinforce = (settings: PolicyGradientSettings = {}): TokenObjective =>
  policyGradient("reinforce", settings, ({ advantages, logprobs }) => ({
    loss: neg(mul(advantages, logprobs)),
    logs: {}
  }))
