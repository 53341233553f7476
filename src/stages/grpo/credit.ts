/**
 * From the rewards of a step to the advantages of its answers: what is taken off the reward (overlong answers, a KL), then
 * the advantage that the parameters name, per answer or per token.
 */
import { decomposedAdvantages, rowAdvantages } from "../../rewards/advantage.ts"
import { overlongPenalty } from "../../rewards/overlong.ts"
import { centredReturns, returnsToGo, whiten } from "../../rewards/returns.ts"
import type { Score } from "../scoring.ts"
import type { GrpoParams } from "./params.ts"

export interface Credit {
  /** One per answer, or one per token of each answer: what the objective is given. */
  readonly advantages: ReadonlyArray<number> | ReadonlyArray<Float64Array>
  /** One per answer: of tokens their mean. */
  readonly perAnswer: ReadonlyArray<number>
}

/** The reward lost by an answer of so many tokens. */
export const overlongOf = ({ maxNewTokens, overlong }: GrpoParams, tokens: number): number =>
  overlong.buffer === 0 ? 0 : overlongPenalty(tokens, maxNewTokens, overlong.buffer, overlong.weight)

const sum = (values: ArrayLike<number>): number => Array.prototype.reduce.call(values, (a, b) => a + b, 0) as number

/**
 * Advantages of the answers of whole groups. `kl` are estimates per token where the KL is in the reward; an answer that no
 * part could score has none, and advantage 0.
 */
export const assignCredit = (
  params: GrpoParams,
  scores: ReadonlyArray<Score>,
  lengths: ReadonlyArray<number>,
  kl: ReadonlyArray<Float64Array> | undefined
): Credit => {
  const { advantage, groupSize, klCoefficient } = params
  const overlong = lengths.map((length) => overlongOf(params, length))
  const totals = scores.map(({ reward }, row) => reward + overlong[row]!)
  const charged = kl === undefined ? totals : totals.map((total, row) => total - klCoefficient * sum(kl[row]!))
  const perRow = (found: Float64Array): Credit => ({ advantages: Array.from(found), perAnswer: Array.from(found) })
  const perToken = (found: ReadonlyArray<Float64Array>): Credit => ({
    advantages: found,
    perAnswer: found.map((values) => (values.length === 0 ? 0 : sum(values) / values.length))
  })
  switch (advantage.kind) {
    case "group":
      if (params.reward.aggregate === "normalize-then-sum") {
        const parts = (scores[0]?.rows ?? []).map(({ weight }, p) => ({
          weight,
          values: scores.map(({ rows }) => rows[p]!.value)
        }))
        const late =
          params.overlong.buffer === 0
            ? []
            : [{ weight: 1, values: totals.map((total, row) => (Number.isNaN(total) ? total : overlong[row]!)) }]
        return perRow(decomposedAdvantages([...parts, ...late], { groupSize, epsilon: advantage.epsilon }))
      }
      return perRow(rowAdvantages(charged, groupSize, advantage))
    case "batch":
    case "centred":
    case "rloo":
      return perRow(rowAdvantages(charged, groupSize, advantage))
    case "reinforce++": {
      const penalties = kl?.map((row) => row.map((value) => klCoefficient * value))
      const returns = returnsToGo(totals, lengths, { gamma: advantage.gamma, penalties })
      return perToken(whiten(returns, advantage.epsilon))
    }
    case "reinforce++-baseline":
      return perToken(whiten(centredReturns(charged, groupSize, lengths), advantage.epsilon))
  }
}
