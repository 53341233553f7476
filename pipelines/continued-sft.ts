/**
 * The update-matched control: the warm start, trained on with the supervised loss for as many optimizer updates as
 * OP-GRPO gets. What OP-GRPO gains over it is not merely more training.
 */
import * as Pipeline from "overtone/dsl/Pipeline"
import { SftParams, sft } from "overtone/stages/sft"
import { evaluated, groundParams, layGround, whereMeasured } from "./ground.ts"
import { groundRefusals, sftRefusals } from "./refusals.ts"

export default Pipeline.make(
  "continued-sft",
  { ...groundParams, continuedSft: SftParams },
  (p) => {
    const ground = layGround(p)
    const { demonstrations: data, developmentDemonstrations, warmStart } = ground
    const { policy } = sft(
      { policy: warmStart, data, ...whereMeasured(p.continuedSft, () => developmentDemonstrations) },
      p.continuedSft
    )
    return evaluated(policy, ground, p.evaluate)
  },
  { check: (p) => [...groundRefusals(p), ...sftRefusals(p, "continuedSft", p.continuedSft)] }
)
