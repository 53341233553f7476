/**
 * DPO on what people voted for: the top-voted response of a logged slate against the one with the fewest votes (POPE's baseline,
 * arXiv 2509.19333). `preference.loss` takes other losses: `pl-dpo` and `irpo` learn from the whole ranking, `kto` from each
 * response against its slate's mean.
 */
import * as Pipeline from "overtone/dsl/Pipeline"
import { preferenceRefusals } from "overtone/stages/preference/measuring"
import { preferring, trainingParams, whereJudged } from "./dpo.ts"
import { evaluated, groundParams, layGround } from "./ground.ts"
import { groundRefusals, unmeasurable } from "./refusals.ts"
import { voted, voteParams, voteRefusals } from "./votes.ts"

export default Pipeline.make(
  "dpo-top-bottom",
  { ...groundParams, ...voteParams, ...trainingParams },
  (p) => {
    const ground = layGround(p)
    const { held, lessons } = voted(ground, p)
    const data = { ...lessons, ...whereJudged(p.preference, () => held().pairs) }
    return evaluated(preferring(ground.warmStart, data, p), ground, p.evaluate)
  },
  {
    check: (p) => [
      ...groundRefusals(p),
      ...voteRefusals(p),
      ...unmeasurable("contrast", p.contrast),
      ...preferenceRefusals(p.preference, "preference")
    ]
  }
)
