/**
 * OP-GRPO (arXiv 2602.20759): a similarity estimator is fine-tuned on triplets, a policy is warm-started on
 * demonstrations, then trained by GRPO on a reward of coverage and uniqueness that the estimator measures.
 */
import * as Pipeline from "overtone/dsl/Pipeline"
import { grpo } from "overtone/stages/grpo"
import { evaluated, groundParams, layGround } from "./ground.ts"
import { groundRefusals, tooLong } from "./refusals.ts"

export default Pipeline.make(
  "op-grpo",
  { ...groundParams, grpo: grpo.params },
  (p) => {
    const ground = layGround(p)
    const { policy } = grpo({ policy: ground.warmStart, prompts: ground.train, estimator: ground.estimator }, p.grpo)
    return evaluated(policy, ground, p.evaluate)
  },
  {
    check: (p) => {
      const { maxNewTokens, promptsPerStep, steps } = p.grpo
      const few = p.data.source === "world" && steps > 0 && promptsPerStep > p.data.train
      return [
        ...groundRefusals(p),
        ...tooLong(p, "grpo.maxNewTokens", maxNewTokens),
        ...(few
          ? [
              {
                path: "grpo.promptsPerStep",
                message: `the prompts of a step are distinct, and there are ${p.data.train}`
              }
            ]
          : [])
      ]
    }
  }
)
