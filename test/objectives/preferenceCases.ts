/** Two pairs that are worked by hand, for the tests of preference losses. */
import type { Rows } from "./evaluate.ts"

export const l2 = Math.log(2)

/** Two pairs of one token each: ratios (log 2, 0) and (0, log 4), so Delta = log 2 and -log 4 at beta 1. */
export const byHand: Rows = {
  logprobs: [[-1], [-1], [-2], [-1]],
  mask: [[1], [1], [1], [1]],
  inputs: { refLogprobs: [[-1 - l2], [-1], [-2], [-1 - 2 * l2]], chosenTokens: 2 }
}
