/**
 * What is learnt from a log of slates with votes, whoever logged it: POPE (arXiv 2509.19333), its baselines, SFT on every slate's
 * top-voted response and preferences of top against bottom, or nothing. `pope` takes the world's log, `pope-logged` one's own.
 */
import type { LoggedSlates, Policy } from "overtone/artifact/kinds"
import type { Refusal } from "overtone/dsl/Pipeline"
import * as Param from "overtone/dsl/param"
import type { Ref } from "overtone/dsl/Stage"
import { IpsParams, ips } from "overtone/stages/ips"
import { ipsRefusals } from "overtone/stages/ips/measuring"
import { preferenceRefusals } from "overtone/stages/preference/measuring"
import { preferenceSources, preferences } from "overtone/stages/preferences"
import { SftParams, sft } from "overtone/stages/sft"
import { preferring, trainingParams, whereJudged } from "./dpo.ts"
import { whereMeasured } from "./ground.ts"
import { unmeasurable } from "./refusals.ts"

export const votes = Param.literal(["people", "equal"], "people", "whose votes are learnt from; equal is the control")

export const learningParams = {
  method: Param.literal(
    ["pope", "sft-top", "preference", "base"],
    "pope",
    "what is learnt from the log: POPE, SFT on the top-voted response, preferences, or nothing"
  ),
  ips: IpsParams,
  lessons: Param.struct(preferenceSources.slates, "what the votes of a slate say of its responses, for the baselines"),
  topVoted: SftParams,
  ...trainingParams
}

type LearningParams = { readonly [K in keyof typeof learningParams]: (typeof learningParams)[K]["Type"] }

/** A log that is learnt from, or measured on. */
export interface Log {
  readonly slates: Ref<typeof LoggedSlates>
  /** The same with the behaviour policy's odds, for which only POPE asks. */
  readonly weighed: () => Ref<typeof LoggedSlates>
}

/** The policy after its lessons; `development` is asked for only where a training is measured. */
export const learnt = (
  p: LearningParams,
  policy: Ref<typeof Policy>,
  { slates, weighed }: Log,
  development: () => Log
): Ref<typeof Policy> => {
  if (p.method === "base") return policy
  if (p.method === "pope") {
    const held = whereMeasured(p.ips, () => development().weighed())
    return ips({ policy, slates: weighed(), ...held }, p.ips).policy
  }
  const settings = { from: "slates", ...p.lessons } as const
  const lessons = preferences({ slates }, settings, { node: "lessons" })
  if (p.method === "sft-top") return sft({ policy, data: lessons.top }, p.topVoted).policy
  const held = () => preferences({ slates: development().slates }, settings, { node: "heldOut" }).pairs
  return preferring(policy, { ...lessons, ...whereJudged(p.preference, held) }, p)
}

/** The control of equal votes has no relevance, and would know people's votes if it were chosen by those on other queries. */
export const controlRefusals = (p: {
  readonly votes: "people" | "equal"
  readonly ips: { readonly keepBest: string; readonly votes: string }
}): ReadonlyArray<Refusal> => [
  ...(p.votes === "equal" && p.ips.votes === "relevance"
    ? [
        {
          path: "ips.votes",
          message: "the control of `votes: equal` has equal votes and no relevance",
          hint: "write ips.votes: raw for it"
        }
      ]
    : []),
  ...(p.votes === "equal" && p.ips.keepBest !== "none"
    ? [
        {
          path: "ips.keepBest",
          message: "the control of `votes: equal` would be chosen by people's votes on held-out slates",
          hint: "leave keepBest out of it; `evaluateEvery` alone only watches"
        }
      ]
    : [])
]

/** What the parameters of learning refuse. */
export const learningRefusals = (
  p: LearningParams & { readonly votes: "people" | "equal" }
): ReadonlyArray<Refusal> => [
  ...unmeasurable("topVoted", p.topVoted),
  ...unmeasurable("contrast", p.contrast),
  ...ipsRefusals("ips", p.ips),
  ...controlRefusals(p),
  ...preferenceRefusals(p.preference, "preference"),
  ...(p.votes === "equal" && (p.method === "sft-top" || p.method === "preference")
    ? [
        {
          path: "method",
          message: `${p.method} learns from who got more votes, and with \`votes: equal\` nobody did`,
          hint: "the equal-votes control is one of POPE"
        }
      ]
    : [])
]
