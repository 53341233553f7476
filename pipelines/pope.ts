/**
 * POPE (arXiv 2509.19333) and its baselines on one log: the policy is trained on logged slates with votes by an
 * importance-weighted objective, or by SFT on each slate's top-voted response, or by preferences of top against bottom, or not at
 * all; then judged by the same held-out queries and references.
 */
import * as Pipeline from "overtone/dsl/Pipeline"
import * as Param from "overtone/dsl/param"
import { IpsParams, ips } from "overtone/stages/ips"
import { opeRefusals } from "overtone/stages/ips/settings"
import { PreferenceParams, preference } from "overtone/stages/preference"
import { preferenceSources, preferences } from "overtone/stages/preferences"
import { SftParams, sft } from "overtone/stages/sft"
import { judged, type Logged, type LoggedParams, layLog, loggedParams, loggedRefusals } from "./logged.ts"
import { unmeasurable } from "./refusals.ts"

const params = {
  ...loggedParams,
  method: Param.literal(
    ["pope", "sft-top", "preference", "base"],
    "pope",
    "what is learnt from the log: POPE, SFT on the top-voted response, preferences, or nothing"
  ),
  ips: IpsParams,
  lessons: Param.struct(preferenceSources.slates, "what the votes of a slate say of its responses, for the baselines"),
  topVoted: SftParams,
  preference: PreferenceParams
}

type Params = LoggedParams & { readonly [K in keyof typeof params]: (typeof params)[K]["Type"] }

const learn = (p: Params, { train, warmStart: policy }: Logged) => {
  if (p.method === "base") return policy
  if (p.method === "pope") return ips({ policy, slates: train }, p.ips).policy
  const { pairs, ranked, top, unpaired } = preferences(
    { slates: train },
    { from: "slates", ...p.lessons },
    { node: "lessons" }
  )
  return p.method === "sft-top"
    ? sft({ policy, data: top }, p.topVoted).policy
    : preference({ policy, pairs, ranked, unpaired }, p.preference).policy
}

export default Pipeline.make(
  "pope",
  params,
  (p) => {
    const logged = layLog(p)
    return judged(learn(p, logged), logged, p)
  },
  {
    check: (p) => [
      ...loggedRefusals(p),
      ...unmeasurable("topVoted", p.topVoted),
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
  }
)
