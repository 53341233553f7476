import { describe, expect, test } from "vitest"
import { nliAccuracy, nliScore } from "../../src/metrics/nli.ts"

describe("nli", () => {
  test("the mean over references of the best sentence", () => {
    // Reference 0: max(.1, .9, .2) = .9; reference 1: max(.3, .1, .2) = .3; mean .6
    const probabilities = [0.1, 0.9, 0.2, 0.3, 0.1, 0.2]
    expect(nliScore({ references: 2, sentences: 3, probabilities })).toBeCloseTo(0.6, 12)
  })

  test("0 with an empty side, RangeError with both shapes where they disagree", () => {
    expect(nliScore({ references: 2, sentences: 0, probabilities: [] })).toBe(0)
    expect(nliScore({ references: 0, sentences: 2, probabilities: [] })).toBe(0)
    expect(() => nliScore({ references: 2, sentences: 2, probabilities: [1] })).toThrow(/\[1\].*\[2, 2\]/)
  })

  test("accuracy counts scores above .33, not at it", () => {
    expect([0.33, 0.3301, 0].map((score) => nliAccuracy(score))).toEqual([0, 1, 0])
  })
})
