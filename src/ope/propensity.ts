/**
 * What counts as the probability of a response when policies are compared on a log (POPE, arXiv 2509.19333; `docs/ope.md`).
 *
 *     sequence           log p = sum_t log pi(a_t | x, a_<t)          the probability itself
 *     length-normalised  log p = sum_t log pi(a_t | ...) / T          POPE's words: "exponentiating the average token log-likelihood"
 *     pool-normalised    length-normalised, then renormalised over the pool of the query
 *
 * Only `sequence` is a probability of the response: the other two are no densities over all responses, so a ratio of
 * them is not the sampling ratio and an estimate with it is biased, however long the log. T is counted by each policy's
 * own tokenizer.
 */

export const propensities = ["sequence", "length-normalised", "pool-normalised"] as const
export type Propensity = (typeof propensities)[number]

/** A response under one policy. */
export interface Scored {
  /** Natural logarithm of the probability of the whole response, <= 0. */
  readonly logprob: number
  /** Its tokens under that policy's tokenizer, the end token included; >= 1. */
  readonly tokens: number
}

/** log sum_k exp(x_k); -Infinity without values. */
export const logSumExp = (values: ReadonlyArray<number>): number => {
  let top = Number.NEGATIVE_INFINITY
  for (const value of values) top = Math.max(top, value)
  if (!Number.isFinite(top)) return top
  let sum = 0
  for (const value of values) sum += Math.exp(value - top)
  return top + Math.log(sum)
}

/**
 * log p of each response; `pool` are the distinct responses that `pool-normalised` sums over (default: the responses).
 * Throws a RangeError where a log-probability is not finite or a response has no token.
 */
export const logPropensities = (
  kind: Propensity,
  responses: ReadonlyArray<Scored>,
  pool: ReadonlyArray<Scored> = responses
): ReadonlyArray<number> => {
  for (const { logprob, tokens } of [...responses, ...pool]) {
    if (!Number.isFinite(logprob)) {
      throw new RangeError(
        `a response has log-probability ${logprob}: a policy that cannot have given it says nothing of it; leave it out`
      )
    }
    if (!(tokens >= 1)) throw new RangeError(`a response has ${tokens} tokens; its end token is one at least`)
  }
  if (kind === "sequence") return responses.map(({ logprob }) => logprob)
  const mean = ({ logprob, tokens }: Scored) => logprob / tokens
  if (kind === "length-normalised") return responses.map(mean)
  const mass = logSumExp(pool.map(mean))
  return responses.map((response) => mean(response) - mass)
}
