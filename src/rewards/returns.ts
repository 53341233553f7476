/**
 * Advantages of tokens: REINFORCE++ (Hu et al., arXiv 2501.03262) and its variant with a baseline, as verl has them.
 *
 *     reward of a token  r_t = -penalty_t, and at the row's last token the row's reward beside
 *     return             R_t = sum over u >= t of gamma^(u - t) r_u
 *     REINFORCE++           A_t = (R_t - mean) / (std + epsilon) over all tokens of the batch
 *     REINFORCE++-baseline  the same of (reward - mean of its group), for every token of the row
 *
 * The penalty is a KL coefficient times an estimate of the token's KL. There is no critic: with gamma 1 and no penalty every
 * token of a row has the row's reward, and a long row counts by its tokens in mean and deviation. Standard deviations are
 * unbiased, and advantages 0 where there is none; verl divides by sqrt(variance + 1e-8). Rows whose reward is NaN (nothing
 * could score them) leave mean and deviation, and get 0.
 */
import { groupAdvantages, moments, normalise } from "./advantage.ts"

/** Returns of every token of rows: `rewards` [rows], `lengths` [rows] in tokens, `penalties` by row and token. */
export const returnsToGo = (
  rewards: ArrayLike<number>,
  lengths: ReadonlyArray<number>,
  options: { readonly gamma: number; readonly penalties?: ReadonlyArray<ArrayLike<number>> | undefined }
): ReadonlyArray<Float64Array> => {
  if (rewards.length !== lengths.length) {
    throw new RangeError(`rewards [${rewards.length}] for rows [${lengths.length}]`)
  }
  return lengths.map((length, row) => {
    const penalties = options.penalties?.[row]
    if (penalties !== undefined && penalties.length !== length) {
      throw new RangeError(`row ${row}: penalties [${penalties.length}] for tokens [${length}]`)
    }
    const out = new Float64Array(length)
    let later = 0
    for (let t = length - 1; t >= 0; t--) {
      later = (t === length - 1 ? rewards[row]! : 0) - (penalties?.[t] ?? 0) + options.gamma * later
      out[t] = later
    }
    return out
  })
}

/** Values of tokens less their mean, over their deviation, all rows together; NaN is left out and becomes 0. */
export const whiten = (rows: ReadonlyArray<Float64Array>, epsilon: number): ReadonlyArray<Float64Array> => {
  const all = new Float64Array(rows.reduce((sum, { length }) => sum + length, 0))
  let at = 0
  for (const row of rows) {
    all.set(row, at)
    at += row.length
  }
  const whole = moments(all)
  return rows.map((row) => row.map((value) => normalise(value, whole, epsilon)))
}

/** Each reward less the mean of its group, for every token of its row: what REINFORCE++-baseline whitens. */
export const centredReturns = (
  rewards: ArrayLike<number>,
  groupSize: number,
  lengths: ReadonlyArray<number>
): ReadonlyArray<Float64Array> => {
  const centred = groupAdvantages(rewards, { groupSize, epsilon: 0, scale: "none" })
  return lengths.map((length, row) =>
    new Float64Array(length).fill(Number.isNaN(rewards[row]!) ? Number.NaN : centred[row]!)
  )
}
