/**
 * The true value of a policy where everything is known: all that may be answered (the pool) and how people vote. What
 * estimates are held against.
 *
 *     V = sum over slates S of pi(S) mean_k E[r_k | S]                                        (joint)
 *     V = mean_k sum over slates S of pi(a_k) prod_{j != k} pi0(a_j) E[r_k | S]               (independent)
 *
 * Votes: each of `voters` people belongs to a group by its share, looks at place k with probability positionBias^k and
 * approves of what it looks at with its group's probability. Expected votes are exact on every scale but `min-max`; a share
 * of a slate's votes, E[h_k / H], by the distribution of everybody else's total: with n voters, X one voter's votes and H'
 * the total of the n - 1 others,
 *
 *     E[h_k / H; H > 0] = n sum_g share_g P_g(X_k = 1) E_g[ 1 / (1 + sum_{j != k} X_j + H') ],    plus P(H = 0) / K
 *
 * A policy may put probability on what is not in the pool; that counts as worth nothing, as in every importance estimate.
 */
import { type RewardSettings, responseReward, type VoteScale } from "./votes.ts"
import type { Weighting } from "./weights.ts"

export interface People {
  readonly voters: number
  readonly positionBias: number
  /** By group; sums to 1. */
  readonly shares: ReadonlyArray<number>
}

/** Convolution of two distributions over 0, 1, 2, ... */
const convolve = (a: ReadonlyArray<number>, b: ReadonlyArray<number>): Array<number> => {
  const out = new Array<number>(a.length + b.length - 1).fill(0)
  a.forEach((x, i) => {
    b.forEach((y, j) => {
      out[i + j]! += x * y
    })
  })
  return out
}

/** The distribution of the number of successes among independent trials. */
const successes = (trials: ReadonlyArray<number>): ReadonlyArray<number> =>
  trials.reduce<ReadonlyArray<number>>((before, p) => convolve(before, [1 - p, p]), [1])

/**
 * Expected votes of every place of a slate, on a scale; null for `min-max`, whose expectation is not computed, and for
 * `relevance`, of which nothing is known.
 * `approvals` [places][groups]: probability of a vote by someone who looks.
 */
export const expectedVotes = (
  scale: VoteScale,
  people: People,
  approvals: ReadonlyArray<ReadonlyArray<number>>
): ReadonlyArray<number> | null => {
  const { positionBias, shares, voters } = people
  const approval = approvals.map((of) => of.reduce((sum, p, g) => sum + shares[g]! * p, 0))
  if (scale === "min-max" || scale === "relevance") return null
  if (scale === "rate") return approval
  if (scale === "raw") return approval.map((p, k) => voters * positionBias ** k * p)
  const size = approvals.length
  // [groups][places]
  const votes = shares.map((_, g) => approvals.map((of, k) => positionBias ** k * of[g]!))
  const one = new Array<number>(size + 1).fill(0)
  votes.forEach((trials, g) => {
    successes(trials).forEach((p, total) => {
      one[total]! += shares[g]! * p
    })
  })
  let others: ReadonlyArray<number> = [1]
  for (let v = 1; v < voters; v++) others = convolve(others, one)
  const nobody = one[0]! ** voters
  return approvals.map((_, k) => {
    let expected = 0
    votes.forEach((trials, g) => {
      const rest = convolve(successes(trials.toSpliced(k, 1)), others)
      const inverse = rest.reduce((sum, p, total) => sum + p / (1 + total), 0)
      expected += shares[g]! * trials[k]! * inverse
    })
    return voters * expected + nobody / size
  })
}

export interface KnownSlates extends People {
  /** Responses of a slate. */
  readonly size: number
  /** Whether a slate may hold a response twice. */
  readonly replacement: boolean
  /** [pool][groups] */
  readonly approvals: ReadonlyArray<ReadonlyArray<number>>
}

/** Slates that are enumerated at most. */
export const mostSlates = 20_000

/** How many slates there are: pool^size, or pool! / (pool - size)! without replacement. */
export const slateCount = ({ approvals, replacement, size }: KnownSlates): number =>
  Array.from({ length: size }, (_, k) => approvals.length - (replacement ? 0 : k)).reduce((a, b) => a * b, 1)

/**
 * The value of the policy with probabilities exp(policy) on the pool [pool], by enumeration; null where it cannot be
 * told: `min-max` votes, `relevance`, more than 20,000 slates, and per-response weights on slates without replacement (whose places
 * are not independent). `propensities` [pool] are what rewards are made of, where that is not the probability itself.
 */
export const enumeratedValue = (
  known: KnownSlates,
  reward: RewardSettings,
  weighting: Weighting,
  policy: ReadonlyArray<number>,
  behaviour: ReadonlyArray<number>,
  propensities: ReadonlyArray<number> = policy
): number | null => {
  const { approvals, replacement, size } = known
  if (reward.votes === "min-max" || reward.votes === "relevance" || (weighting === "independent" && !replacement))
    return null
  const p = policy.map(Math.exp)
  const rewardOf = (answer: number, vote: number) => responseReward(reward, vote, propensities[answer]!, size)
  if (reward.votes !== "slate-normalised" && replacement) {
    // What a response earns does not depend on the others: the sum over slates is a product of sums.
    const mass = p.reduce((sum, x) => sum + x, 0)
    const rest = weighting === "joint" ? mass ** (size - 1) : 1
    let value = 0
    for (let k = 0; k < size; k++) {
      approvals.forEach((of, answer) => {
        const places = Array.from({ length: k + 1 }, () => of)
        const [vote] = expectedVotes(reward.votes, known, places)!.slice(-1)
        value += (rest * p[answer]! * rewardOf(answer, vote!)) / size
      })
    }
    return value
  }
  if (slateCount(known) > mostSlates) return null
  const p0 = behaviour.map(Math.exp)
  let value = 0
  const visit = (slate: ReadonlyArray<number>, chance: number, logged: number, left: number): void => {
    if (slate.length === size) {
      const votes = expectedVotes(
        reward.votes,
        known,
        slate.map((answer) => approvals[answer]!)
      )!
      slate.forEach((answer, k) => {
        const weight = weighting === "joint" ? chance : (logged * p[answer]!) / p0[answer]!
        value += (weight * rewardOf(answer, votes[k]!)) / size
      })
      return
    }
    approvals.forEach((_, answer) => {
      if (!replacement && slate.includes(answer)) return
      const drawn = replacement ? p[answer]! : p[answer]! / Math.max(left, p[answer]!)
      visit([...slate, answer], chance * drawn, logged * p0[answer]!, left - p[answer]!)
    })
  }
  visit([], 1, 1, 1)
  return value
}
