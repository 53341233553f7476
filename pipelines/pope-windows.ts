/**
 * POPE (arXiv 2509.19333) on the warm start's own answers with votes of the world's people (its RQ1), judged as OP-GRPO is: by
 * the windows of held-out situations. What `pope.ts` is to voted references, on the footing of the other baselines.
 */
import * as Pipeline from "overtone/dsl/Pipeline"
import { CandidatesParams, candidates } from "overtone/stages/candidates"
import { IpsParams, ips } from "overtone/stages/ips"
import { ipsRefusals } from "overtone/stages/ips/measuring"
import { evaluated, groundParams, layGround, whereMeasured } from "./ground.ts"
import { controlRefusals, votes } from "./learning.ts"
import { groundRefusals, tooLong } from "./refusals.ts"
import { voteRefusals } from "./votes.ts"

export default Pipeline.make(
  "pope-windows",
  { ...groundParams, votes, candidates: CandidatesParams, ips: IpsParams },
  (p) => {
    const ground = layGround(p)
    const { train: situations, warmStart, world } = ground
    if (world === undefined)
      throw new TypeError("only the synthetic world has people who vote: set `data.source: world`")
    const own = candidates({ policy: warmStart, situations, world }, p.candidates)
    const slates = p.votes === "equal" ? own.equalVotes : own.slates
    // Measured on its own answers to development situations, which people voted on too.
    const held = whereMeasured(
      p.ips,
      () => candidates({ policy: warmStart, situations: ground.development, world }, p.candidates).slates
    )
    const { policy } = ips({ policy: warmStart, slates, ...held }, p.ips)
    return evaluated(policy, ground, p.evaluate)
  },
  {
    check: (p) => [
      ...groundRefusals(p),
      ...voteRefusals(p),
      ...tooLong(p, "candidates.maxNewTokens", p.candidates.maxNewTokens),
      ...ipsRefusals("ips", p.ips),
      ...controlRefusals(p)
    ]
  }
)
