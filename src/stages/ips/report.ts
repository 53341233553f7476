/** What is said of importance weights in training, of a batch and of held-out slates. */
import { responseReward } from "../../ope/votes.ts"
import { logWeights, weightOf, weightReport } from "../../ope/weights.ts"
import type { Prepared } from "./prepared.ts"
import type { OpeParams } from "./settings.ts"

const mean = (values: ReadonlyArray<number>) => values.reduce((sum, value) => sum + value, 0) / values.length

/** Mean log (p / p0) of all responses, and of the most- and the least-voted ones where there are such. */
export interface LogRatios {
  readonly mean: number
  readonly extremes: { readonly top: number; readonly bottom: number } | undefined
}

/**
 * Which responses have become likelier than they were when logged: votes and log-ratios [slates][places]. Slates of equal votes
 * have no most- and no least-voted response; if there are only such, there are no extremes.
 */
export const logRatiosOf = (
  votes: ReadonlyArray<ReadonlyArray<number>>,
  ratios: ReadonlyArray<ReadonlyArray<number>>
): LogRatios => {
  const extreme = (pick: (...votes: ReadonlyArray<number>) => number) =>
    votes.flatMap((of, i) => {
      const wanted = pick(...of)
      return Math.min(...of) === Math.max(...of) ? [] : ratios[i]!.filter((_, k) => of[k] === wanted)
    })
  const [top, bottom] = [extreme(Math.max), extreme(Math.min)]
  return {
    mean: mean(ratios.flat()),
    extremes: top.length === 0 ? undefined : { top: mean(top), bottom: mean(bottom) }
  }
}

/** What a batch's weights are like, and which responses have become likelier. */
export const batchReport = (
  batch: ReadonlyArray<Prepared>,
  logp: ReadonlyArray<ReadonlyArray<number>>,
  params: OpeParams
): Readonly<Record<string, number>> => {
  const logs = batch.flatMap((slate, i) => logWeights(params.weights, params.set, logp[i]!, slate.behaviour))
  const { clipped, ess, essShare, max, overflowed } = weightReport(logs, params.clip)
  const ratios = batch.map(({ behaviour }, i) => logp[i]!.map((x, k) => x - behaviour[k]!))
  const { extremes, mean: average } = logRatiosOf(
    batch.map(({ votes }) => votes),
    ratios
  )
  return {
    "ope/ess": ess,
    "ope/ess_share": essShare,
    "ope/max_weight": max,
    "ope/clipped": clipped,
    "ope/overflowed": overflowed,
    "log_ratio/mean": average,
    ...(extremes ? { "log_ratio/top": extremes.top, "log_ratio/bottom": extremes.bottom } : {})
  }
}

/** Sum of weights and self-normalised value of a batch, each slate's mean where weights are independent. */
export const batchTotals = (
  batch: ReadonlyArray<Prepared>,
  logp: ReadonlyArray<ReadonlyArray<number>>,
  params: OpeParams
) => {
  let [weightSum, weighted] = [0, 0]
  batch.forEach((slate, i) => {
    // Votes are scaled and multiplied already.
    const rewards = slate.votes.map((vote, k) =>
      responseReward({ ...params, votes: "raw" }, vote, logp[i]![k]!, slate.size)
    )
    const w = logWeights(params.weights, params.set, logp[i]!, slate.behaviour).map((log) =>
      Math.min(weightOf(log), params.clip)
    )
    weightSum += mean(w)
    weighted += params.weights === "joint" ? w[0]! * mean(rewards) : mean(w.map((x, k) => x * rewards[k]!))
  })
  return { weightSum, value: weighted / weightSum }
}
