/**
 * OP-GRPO (arXiv 2602.20759): a similarity estimator is fine-tuned on triplets, a policy is warm-started on
 * demonstrations, then trained by GRPO on a reward of coverage and uniqueness that the estimator measures.
 */

import type { Situations } from "overtone/artifact/kinds"
import * as Pipeline from "overtone/dsl/Pipeline"
import * as Param from "overtone/dsl/param"
import type { Ref } from "overtone/dsl/Stage"
import { grpo } from "overtone/stages/grpo"
import { grpoRefusals } from "overtone/stages/grpo/params"
import { shuffle } from "overtone/stages/shuffle"
import { evaluated, groundParams, layGround, whereMeasured } from "./ground.ts"
import { groundRefusals, tooLong, unheld, untaught } from "./refusals.ts"

export default Pipeline.make(
  "op-grpo",
  {
    ...groundParams,
    references: Param.literal(
      ["own", "shuffled"],
      "own",
      "what the reward compares with: the prompt's references; or, as a control, those of another prompt"
    ),
    grpo: grpo.params
  },
  (p) => {
    const ground = layGround(p)
    // A control is not to be steered by true references either, when its best policy is kept.
    const compared = (situations: Ref<typeof Situations>) =>
      p.references === "own" ? situations : shuffle({ situations }, {}, { node: "references" }).situations
    const { policy } = grpo(
      {
        policy: ground.warmStart,
        prompts: compared(ground.train),
        estimator: ground.estimator,
        ...whereMeasured(p.grpo, () => compared(ground.development))
      },
      p.grpo
    )
    return evaluated(policy, ground, p.evaluate)
  },
  {
    check: (p) => {
      const { maxNewTokens, promptsPerStep, steps } = p.grpo
      const few = p.data.source === "world" && steps > 0 && promptsPerStep > p.data.train
      return [
        ...groundRefusals(p),
        ...tooLong(p, "grpo.maxNewTokens", maxNewTokens),
        ...unheld(p, "grpo", p.grpo),
        ...grpoRefusals(p.grpo, "grpo"),
        ...untaught(p, p.grpo.reward),
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
