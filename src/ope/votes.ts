/**
 * What votes say of a response, and what a slate's responses earn (POPE, arXiv 2509.19333, eqs 3, 4, 8, 16; reconstructed:
 * the paper's formulas are not readable, its sentences are).
 *
 *     collaborative utility   r = sum_k v_k u_k,  v_k = h_k / sum_j h_j        u = p (prob), log p (logprob)
 *                             r = mean_k v_k      (label: plain off-policy evaluation of the votes themselves)
 *     diversity               d_k = -log p_k      (soft-entropy: E_{a ~ pi0}[(pi / pi0)(-log pi)] is the entropy of pi)
 *                             d_k = -p_k log p_k  (p-log-p: the entropy mass on the set itself)
 *     reward of response k    r_k = scale v_k u_k + lambda d_k,    reward of the slate: mean over k
 *
 * with scale = K for slate-normalised votes, so that the mean is the sum above, and 1 otherwise.
 */

export const voteScales = ["slate-normalised", "min-max", "raw", "rate", "relevance"] as const
/**
 * slate-normalised: h / sum of the slate's h (uniform where all are 0); min-max: (h - min) / (max - min) in the slate (1/2
 * where all are equal); raw: h; rate: h / exposure, what places in the slate cannot distort; relevance: not votes but the
 * response's relevance, as it is. Whoever reads a log gives it in the place of votes.
 */
export type VoteScale = (typeof voteScales)[number]

export const utilities = ["prob", "logprob", "label"] as const
export type Utility = (typeof utilities)[number]

export const diversities = ["soft-entropy", "p-log-p"] as const
export type DiversityForm = (typeof diversities)[number]

/**
 * The votes of a slate on a scale. Throws a RangeError for no votes, for negative and not finite ones, and for `rate`
 * without exposures.
 */
export const scaleVotes = (
  scale: VoteScale,
  votes: ReadonlyArray<number>,
  exposure?: ReadonlyArray<number>
): ReadonlyArray<number> => {
  if (votes.length === 0) throw new RangeError("a slate without responses has no votes")
  for (const vote of votes) {
    if (!(Number.isFinite(vote) && vote >= 0)) {
      throw new RangeError(
        `votes must be finite and at least 0, not ${vote}; subtract down-votes before, and floor at 0`
      )
    }
  }
  const [low, high] = [Math.min(...votes), Math.max(...votes)]
  switch (scale) {
    case "slate-normalised": {
      const sum = votes.reduce((total, vote) => total + vote, 0)
      return votes.map((vote) => (sum === 0 ? 1 / votes.length : vote / sum))
    }
    case "min-max":
      return votes.map((vote) => (high === low ? 0.5 : (vote - low) / (high - low)))
    case "raw":
    case "relevance":
      return votes
    case "rate":
      if (exposure === undefined || exposure.length !== votes.length) {
        throw new RangeError(
          `votes on the scale \`rate\` need an exposure each: [${votes.length}] votes, [${exposure?.length ?? 0}] exposures`
        )
      }
      return votes.map((vote, k) => vote / exposure[k]!)
  }
}

export interface RewardSettings {
  readonly cu: Utility
  readonly votes: VoteScale
  readonly diversity: DiversityForm
  /** Weight of the diversity; 0 leaves it out. */
  readonly lambda: number
}

/** Throws a RangeError where the votes could not matter: the mean of slate-normalised votes is always 1/K. */
export const checkReward = ({ cu, votes }: Pick<RewardSettings, "cu" | "votes">): void => {
  if (cu === "label" && votes === "slate-normalised") {
    throw new RangeError(
      "cu `label` with `slate-normalised` votes rewards every slate with exactly 1/K, whatever the votes; take `rate`, `min-max`, `raw` or `relevance`"
    )
  }
}

/** By how much scaled votes are multiplied, so that the mean over a slate of K is the sum that eq. 3 means. */
export const voteFactor = (votes: VoteScale, size: number): number => (votes === "slate-normalised" ? size : 1)

/** The reward of a response with (scaled) vote v and log-propensity log p in a slate of `size`. */
export const responseReward = (
  { cu, diversity, lambda, votes }: RewardSettings,
  vote: number,
  logp: number,
  size: number
): number => {
  const utility = cu === "label" ? 1 : cu === "prob" ? Math.exp(logp) : logp
  const spread = diversity === "soft-entropy" ? -logp : -logp * Math.exp(logp)
  return voteFactor(votes, size) * vote * utility + (lambda === 0 ? 0 : lambda * spread)
}
