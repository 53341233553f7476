import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { helpfulnessWeights, pluralisticCoverage, relevance, setScores, worths } from "../../src/metrics/pope.ts"
import { unitRows } from "./rows.ts"

// Three references east, north, west; two candidates: east, and one at cosines .6, .8, -.6.
const references = unitRows([
  [1, 0],
  [0, 1],
  [-1, 0]
])
const candidates = unitRows([
  [1, 0],
  [3, 4]
])
// cosines by reference:  east 1, .6   north 0, .8   west -1, -.6
// best 1, .8, -.6; mean .8, .4, -.8

describe("weights of references", () => {
  test("worths are shares of votes; nobody voted: uniform", () => {
    expect(worths([3, 1, 0])).toEqual([0.75, 0.25, 0])
    expect(worths([0, 0])).toEqual([0.5, 0.5])
    for (const votes of [[-1], [Number.NaN], [Number.POSITIVE_INFINITY]])
      expect(() => worths(votes)).toThrow(RangeError)
  })
  test("helpfulness scales by minimum and maximum: the least voted counts nothing", () => {
    // (5, 3, 1) -> (1, .5, 0) -> (2/3, 1/3, 0)
    expect(helpfulnessWeights([5, 3, 1])).toEqual([2 / 3, 1 / 3, 0])
    expect(helpfulnessWeights([4, 4])).toEqual([0.5, 0.5])
    expect(helpfulnessWeights([4])).toEqual([1])
  })
})

describe("POPE's metrics by hand", () => {
  const scores = setScores(references, candidates, [2, 1, 1])
  test("PL-score: .5 * 1 + .25 * .8 - .25 * .6, and with means .5 * .8 + .25 * .4 - .25 * .8", () => {
    expect(scores.plScore).toBeCloseTo(0.55, 14)
    expect(scores.plScoreMean).toBeCloseTo(0.3, 14)
  })
  test("coverage at .8: two of three, both candidates near one; the first M are all there are", () => {
    expect(scores.coverage).toBeCloseTo(2 / 3, 14)
    expect(scores.precision).toBe(1)
    expect(scores.f1).toBeCloseTo(0.8, 14)
    expect(scores.atM).toBeCloseTo(2 / 3, 14)
    expect(setScores(references, candidates, [2, 1, 1], { tau: 0.81 })).toMatchObject({ precision: 0.5 })
    expect(pluralisticCoverage(references, candidates, 0.81)).toBeCloseTo(1 / 3, 14)
    // each candidate covers one reference of three by itself; at .81 only the first does
    expect(scores.coverageMean).toBeCloseTo(1 / 3, 14)
    expect(setScores(references, candidates, [2, 1, 1], { tau: 0.81 }).coverageMean).toBeCloseTo(1 / 6, 14)
  })
  test("alignment A: one candidate each at east and north: log 2 / log 3", () => {
    expect(scores.alignment).toBeCloseTo(Math.log(2) / Math.log(3), 14)
    // at .9 only the first is assigned: no entropy
    expect(setScores(references, candidates, [2, 1, 1], { half: 0.9 }).alignment).toBe(0)
  })
  test("alignment B: entropy of softmax(1.6, .8, -1.6) over log 3", () => {
    const e = [1.6, 0.8, -1.6].map(Math.exp)
    const q = e.map((x) => x / e.reduce((a, b) => a + b))
    const entropy = -q.reduce((sum, p) => sum + p * Math.log(p), 0)
    expect(scores.alignmentSoftmax).toBeCloseTo(entropy / Math.log(3), 12)
  })
  test("helpfulness: votes (2, 1, 1) leave east alone: mean of 1 and .6", () => {
    expect(scores.helpfulness).toBeCloseTo(0.8, 14)
  })
  test("relevance: mean cosine with the prompt", () => {
    expect(relevance(unitRows([[0, 1]]), candidates)).toBeCloseTo(0.4, 14)
    expect(relevance(unitRows([[0, 1]]), unitRows([]))).toBe(0)
  })
  test("the coverage counts of the paper's Table 1 are 74, 66, 69 and 81 of 147", () => {
    expect([74, 66, 69, 81].map((n) => (n / 147).toFixed(4))).toEqual(["0.5034", "0.4490", "0.4694", "0.5510"])
  })
})

describe("degenerate sets", () => {
  test("no candidates: all 0; one reference: alignment is 1 once it is spoken of", () => {
    expect(Object.values(setScores(references, unitRows([]), [1, 1, 1])).every((value) => value === 0)).toBe(true)
    const one = unitRows([[1, 0]])
    expect(setScores(one, unitRows([[2, 0]]), [0])).toMatchObject({
      plScore: 1,
      alignment: 1,
      alignmentSoftmax: 1,
      coverage: 1
    })
    expect(setScores(one, unitRows([[0, 1]]), [0])).toMatchObject({ plScore: 0, alignment: 0, coverage: 0 })
  })
  test("votes that do not pair are refused with both shapes", () => {
    expect(() => setScores(references, candidates, [1])).toThrow(/votes \[1\] and references \[3, 2\]/)
  })
})

describe("properties", () => {
  const vector = fc.tuple(
    fc.integer({ min: -4, max: 4 }),
    fc.integer({ min: -4, max: 4 }),
    fc.integer({ min: 1, max: 4 })
  )
  const set = fc.array(vector, { minLength: 1, maxLength: 5 })
  const voted = fc.array(fc.tuple(vector, fc.nat(6)), { minLength: 1, maxLength: 5 })

  test("bounds; a permutation of references with their votes, or of candidates, changes nothing but at M", () => {
    fc.assert(
      fc.property(voted, set, (pairs, said) => {
        const of = (list: typeof pairs, texts: typeof said) => {
          const { atM: _, ...scores } = setScores(
            unitRows(list.map(([v]) => v)),
            unitRows(texts),
            list.map(([, u]) => u)
          )
          return scores
        }
        const scores = of(pairs, said)
        for (const share of [scores.coverage, scores.precision, scores.f1, scores.alignment, scores.alignmentSoftmax]) {
          expect(share).toBeGreaterThanOrEqual(0)
          expect(share).toBeLessThanOrEqual(1 + 1e-12)
        }
        expect(scores.plScore).toBeGreaterThanOrEqual(scores.plScoreMean - 1e-12)
        expect(Math.abs(scores.plScore)).toBeLessThanOrEqual(1 + 1e-12)
        const again = of(pairs, said.toReversed())
        // Of equally near references the first is taken: which one that is depends on their order.
        const { alignment: _, ...others } = of(pairs.toReversed(), said)
        for (const [name, value] of Object.entries(again)) expect(value).toBeCloseTo(scores[name as "plScore"], 12)
        for (const [name, value] of Object.entries(others)) expect(value).toBeCloseTo(scores[name as "plScore"], 12)
      })
    )
  })

  test("more candidates never lower coverage or PL-score", () => {
    fc.assert(
      fc.property(set, set, set, (window, said, more) => {
        const votes = window.map(() => 1)
        const few = setScores(unitRows(window), unitRows(said), votes)
        const many = setScores(unitRows(window), unitRows([...said, ...more]), votes)
        expect(many.coverage).toBeGreaterThanOrEqual(few.coverage)
        expect(many.plScore).toBeGreaterThanOrEqual(few.plScore - 1e-12)
      })
    )
  })
})
