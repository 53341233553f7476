/** An objective's value on given log-probabilities, without a model. */
import { expect, it } from "vitest"
import { dpo } from "../../src/objectives/dpo.ts"
import { lossOf } from "../../src/objectives/lossOf.ts"
import { sft } from "../../src/objectives/sft.ts"

it("of supervised tokens: minus their mean, whatever the rows", () => {
  // (1 + 2 + 6) / 3
  expect(lossOf(sft(), [[-1, -2], [-6]], {})).toBeCloseTo(3, 12)
})

it("of two pairs of different lengths, the rows of a pair one after the other", () => {
  const refLogprobs = [[-1], [-2, -2], [-3, -3, -3], [-1]]
  const logprobs = [[-0.5], [-2, -3], [-3, -3, -2], [-1]]
  // beta 2; differences 2 (0.5 - -1) = 3 and 2 (1 - 0) = 2; mean of log(1 + e^-d)
  const expected = (Math.log1p(Math.exp(-3)) + Math.log1p(Math.exp(-2))) / 2
  expect(lossOf(dpo({ beta: 2 }), logprobs, { refLogprobs, unasked: 7 })).toBeCloseTo(expected, 12)
  // Weights [rows], read of the chosen row: 3 and 1 of a mean.
  const weighted = lossOf(dpo({ beta: 2, weights: "given" }), logprobs, { refLogprobs, weights: [3, 3, 1, 1] })
  expect(weighted).toBeCloseTo((3 * Math.log1p(Math.exp(-3)) + Math.log1p(Math.exp(-2))) / 2, 12)
})

it("names what is missing or does not fit", () => {
  expect(() => lossOf(dpo({}), [[-1], [-1]], {})).toThrow(/batch tensor "refLogprobs" is missing/)
  expect(() => lossOf(dpo({}), [[-1], [-1]], { refLogprobs: [[-1]] })).toThrow(/\[1\] of "refLogprobs" for \[2\] rows/)
  expect(() => lossOf(dpo({}), [[-1]], { refLogprobs: [[-1]] })).toThrow(/\[1\] rows are not whole groups of \[2\]/)
  expect(() => lossOf(dpo({}), [[-1], []], { refLogprobs: [[-1], [-1]] })).toThrow(RangeError)
  expect(() => lossOf(sft(), [], {})).toThrow(/\[0\] rows/)
})
