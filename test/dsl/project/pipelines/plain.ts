import * as Pipeline from "../../../../src/dsl/Pipeline.ts"
import { evaluate, sft, world } from "../stages/toys.ts"

export default Pipeline.make(
  "plain",
  {
    data: Pipeline.section(world.params),
    warmStart: Pipeline.section(sft.params),
    evaluate: Pipeline.section(evaluate.params)
  },
  (p) => {
    const { situations } = world({}, p.data)
    return evaluate({ policy: sft({ situations }, p.warmStart).policy, situations }, p.evaluate)
  }
)
