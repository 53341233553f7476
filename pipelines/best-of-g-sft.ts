/**
 * Best-of-G SFT: the warm start answers the training prompts G times each, OP-GRPO's reward picks the best answer, and
 * supervised training goes on with those. What the reward brings without a policy gradient.
 */
import * as Pipeline from "overtone/dsl/Pipeline"
import { bestOf } from "overtone/stages/bestOf"
import { SftParams, sft } from "overtone/stages/sft"
import { evaluated, groundParams, layGround } from "./ground.ts"
import { groundRefusals, tooLong, unmeasurable, untaught } from "./refusals.ts"

export default Pipeline.make(
  "best-of-g-sft",
  { ...groundParams, bestOf: bestOf.params, bestSft: SftParams },
  (p) => {
    const ground = layGround(p)
    const { estimator, train: prompts, warmStart } = ground
    const { demonstrations } = bestOf({ policy: warmStart, prompts, estimator }, p.bestOf)
    const { policy } = sft({ policy: warmStart, data: demonstrations }, p.bestSft)
    return evaluated(policy, ground, p.evaluate)
  },
  {
    check: (p) => [
      ...groundRefusals(p),
      ...tooLong(p, "bestOf.maxNewTokens", p.bestOf.maxNewTokens),
      ...unmeasurable("bestSft", p.bestSft),
      ...untaught(p, p.bestOf.reward, "bestOf")
    ]
  }
)
