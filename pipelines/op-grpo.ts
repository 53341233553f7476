/**
 * OP-GRPO (arXiv 2602.20759): a similarity estimator is fine-tuned on triplets, a policy is warm-started on
 * demonstrations, then trained by GRPO on a reward of coverage and uniqueness that the estimator measures.
 */
import * as Pipeline from "overtone/dsl/Pipeline"
import { grpo } from "overtone/stages/grpo"
import { evaluated, groundParams, layGround } from "./ground.ts"

export default Pipeline.make("op-grpo", { ...groundParams, grpo: grpo.params }, (p) => {
  const ground = layGround(p)
  const { policy } = grpo({ policy: ground.warmStart, prompts: ground.train, estimator: ground.estimator }, p.grpo)
  return evaluated(policy, ground, p.evaluate)
})
