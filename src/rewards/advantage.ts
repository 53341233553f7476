/**
 * Advantages of completions from their rewards, in groups of G completions of one prompt (rewards [B * G], row-major).
 *
 *     GRPO (arXiv 2402.03300):       A = (r - mean_g) / (std_g + epsilon)              `sum-then-normalize`
 *     GDPO (arXiv 2601.05242):       A^n = (r^n - mean_g) / (std_g + epsilon);  A = sum w_n A^n;
 *                                    A <- (A - mean_batch) / (std_batch + epsilon)      `normalize-then-sum`
 *     RLOO (arXiv 2402.14740):       A = r - mean of the others = G / (G - 1) (r - mean_g)
 *     Dr. GRPO (arXiv 2503.20783):   A = r - mean_g                                     scale `none`
 *     Lite-PPO (arXiv 2508.08221):   group mean, standard deviation of the batch        scale `batch`
 *     REINFORCE++ (arXiv 2501.03262): of tokens, in `returns.ts`
 *
 * Standard deviations are unbiased. Where there is no variance (std < 1e-9) advantages are exactly 0, not a difference
 * of rounding errors over epsilon. NaN rewards are unscorable: they leave the baseline and get 0. epsilon is 1e-6 in
 * verl and here, 1e-4 in TRL.
 */
import { Schema } from "effect"

/** Whether parts are summed and then normalised (GRPO), or normalised and then summed (GDPO). */
export const Aggregate = Schema.Literals(["sum-then-normalize", "normalize-then-sum"])
export type Aggregate = typeof Aggregate.Type

/** What divides the centred reward. */
export const AdvantageScale = Schema.Literals(["group", "batch", "none"])
export type AdvantageScale = typeof AdvantageScale.Type

/** Below this a standard deviation is none. */
const noVariance = 1e-9

export interface Moments {
  readonly count: number
  readonly mean: number
  /** Unbiased; 0 for fewer than two values. */
  readonly std: number
}

/** Mean and unbiased standard deviation of values[from, to), NaN left out. */
export const moments = (values: ArrayLike<number>, from = 0, to = values.length): Moments => {
  let count = 0
  let sum = 0
  for (let i = from; i < to; i++) {
    if (Number.isNaN(values[i]!)) continue
    count++
    sum += values[i]!
  }
  const mean = count === 0 ? 0 : sum / count
  let squares = 0
  for (let i = from; i < to; i++) if (!Number.isNaN(values[i]!)) squares += (values[i]! - mean) ** 2
  return { count, mean, std: count < 2 ? 0 : Math.sqrt(squares / (count - 1)) }
}

const checkGroups = (length: number, groupSize: number) => {
  if (!Number.isInteger(groupSize) || groupSize < 1 || length % groupSize !== 0) {
    throw new RangeError(`rewards [${length}] are no whole groups of [${groupSize}]`)
  }
}

/** (value - mean) / (std + epsilon); 0 for NaN, and where there is no variance. */
export const normalise = (value: number, { mean, std }: Moments, epsilon: number) =>
  Number.isNaN(value) || std < noVariance ? 0 : (value - mean) / (std + epsilon)

/** GRPO's advantages (or Dr. GRPO's, or Lite-PPO's, by `scale`): [B * G]. */
export const groupAdvantages = (
  rewards: ArrayLike<number>,
  options: { readonly groupSize: number; readonly epsilon: number; readonly scale?: AdvantageScale }
): Float64Array => {
  const { groupSize, epsilon, scale = "group" } = options
  checkGroups(rewards.length, groupSize)
  const batch = moments(rewards)
  const out = new Float64Array(rewards.length)
  for (let from = 0; from < rewards.length; from += groupSize) {
    const group = moments(rewards, from, from + groupSize)
    if (group.std < noVariance) continue
    for (let i = from; i < from + groupSize; i++) {
      out[i] =
        scale === "group"
          ? normalise(rewards[i]!, group, epsilon)
          : Number.isNaN(rewards[i]!)
            ? 0
            : (rewards[i]! - group.mean) / (scale === "batch" ? batch.std + epsilon : 1)
    }
  }
  return out
}

/** Whether every group has a deviation to learn from, group by group: [B]. */
export const groupsVary = (rewards: ArrayLike<number>, groupSize: number): ReadonlyArray<boolean> => {
  checkGroups(rewards.length, groupSize)
  return Array.from(
    { length: rewards.length / groupSize },
    (_, g) => moments(rewards, g * groupSize, (g + 1) * groupSize).std >= noVariance
  )
}

/** RLOO's advantages: each reward less the mean of its group's other scorable rewards: [B * G]. */
export const leaveOneOutAdvantages = (rewards: ArrayLike<number>, groupSize: number): Float64Array => {
  checkGroups(rewards.length, groupSize)
  const out = new Float64Array(rewards.length)
  for (let from = 0; from < rewards.length; from += groupSize) {
    const { count, mean, std } = moments(rewards, from, from + groupSize)
    if (count < 2 || std < noVariance) continue
    for (let i = from; i < from + groupSize; i++) {
      if (!Number.isNaN(rewards[i]!)) out[i] = (count / (count - 1)) * (rewards[i]! - mean)
    }
  }
  return out
}

/** One reward of several, with its weight: values [B * G]. */
export interface WeightedRewards {
  readonly weight: number
  readonly values: ArrayLike<number>
}

/**
 * GDPO's advantages: every reward normalised in its group, summed by weight, normalised over the batch: [B * G].
 * A reward that is constant in a group adds nothing there; a completion no reward of which is scorable gets 0 and stays
 * out of the batch's moments.
 */
export const decomposedAdvantages = (
  rewards: ReadonlyArray<WeightedRewards>,
  options: { readonly groupSize: number; readonly epsilon: number }
): Float64Array => {
  const counted = rewards.filter(({ weight }) => weight !== 0)
  const length = rewards[0]?.values.length ?? 0
  const sum = new Float64Array(length)
  const scorable = new Uint8Array(length)
  for (const { weight, values } of counted) {
    if (values.length !== length)
      throw new RangeError(`rewards of different length: [${length}] and [${values.length}]`)
    const own = groupAdvantages(values, options)
    for (let i = 0; i < length; i++) {
      if (Number.isNaN(values[i]!)) continue
      scorable[i] = 1
      sum[i]! += weight * own[i]!
    }
  }
  for (let i = 0; i < length; i++) if (!scorable[i]) sum[i] = Number.NaN
  const batch = moments(sum)
  return sum.map((value) => normalise(value, batch, options.epsilon))
}

/** An advantage per answer. */
export type RowAdvantage =
  | { readonly kind: "group" | "batch"; readonly epsilon: number }
  | { readonly kind: "centred" | "rloo" }

/** Advantages of rewards [B * G] by their kind: [B * G]. */
export const rowAdvantages = (rewards: ArrayLike<number>, groupSize: number, how: RowAdvantage): Float64Array => {
  switch (how.kind) {
    case "group":
    case "batch":
      return groupAdvantages(rewards, { groupSize, epsilon: how.epsilon, scale: how.kind })
    case "centred":
      return groupAdvantages(rewards, { groupSize, epsilon: 0, scale: "none" })
    case "rloo":
      return leaveOneOutAdvantages(rewards, groupSize)
  }
}
