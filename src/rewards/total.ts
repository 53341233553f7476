/**
 * The reward of a completion from its parts: r = max(sum of value * weight, 0).
 *
 * With OP-GRPO's parts and weights (coverage .3, uniqueness .3, format .1, tag 1) it lies in [0, 2]. A part whose value
 * is NaN could not be scored and is left out; if no weighted part could be scored, the reward is NaN and the completion
 * is kept out of its group (`advantage.ts`).
 */
import type { AnyRewardPart, ParamsOf, RewardInput } from "./part.ts"

/** One part of one completion's reward: what `reward_parts` stores. */
export interface PartRow {
  readonly name: string
  readonly value: number
  readonly weight: number
}

/** Sum of value * weight over the scorable parts, at least 0; NaN if nothing with a weight was scorable. */
export const totalReward = (rows: ReadonlyArray<PartRow>): number => {
  let sum = 0
  let weighted = 0
  let scored = 0
  for (const { value, weight } of rows) {
    if (weight === 0) continue
    weighted++
    if (Number.isNaN(value)) continue
    scored++
    sum += value * weight
  }
  return weighted > 0 && scored === 0 ? Number.NaN : Math.max(sum, 0)
}

/** Scores every part: rows in the order of the parts, followed by the unshaped rates with weight 0; and the reward. */
export const scoreParts = <const Parts extends ReadonlyArray<AnyRewardPart>>(
  parts: Parts,
  params: ParamsOf<Parts>,
  input: RewardInput
): { readonly reward: number; readonly rows: ReadonlyArray<PartRow> } => {
  const byName: Readonly<Record<string, { readonly weight: number } | undefined>> = params
  const rows: Array<PartRow> = []
  const rates: Array<PartRow> = []
  for (const part of parts) {
    const own = byName[part.name]
    if (own === undefined) throw new RangeError(`reward part "${part.name}" has no parameters`)
    const { value, rates: unshaped } = part.score(input, own as never)
    rows.push({ name: part.name, value, weight: own.weight })
    for (const [name, rate] of Object.entries(unshaped ?? {})) rates.push({ name, value: rate, weight: 0 })
  }
  return { reward: totalReward(rows), rows: [...rows, ...rates] }
}
