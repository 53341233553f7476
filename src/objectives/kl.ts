/**
 * Estimates, token by token, of the KL divergence from the policy to a reference (Schulman, "Approximating KL divergence",
 * joschu.net/blog/kl-approx.html), from tokens that the policy drew. With d = logp - ref:
 *
 *     k1 = d            unbiased, may be negative, much variance
 *     k2 = d^2 / 2      biased as a value, little variance
 *     k3 = exp(-d) + d - 1   unbiased, never negative, little variance: GRPO's
 *
 * As a *loss* their gradients are other things: on policy that of k1 has mean 0 (it penalises nothing), that of k2 is the
 * gradient of the reverse KL, that of k3 one of the forward KL. Multiplied by the ratio to the sampling policy, gradient
 * and all (`corrected`, DeepSeek-V3.2, 2512.02556), the gradient of k3 becomes that of the reverse KL, off policy too.
 * Subtracted from the *reward*, k1 is the KL penalty of RLHF.
 *
 * verl clamps ref - logp to +-20 and k3 to +-10; here nothing is clamped, and a loss that overflows is an error.
 */
import { expm1, mul, square, sub } from "../tensor/ops/elementwise.ts"
import type { Tensor } from "../tensor/Tensor.ts"

export const klEstimators = ["k1", "k2", "k3"] as const
export type KlEstimator = (typeof klEstimators)[number]

/** The estimate of every token, [tokens], of log-probabilities of policy and reference [tokens]. */
export const klOf = (estimator: KlEstimator, logprobs: Tensor, reference: Tensor): Tensor => {
  const difference = sub(reference, logprobs)
  switch (estimator) {
    case "k1":
      return sub(logprobs, reference)
    case "k2":
      return mul(square(difference), 0.5)
    case "k3":
      return sub(expm1(difference), difference)
  }
}

/** The same of two numbers: for penalties in the reward. */
export const klValue = (estimator: KlEstimator, logprob: number, reference: number): number => {
  const difference = reference - logprob
  switch (estimator) {
    case "k1":
      return -difference
    case "k2":
      return 0.5 * difference * difference
    case "k3":
      return Math.expm1(difference) - difference
  }
}
