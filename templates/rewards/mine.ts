/** Rewards of your own: experiments/first.yaml names this one as `./../rewards/mine.ts#brevity`. */
import * as Param from "overtone/dsl/param"
import { reward } from "overtone/rewards/custom"

/** 1 for an answer of no more than `most` words, less the longer it is. */
export const brevity = reward({
  params: { most: Param.int(20, "words that cost nothing", { min: 1 }) },
  score: ({ answer }, { most }) => {
    const words = answer.text.split(/\s+/).filter((word) => word !== "").length
    return Math.min(1, most / Math.max(1, words))
  }
})
