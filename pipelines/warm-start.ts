/**
 * The warm start by itself: what OP-GRPO starts from, and its baseline. With `evaluate.minLines` it is the forced-length
 * control: the same policy, kept from closing its list early.
 */
import * as Pipeline from "overtone/dsl/Pipeline"
import { evaluated, groundParams, layGround } from "./ground.ts"
import { groundRefusals } from "./refusals.ts"

export default Pipeline.make(
  "warm-start",
  groundParams,
  (p) => {
    const ground = layGround(p)
    return evaluated(ground.warmStart, ground, p.evaluate)
  },
  { check: groundRefusals }
)
