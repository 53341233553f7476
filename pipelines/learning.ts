/**
 * What is learnt from a log of slates with votes, whoever logged it: POPE (arXiv 2509.19333), its baselines, SFT on every slate's
 * top-voted response and preferences of top against bottom, or nothing. `pope` takes the world's log, `pope-logged` one's own.
 */
import type { LoggedSlates, Policy } from "overtone/artifact/kinds"
import type { Refusal } from "overtone/dsl/Pipeline"
import * as Param from "overtone/dsl/param"
import type { Ref } from "overtone/dsl/Stage"
import { IpsParams, ips } from "overtone/stages/ips"
import { opeRefusals } from "overtone/stages/ips/settings"
import { preferenceSources, preferences } from "overtone/stages/preferences"
import { SftParams, sft } from "overtone/stages/sft"
import { preferring, trainingParams } from "./dpo.ts"
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

/** The policy after its lessons. Only POPE asks for the behaviour policy's odds of the slates, by `weighed`. */
export const learnt = (
  p: LearningParams,
  policy: Ref<typeof Policy>,
  slates: Ref<typeof LoggedSlates>,
  weighed: () => Ref<typeof LoggedSlates>
): Ref<typeof Policy> => {
  if (p.method === "base") return policy
  if (p.method === "pope") return ips({ policy, slates: weighed() }, p.ips).policy
  const lessons = preferences({ slates }, { from: "slates", ...p.lessons }, { node: "lessons" })
  return p.method === "sft-top" ? sft({ policy, data: lessons.top }, p.topVoted).policy : preferring(policy, lessons, p)
}

/** What the parameters of learning refuse. */
export const learningRefusals = (
  p: LearningParams & { readonly votes: "people" | "equal" }
): ReadonlyArray<Refusal> => [
  ...unmeasurable("topVoted", p.topVoted),
  ...unmeasurable("contrast", p.contrast),
  ...opeRefusals("ips", p.ips),
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
