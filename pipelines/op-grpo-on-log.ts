/**
 * OP-GRPO on what people voted for: the lines of the most-voted responses of a log are the window that the reward asks to
 * cover, so that POPE and OP-GRPO can be given the same supervision (and the estimator, which POPE does not have).
 */
import * as Pipeline from "overtone/dsl/Pipeline"
import { grpo } from "overtone/stages/grpo"
import { grpoRefusals } from "overtone/stages/grpo/params"
import { ReferencesParams, references } from "overtone/stages/references"
import { judged, layLog, loggedParams, loggedRefusals } from "./logged.ts"
import { tooLong, unmeasurable } from "./refusals.ts"

export default Pipeline.make(
  "op-grpo-on-log",
  { ...loggedParams, windows: ReferencesParams, grpo: grpo.params },
  (p) => {
    const logged = layLog(p)
    const { situations } = references({ slates: logged.train }, p.windows)
    const { estimator, warmStart } = logged
    const { policy } = grpo({ policy: warmStart, prompts: situations, estimator }, p.grpo)
    return judged(policy, logged, p)
  },
  {
    check: (p) => [
      ...loggedRefusals(p),
      ...unmeasurable("grpo", p.grpo),
      ...tooLong(p, "grpo.maxNewTokens", p.grpo.maxNewTokens),
      ...grpoRefusals(p.grpo, "grpo"),
      ...(p.votes === "people"
        ? []
        : [
            {
              path: "votes",
              message: "equal votes choose no window: the most-voted responses would be the first ones",
              hint: "the equal-votes control is one of POPE"
            }
          ])
    ]
  }
)
