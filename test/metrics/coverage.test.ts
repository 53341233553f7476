import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { accuracies, estimatorCoverage, estimatorUniqueness } from "../../src/metrics/coverage.ts"
import type { Rows } from "../../src/rewards/matching.ts"

/** One-hot rows: equal indices have cosine 1, others 0. */
const oneHot = (indices: ReadonlyArray<number>, width = 12): Rows => ({
  rows: indices.length,
  width,
  data: indices.flatMap((index) => Array.from({ length: width }, (_, k) => (k === index ? 1 : 0)))
})

describe("coverage by an estimator", () => {
  test("what a line dump gains is coverage, not coverage at M or precision", () => {
    // References 0..3. Candidates 9, 0, 8, 0, 1, 2: matched 0, 1, 2 of 4 -> .75; the first four match 0 only -> .25;
    // near some reference: 0, 0, 1, 2 of 6 -> 2/3; F1 = 2 * .75 * (2/3) / (.75 + 2/3) = 12/17.
    const scores = estimatorCoverage(oneHot([0, 1, 2, 3]), oneHot([9, 0, 8, 0, 1, 2]), 0.7)
    expect(scores.coverage).toBe(0.75)
    expect(scores.complete).toBe(0)
    expect(scores.atM).toBe(0.25)
    expect(scores.precision).toBeCloseTo(2 / 3, 12)
    expect(scores.f1).toBeCloseTo(12 / 17, 12)
    expect(scores.pairs.map(({ row, column }) => [row, column])).toEqual([
      [0, 1],
      [1, 4],
      [2, 5]
    ])
  })

  test("all references matched is complete; an empty side scores 0", () => {
    expect(estimatorCoverage(oneHot([2, 1]), oneHot([1, 2]), 0.7).complete).toBe(1)
    for (const [references, candidates] of [
      [[], [1]],
      [[1], []]
    ] as const) {
      expect(estimatorCoverage(oneHot(references), oneHot(candidates), 0.7)).toMatchObject({
        coverage: 0,
        precision: 0,
        f1: 0
      })
    }
  })

  test("does not depend on the order of references and, at M apart, of candidates", () => {
    const indices = fc.array(fc.integer({ min: 0, max: 11 }), { minLength: 1, maxLength: 8 })
    fc.assert(
      fc.property(indices, indices, (references, candidates) => {
        const forward = estimatorCoverage(oneHot(references), oneHot(candidates), 0.7)
        const backward = estimatorCoverage(oneHot(references.toReversed()), oneHot(candidates.toReversed()), 0.7)
        expect(backward.coverage).toBe(forward.coverage)
        expect(backward.precision).toBe(forward.precision)
        expect(forward.atM).toBeLessThanOrEqual(forward.coverage)
      })
    )
  })

  test("accuracies: the mean of ratios, and the share of full matches", () => {
    expect(
      accuracies([
        { matched: 5, references: 5 },
        { matched: 1, references: 4 }
      ])
    ).toEqual({ relative: 0.625, absolute: 0.5 })
  })

  test("uniqueness of no candidates is 0, of one 1", () => {
    expect([[], [1], [1, 1], [1, 2, 1]].map((k) => estimatorUniqueness(oneHot(k), 0.78))).toEqual([0, 1, 0.5, 2 / 3])
  })
})
