/** SFT on the top-voted response of every logged slate (POPE's baseline, arXiv 2509.19333), from the warm start on. */
import * as Pipeline from "overtone/dsl/Pipeline"
import { SftParams, sft } from "overtone/stages/sft"
import { evaluated, groundParams, layGround } from "./ground.ts"
import { groundRefusals, unmeasurable } from "./refusals.ts"
import { voted, voteParams, voteRefusals } from "./votes.ts"

export default Pipeline.make(
  "sft-top-voted",
  { ...groundParams, ...voteParams, topSft: SftParams },
  (p) => {
    const ground = layGround(p)
    const { top } = voted(ground, p).lessons
    const { policy } = sft({ policy: ground.warmStart, data: top }, p.topSft)
    return evaluated(policy, ground, p.evaluate)
  },
  { check: (p) => [...groundRefusals(p), ...voteRefusals(p), ...unmeasurable("topSft", p.topSft)] }
)
