import * as Pipeline from "../../../../src/dsl/Pipeline.ts"
import { estimator, evaluate, grpo, sft, world } from "../stages/toys.ts"

export default Pipeline.make(
  "op",
  {
    data: Pipeline.section(world.params),
    estimator: Pipeline.section(estimator.params),
    warmStart: Pipeline.section(sft.params),
    grpo: Pipeline.section(grpo.params),
    evaluate: Pipeline.section(evaluate.params)
  },
  (p) => {
    const { situations } = world({}, p.data)
    const { encoder } = estimator({ situations }, p.estimator)
    const { policy: warm } = sft({ situations }, p.warmStart)
    const { policy } = grpo({ policy: warm, situations, estimator: encoder }, p.grpo)
    return evaluate({ policy, situations }, p.evaluate)
  },
  {
    check: (p) =>
      (p.grpo.prompts * p.grpo.groupSize) % 4 === 0
        ? []
        : [{ path: "grpo.groupSize", message: "prompts x groupSize must be a multiple of 4", hint: "use 8" }]
  }
)
