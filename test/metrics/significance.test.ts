import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { holm, significance } from "../../src/metrics/significance.ts"
import { pairItems } from "../../src/metrics/statistics.ts"

/** Pairs of seeds x prompts with these differences. */
const pairs = (differences: ReadonlyArray<ReadonlyArray<number>>) => {
  const items = (of: (difference: number) => number) =>
    differences.flatMap((row, seed) => row.map((difference, p) => ({ seed, prompt: `p${p}`, value: of(difference) })))
  return pairItems(
    items((difference) => difference),
    items(() => 0)
  )
}

describe("Holm's correction", () => {
  test("by hand: .01, .04, .03, .005 of four", () => {
    // rising: .005 * 4 = .02, .01 * 3 = .03, .03 * 2 = .06, .04 * 1 = .04 -> not under the one before: .06
    const adjusted = holm([0.01, 0.04, 0.03, 0.005])
    ;[0.03, 0.06, 0.06, 0.02].forEach((p, k) => {
      expect(adjusted[k]).toBeCloseTo(p, 15)
    })
  })
  test("what has no p is not in the family; one test is not corrected; none above 1", () => {
    expect(holm([null, 0.04, null])).toEqual([null, 0.04, null])
    expect(holm([0.7, 0.8])).toEqual([1, 1])
    expect(holm([])).toEqual([])
  })
  test("between p and Bonferroni's m p, in the order of p, whatever the order of tests", () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 1, maxLength: 9 }), (ps) => {
        const adjusted = holm(ps) as ReadonlyArray<number>
        ps.forEach((p, k) => {
          expect(adjusted[k]).toBeGreaterThanOrEqual(p)
          expect(adjusted[k]).toBeLessThanOrEqual(Math.min(1, ps.length * p) + 1e-15)
          for (const [j, other] of ps.entries()) if (p <= other) expect(adjusted[k]).toBeLessThanOrEqual(adjusted[j]!)
        })
        expect(holm(ps.toReversed()).toReversed()).toEqual(adjusted)
      })
    )
  })
})

describe("one comparison", () => {
  test("six seeds and more: sign flips over seeds, all one way gives 2 / 2^n, and says that it cannot give less", () => {
    const result = significance(pairs([1, 2, 3, 4, 5, 6].map((d) => [d, d])))
    expect(result).toMatchObject({ p: 2 / 64, least: 2 / 64, test: "sign flips over 6 seeds", superiority: 1 })
  })

  test("three to five seeds: the t test that the interval is, .2 +- .1 over three", () => {
    // seeds' means .1, .2, .3: t = .2 / (.1 / sqrt 3) = 3.4641 with 2 degrees of freedom: with two of them
    // p = 1 - t / sqrt(2 + t^2) = 1 - 3.4641 / sqrt 14 = .0741799
    const result = significance(
      pairs([
        [0.1, 0.1],
        [0.2, 0.2],
        [0.3, 0.3]
      ])
    )
    expect(result.p).toBeCloseTo(1 - Math.sqrt(12) / Math.sqrt(14), 9)
    expect(result.test).toBe("t test over 3 seeds")
    expect(significance(pairs([[0], [0], [0]])).p).toBe(1)
    // no spread: nothing says how far other seeds would lie
    expect(significance(pairs([[2], [2], [2]]))).toMatchObject({ p: null, test: "no test: 3 seeds differ by the same" })
  })

  test("under three seeds: prompts only, and it says so; effect and superiority are over prompts", () => {
    // differences 1, 2, 3, 0: mean 1.5, deviation sqrt(5/3); better on three, equal on one
    const result = significance(pairs([[1, 2, 3, 0]]))
    expect(result.test).toBe("sign flips over prompts only (1 seed)")
    // of 16 sign patterns those with |sum| >= 6: +++ and ---, each with either sign of 0
    expect(result.p).toBe(4 / 16)
    expect(result.effect).toBeCloseTo(1.5 / Math.sqrt(5 / 3), 12)
    expect(result.superiority).toBe(3.5 / 4)
  })

  test("nothing to base it on", () => {
    expect(significance([])).toMatchObject({ p: null, effect: null, superiority: null, test: "no test: no pair" })
    expect(significance(pairs([[1]]))).toMatchObject({ p: null, effect: null, superiority: 1 })
    // equal differences have no spread to be measured in
    expect(significance(pairs([[2, 2]])).effect).toBeNull()
    expect(significance(pairs([[0.3, 0.1 + 0.2]])).effect).toBeNull()
    expect(significance(pairs([[0, 0]])).effect).toBe(0)
  })
})
