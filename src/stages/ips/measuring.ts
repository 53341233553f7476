/**
 * POPE's training measured on held-out slates: the policy's value there by three estimators, of which at least two are not the one
 * that is trained, how much of the log stands behind them, and whether the policy has come to tell what people voted for.
 *
 *     eval/ope/ips_clipped, eval/ope/snips, eval/ope/dr      `docs/ope.md`; dr with the fitted model of votes
 *     eval/log_ratio/margin = top - bottom                   mean log p / p0 of the most- less that of the least-voted
 *
 * Slates are renormalised as in training: over their own responses, whatever a world's truth knows besides.
 */
import { Effect } from "effect"
import type { LoggedSlate } from "../../data/records.ts"
import type { Refusal } from "../../dsl/Pipeline.ts"
import type * as PolicyModel from "../../models/Policy.ts"
import { type EstimatorSettings, valueOf } from "../../ope/estimators.ts"
import { makeRounds, type OpeSettings, type ScoredSlate } from "../../ope/rounds.ts"
import { scaleVotes } from "../../ope/votes.ts"
import { weightReport } from "../../ope/weights.ts"
import { type KeepingParams, keepingRefusals } from "../keeping.ts"
import { logRatiosOf } from "./report.ts"
import { type OpeParams, opeRefusals, refusing, scoredSlates, slateScorer, UnusableLog, unscored } from "./settings.ts"

export const evaluated = {
  "eval/ope/ips_clipped": "higher",
  "eval/ope/snips": "higher",
  "eval/ope/dr": "higher",
  "eval/ope/ess_share": "higher",
  "eval/log_ratio/mean": "none",
  "eval/log_ratio/top": "higher",
  "eval/log_ratio/bottom": "lower",
  "eval/log_ratio/margin": "higher",
  "eval/kept_step": "none"
} as const

/** What the best policy may be kept by. */
export const keptBy = [
  "eval/ope/ips_clipped",
  "eval/ope/snips",
  "eval/ope/dr",
  "eval/log_ratio/top",
  "eval/log_ratio/margin"
] as const

/** What the parameters of the stage refuse, under a pipeline's section. */
export const ipsRefusals = (section: string, params: OpeParams & KeepingParams): ReadonlyArray<Refusal> => [
  ...opeRefusals(section, params),
  ...keepingRefusals(params).map((refusal) => ({ ...refusal, path: `${section}.${refusal.path}` }))
]

/** Slates [slates] as rounds, and the log-ratios of each [slates][places]. */
const roundsOf = (slates: ReadonlyArray<ScoredSlate>, params: OpeParams) => {
  const settings: OpeSettings = { ...params, weighting: params.weights, model: "fitted" }
  const { logRatios, rounds } = makeRounds(slates, settings)
  const ratios: Array<ReadonlyArray<number>> = []
  let at = 0
  for (const { texts } of slates) {
    ratios.push(logRatios.slice(at, at + texts.length))
    at += texts.length
  }
  return { ratios, rounds }
}

/** `measure` measures the policy as it is by then. What the slates lack is told at once, before any training. */
export const measureOn = Effect.fnUntraced(function* (
  policy: PolicyModel.Policy,
  slates: ReadonlyArray<LoggedSlate>,
  params: OpeParams & KeepingParams
) {
  const held = slates.map(({ truth: _, ...slate }): LoggedSlate => slate)
  const scoredBy = (scored: Parameters<typeof scoredSlates>[2]) => scoredSlates("ips", held, scored, params.votes)
  const logged = yield* scoredBy(() => unscored)
  const votes = yield* refusing("ips", "", () => {
    // Under the behaviour policy itself, of weights 1.
    roundsOf(
      logged.map((slate) => ({ ...slate, policy: slate.behaviour })),
      params
    )
    return logged.map(({ exposure, votes }) => scaleVotes(params.votes, votes, exposure))
  })
  const telling = votes.some((of) => Math.min(...of) !== Math.max(...of))
  if (params.keepBest.startsWith("eval/log_ratio/") && !telling) {
    return yield* new UnusableLog({
      stage: "ips",
      slate: "",
      detail: `\`keepBest: ${params.keepBest}\` wants held-out slates of which one response has more votes than another, and there are none`
    })
  }
  const { score } = yield* slateScorer(policy, held)
  const estimators: EstimatorSettings = { clip: params.clip, switch: params.clip, shrinkage: 100 }
  const measure = Effect.fnUntraced(function* () {
    const scores = yield* score()
    const scored = yield* scoredBy(({ prompt }, text) => scores(prompt, text))
    return yield* refusing("ips", "", (): Readonly<Record<string, number>> => {
      const { ratios, rounds } = roundsOf(scored, params)
      const { extremes, mean } = logRatiosOf(votes, ratios)
      const logs = rounds.map(({ logWeight }) => logWeight)
      return {
        "eval/ope/ips_clipped": valueOf("ips_clipped", rounds, estimators),
        "eval/ope/snips": valueOf("snips", rounds, estimators),
        "eval/ope/dr": valueOf("dr", rounds, estimators),
        "eval/ope/ess_share": weightReport(logs, params.clip).essShare,
        "eval/log_ratio/mean": mean,
        ...(extremes
          ? {
              "eval/log_ratio/top": extremes.top,
              "eval/log_ratio/bottom": extremes.bottom,
              "eval/log_ratio/margin": extremes.top - extremes.bottom
            }
          : {})
      }
    })
  })
  return { measure }
})
