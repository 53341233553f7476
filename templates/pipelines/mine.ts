/**
 * A pipeline: a small world, a policy that learns to answer, GRPO on Overtone's reward and yours, and what its answers
 * are like. Wiring an estimator where a policy is wanted does not compile: try it, and run `npx tsc`.
 */
import * as Pipeline from "overtone/dsl/Pipeline"
import { basePolicy } from "overtone/stages/basePolicy"
import { estimator } from "overtone/stages/estimator"
import { EvaluateParams } from "overtone/stages/evaluate"
import { generate } from "overtone/stages/generate"
import { grpo } from "overtone/stages/grpo"
import { grpoRefusals } from "overtone/stages/grpo/params"
import { sft } from "overtone/stages/sft"
import { triplets } from "overtone/stages/triplets"
import { world } from "overtone/stages/world"
import { wordiness } from "../stages/wordiness.ts"

const params = {
  data: world.params,
  policy: basePolicy.params,
  triplets: triplets.params,
  estimator: estimator.params,
  warmStart: sft.params,
  grpo: grpo.params,
  evaluate: EvaluateParams
}

export default Pipeline.make(
  "mine",
  params,
  (p) => {
    const made = world({}, p.data)
    const { estimator: similarity } = estimator(triplets({ world: made.world }, p.triplets), p.estimator)
    const { policy: base } = basePolicy({ world: made.world }, p.policy)
    const { policy: warm } = sft({ policy: base, data: made.demonstrations }, p.warmStart)
    const { policy } = grpo({ policy: warm, prompts: made.train, estimator: similarity }, p.grpo)
    const { completions } = generate({ policy, situations: made.test }, p.evaluate)
    return wordiness({ completions }, {}, { node: "evaluate" })
  },
  {
    // what cannot work is told with its line, before anything runs
    check: (p) => grpoRefusals(p.grpo, "grpo")
  }
)
