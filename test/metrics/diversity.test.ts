import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { distinct, embeddingDiversity, ngramCounts, wordsAndMarks } from "../../src/metrics/diversity.ts"
import { unitRows } from "./rows.ts"

describe("diversity of embeddings", () => {
  test("by hand: east, east, north, west", () => {
    // cosines of the six pairs: 1, 0, -1, 0, -1, 0: sum -1; 1 - (2/12) * -1 = 7/6
    expect(
      embeddingDiversity(
        unitRows([
          [1, 0],
          [1, 0],
          [0, 1],
          [-1, 0]
        ])
      )
    ).toBeCloseTo(7 / 6, 14)
  })

  test("0 for equal candidates and for under two; the order does not matter", () => {
    expect(embeddingDiversity(unitRows([]))).toBe(0)
    expect(embeddingDiversity(unitRows([[0, 1]]))).toBe(0)
    expect(
      embeddingDiversity(
        unitRows([
          [0, 1],
          [0, 1]
        ])
      )
    ).toBe(0)
    const row = fc.tuple(fc.integer({ min: -5, max: 5 }), fc.integer({ min: 1, max: 5 }))
    fc.assert(
      fc.property(fc.array(row, { minLength: 2, maxLength: 6 }), (rows) => {
        const value = embeddingDiversity(unitRows(rows))
        expect(value).toBeGreaterThanOrEqual(-1e-12)
        expect(value).toBeLessThanOrEqual(2)
        expect(embeddingDiversity(unitRows(rows.toReversed()))).toBeCloseTo(value, 12)
      })
    )
  })
})

describe("Distinct-n", () => {
  const texts = [
    ["a", "b", "a"],
    ["a", "b"]
  ]
  test("by hand", () => {
    // unigrams a b a a b: 2 of 5; bigrams ab ba ab: 2 of 3; trigrams aba: 1 of 1; 4-grams: none
    expect([1, 2, 3, 4].map((n) => distinct(texts, n))).toEqual([2 / 5, 2 / 3, 1, 0])
    expect(distinct([], 1)).toBe(0)
  })

  test("tokens that hold each other's text are told apart", () => {
    expect(ngramCounts(["a b", "c", "a", "b c"], 2).size).toBe(3)
    expect(() => ngramCounts(["a"], 0)).toThrow(RangeError)
  })

  test("said twice, everything counts once: half of it is distinct", () => {
    const token = fc.constantFrom("a", "b", "c")
    fc.assert(
      fc.property(
        fc.array(fc.array(token, { maxLength: 6 }), { maxLength: 4 }),
        fc.integer({ min: 1, max: 3 }),
        (list, n) => {
          expect(distinct([...list, ...list], n)).toBeCloseTo(distinct(list, n) / 2, 12)
        }
      )
    )
  })

  test("words keep apostrophes and hyphens inside, marks stand alone", () => {
    expect(wordsAndMarks("Don’t ask: well-being, 3.5 §!")).toEqual([
      "Don’t",
      "ask",
      ":",
      "well-being",
      ",",
      "3",
      ".",
      "5",
      "§",
      "!"
    ])
    expect(wordsAndMarks(" \n")).toEqual([])
  })
})
