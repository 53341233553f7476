/**
 * The ground of methods that learn from logged slates, on the synthetic world: who answered, who voted, what the behaviour
 * policy's odds were; and how what was learnt is judged.
 *
 *     data ─┬─> policy ─> pretrain ─> warmStart ─┬─> candidates ─────────┬─> (a method) ─> answers ─> evaluate, ope
 *          └─> slates ─┬─> references           └─> fit ─> behaviour ───┘
 *                      └─────────────────────────────────────^
 *
 * `log: candidates` is POPE's RQ1: the policy's own answers, voted on, weighted by its own odds. `log: pool` is a log of
 * somebody whose odds are known; with `fit.steps` a policy fine-tuned on the logged responses stands in for whoever that was.
 */

import { Schema } from "effect"
import type { Encoder, LoggedSlates, Policy, Situations, WorldFolder } from "overtone/artifact/kinds"
import type { Refusal } from "overtone/dsl/Pipeline"
import * as Param from "overtone/dsl/param"
import type { Ref } from "overtone/dsl/Stage"
import { BehaviourParams, behaviour } from "overtone/stages/behaviour"
import { CandidatesParams, candidates } from "overtone/stages/candidates"
import { evaluate } from "overtone/stages/evaluate"
import { EvaluateOpeParams, evaluateOpe } from "overtone/stages/evaluateOpe"
import { generate } from "overtone/stages/generate"
import { opeRefusals } from "overtone/stages/ips/settings"
import { ReferencesParams, references } from "overtone/stages/references"
import { responses } from "overtone/stages/responses"
import { SftParams, sft } from "overtone/stages/sft"
import { SlatesParams, slates } from "overtone/stages/slates"
import { type GroundParams, groundParams, layGround } from "./ground.ts"
import { votes } from "./learning.ts"
import { groundRefusals, tooLong, unmeasurable } from "./refusals.ts"

export const loggedParams = {
  ...groundParams,
  log: Param.literal(
    ["candidates", "pool"],
    "candidates",
    "who answered: the policy itself, as in POPE's RQ1, or the world's behaviour policy over a known pool"
  ),
  votes,
  slates: SlatesParams,
  testDomain: Param.optional(
    Schema.Int.check(Schema.isGreaterThanOrEqualTo(0)),
    "which of `slates.domains` is tested; the one that is trained on unless said otherwise"
  ),
  candidates: CandidatesParams,
  fit: SftParams,
  behaviour: BehaviourParams,
  references: ReferencesParams,
  ope: EvaluateOpeParams
}

export type LoggedParams = { readonly [K in keyof typeof loggedParams]: (typeof loggedParams)[K]["Type"] }

export interface Logged {
  readonly warmStart: Ref<typeof Policy>
  readonly estimator: Ref<typeof Encoder>
  readonly world: Ref<typeof WorldFolder>
  /** What is learnt from: votes and odds. */
  readonly train: Ref<typeof LoggedSlates>
  /** The same of development queries, people's votes: what a training may be measured on. */
  readonly development: () => Ref<typeof LoggedSlates>
  /** What off-policy evaluation reads: queries that nobody trained on. */
  readonly held: Ref<typeof LoggedSlates>
  /** The same queries with their most-voted answers as references. */
  readonly references: Ref<typeof Situations>
}

/** Slates of somebody else's answers: with known odds, or those of a policy fine-tuned on the log. */
const foreign = (
  p: LoggedParams,
  policy: Ref<typeof Policy>,
  made: ReturnType<typeof slates>,
  tested: Ref<typeof LoggedSlates>
) => {
  const stand =
    p.fit.steps === 0
      ? undefined
      : sft({ policy, data: responses({ slates: made.train }, {}, { node: "fit.data" }).data }, p.fit).policy
  const odds = (log: Ref<typeof LoggedSlates>) => behaviour({ slates: log, policy: stand }, p.behaviour).slates
  return {
    people: odds(made.train),
    equal: odds(made.equalVotes),
    development: () => odds(made.development),
    held: odds(tested)
  }
}

export const layLog = (p: LoggedParams): Logged => {
  const ground = layGround(p)
  const { estimator, train, warmStart } = ground
  const world = ground.world!
  const made = slates({ world }, p.slates)
  // Another domain's slates are a log of their own, so that training is shared by all that are tested.
  const elsewhere =
    p.testDomain === undefined
      ? made
      : slates({ world }, { ...p.slates, domain: p.testDomain }, { node: "slates.test" })
  const tested = elsewhere[p.evaluate.split]
  const { situations } = references({ slates: tested }, p.references)
  const base = { warmStart, estimator, world, references: situations }
  if (p.log === "candidates") {
    const own = candidates({ policy: warmStart, situations: train, world }, p.candidates)
    const { slates: held } = candidates({ policy: warmStart, situations, world }, p.candidates)
    const development = () => {
      const { situations } = references({ slates: made.development }, p.references)
      return candidates({ policy: warmStart, situations, world }, p.candidates).slates
    }
    return { ...base, train: p.votes === "equal" ? own.equalVotes : own.slates, development, held }
  }
  const { development, held, ...logged } = foreign(p, warmStart, made, tested)
  return { ...base, train: logged[p.votes], development, held }
}

/** Answers of what was learnt to the held-out queries, measured as a set, and its value by the held-out log. */
export const judged = (policy: Ref<typeof Policy>, logged: Logged, p: LoggedParams) => {
  const { estimator, held, references: situations, world } = logged
  const { completions } = generate({ policy, situations }, p.evaluate)
  return {
    policy,
    completions,
    report: evaluate({ completions, situations, estimator, world }, p.evaluate).report,
    // Reports and comparisons read what the node `evaluate` found.
    value: evaluateOpe({ slates: held, policy, completions, world }, p.ope, { node: "evaluate" }).report
  }
}

/** What the log's parameters refuse. */
export const loggedRefusals = (p: LoggedParams): ReadonlyArray<Refusal> => {
  const { data, ope, slates: made, testDomain = 0 } = p
  return [
    ...groundRefusals(p as GroundParams),
    ...unmeasurable("fit", p.fit),
    ...tooLong(p, "candidates.maxNewTokens", p.candidates.maxNewTokens),
    ...opeRefusals("ope", ope),
    ...(data.source === "world"
      ? []
      : [
          {
            path: "data.source",
            message: "these slates are the world's",
            hint: "for a log of your own take the pipeline pope-logged"
          }
        ]),
    ...(ope.split === p.evaluate.split
      ? []
      : [
          {
            path: "ope.split",
            message: `the value would be of the ${ope.split} split and the answers of ${p.evaluate.split}`,
            hint: "write the same split for both"
          }
        ]),
    ...(made.replacement || made.slateSize <= made.poolSize
      ? []
      : [
          {
            path: "slates.slateSize",
            message: `${made.slateSize} answers without replacement need a pool of as many, not ${made.poolSize}`
          }
        ]),
    ...(Math.max(made.domain, testDomain) < made.domains
      ? []
      : [{ path: "slates.domains", message: `domains count from 0, and there are ${made.domains}` }])
  ]
}
