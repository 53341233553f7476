/**
 * Tag: the penalty for an answer that is not in the strict form: value = 0 or -0.2, weight 1.
 * OP-GRPO, arXiv 2602.20759. (An older version of the authors' code says -3; set the weight to 15 for it.)
 */
import { Schema } from "effect"
import type { RewardPart } from "./part.ts"

export interface TagParams {
  readonly weight: number
}

/** The value without strict form, before weighting. */
export const tagPenalty = -0.2

export const tag: RewardPart<"tag", TagParams> = {
  name: "tag",
  module: import.meta.url,
  embeddings: false,
  fields: { weight: Schema.Finite },
  defaults: { weight: 1 },
  help: { weight: "weight in the reward" },
  score: ({ answer }) => ({ value: answer.strict ? 0 : tagPenalty })
}
