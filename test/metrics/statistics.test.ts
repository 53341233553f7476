import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { incompleteBeta, logGamma, studentTCdf, studentTQuantile } from "../../src/metrics/distributions.ts"
import { bootstrapInterval, percentile, signFlipPValue } from "../../src/metrics/resampling.ts"
import { comparePaired, type Item, standardDeviation, tInterval } from "../../src/metrics/statistics.ts"

describe("Student's t", () => {
  /** scipy.stats.t.ppf(p, df), SciPy 1.17.1. */
  const quantiles: ReadonlyArray<readonly [df: number, p: number, t: number]> = [
    [1, 0.9, 3.0776835371752544],
    [1, 0.975, 12.706204736174694],
    [1, 0.995, 63.656741162871526],
    [2, 0.9, 1.8856180831641272],
    [2, 0.975, 4.302652729749462],
    [2, 0.995, 9.924843200918287],
    [2.5, 0.975, 3.5746548420036817],
    [4, 0.9, 1.533206274058944],
    [4, 0.975, 2.7764451051977934],
    [4, 0.995, 4.604094871349992],
    [7, 0.975, 2.364624251592784],
    [19, 0.975, 2.0930240544083087],
    [29, 0.975, 2.045229642132703],
    [100, 0.9, 1.290074761346516],
    [100, 0.975, 1.9839715185235518],
    [100, 0.995, 2.6258905214380173]
  ]
  test.each(quantiles)("df %d, p %d is SciPy's to 1e-10", (df, p, t) => {
    expect(Math.abs(studentTQuantile(p, df) / t - 1)).toBeLessThan(1e-10)
    expect(studentTQuantile(1 - p, df)).toBeCloseTo(-t, 8)
  })

  test("the distribution function is SciPy's, and the quantile its inverse", () => {
    expect(studentTCdf(-1.3, 4)).toBeCloseTo(0.13172579823561206, 13)
    expect(studentTCdf(0.2, 1)).toBeCloseTo(0.562832958189001, 13)
    expect(studentTCdf(3.1, 12)).toBeCloseTo(0.9954050018108044, 13)
    fc.assert(
      fc.property(fc.double({ min: 0.001, max: 0.999, noNaN: true }), fc.integer({ min: 1, max: 60 }), (p, df) => {
        expect(studentTCdf(studentTQuantile(p, df), df)).toBeCloseTo(p, 11)
      })
    )
    expect(studentTQuantile(0.5, 3)).toBe(0)
    expect(() => studentTQuantile(1, 3)).toThrow(RangeError)
  })

  test("its parts: Gamma(n) = (n - 1)!, I_x(1, b) = 1 - (1 - x)^b", () => {
    expect(Math.exp(logGamma(6))).toBeCloseTo(120, 9)
    expect(Math.exp(2 * logGamma(0.5))).toBeCloseTo(Math.PI, 12)
    expect(incompleteBeta(0.3, 1, 4)).toBeCloseTo(1 - 0.7 ** 4, 14)
    expect([incompleteBeta(0, 2, 3), incompleteBeta(1, 2, 3)]).toEqual([0, 1])
  })
})

describe("resampling", () => {
  test("percentiles interpolate as NumPy's default does", () => {
    expect([0, 0.25, 0.5, 0.9, 1].map((p) => percentile([4, 1, 3, 2], p))).toEqual([1, 1.75, 2.5, 3.7, 4])
    expect(percentile([], 0.5)).toBeNaN()
  })

  test("the bootstrap is deterministic, holds the mean, and has the normal width for many values", () => {
    // 400 values 0, 1 in turn: deviation of the mean .5/20 = .025, so about .5 -+ 1.96 * .025 = [.451, .549]
    const values = Array.from({ length: 400 }, (_, k) => k % 2)
    const [low, high] = bootstrapInterval(values, { confidence: 0.95 })
    expect(bootstrapInterval(values, { confidence: 0.95 })).toEqual([low, high])
    expect(bootstrapInterval(values, { confidence: 0.95, seed: 1 })).not.toEqual([low, high])
    expect(Math.abs(low - 0.451)).toBeLessThan(0.006)
    expect(Math.abs(high - 0.549)).toBeLessThan(0.006)
    expect(bootstrapInterval([2, 2, 2], { confidence: 0.95 })).toEqual([2, 2])
  })

  test("sign flips: six equal signs reach 2/64; sampling agrees with enumeration", () => {
    expect(signFlipPValue([1, 2, 3, 4, 5, 6])).toBe(2 / 64)
    // |sum| >= 0 always
    expect(signFlipPValue([1, -1, 1, -1, 1, -1])).toBe(1)
    // |sum| >= 4 of (1, 1, 1, 1, 1, -1)'s 64 patterns: sums 6 (1), 4 (6), -4, -6: 14
    expect(signFlipPValue([1, 1, 1, 1, 1, -1])).toBe(14 / 64)
    // 20 differences, 15 up and 5 down: 2 * P(Binomial(20, .5) >= 15) = .041389
    const many = Array.from({ length: 20 }, (_, k) => (k < 5 ? -1 : 1))
    expect(signFlipPValue(many)).toBeCloseTo(0.041389, 2)
  })
})

describe("paired comparison", () => {
  /** Items of seeds x prompts from a function. */
  const items = (
    seeds: number,
    prompts: number,
    value: (seed: number, prompt: number) => number
  ): ReadonlyArray<Item> =>
    Array.from({ length: seeds * prompts }, (_, k) => {
      const [seed, prompt] = [k % seeds, Math.floor(k / seeds)]
      return { seed, prompt: `p${prompt}`, value: value(seed, prompt) }
    })
  const zero = (seeds: number, prompts: number) => items(seeds, prompts, () => 0)

  test("three seeds: the t interval of the seeds' means, worked by hand", () => {
    // Means .1, .2, .3: mean .2, s = .1, half width 4.302652729749462 * .1 / sqrt(3) = .248414
    const arm = items(3, 2, (seed, prompt) => 0.1 * (seed + 1) + (prompt === 0 ? 0.05 : -0.05))
    const result = comparePaired(arm, zero(3, 2))
    expect(result).toMatchObject({ seeds: 3, prompts: 2, baselineValue: 0, pValue: null })
    expect(result.method).toBe("95 % t interval over 3 seeds' paired mean differences")
    expect(result.difference).toBeCloseTo(0.2, 12)
    expect(result.value).toBeCloseTo(0.2, 12)
    expect(result.low).toBeCloseTo(0.2 - 0.2484138, 6)
    expect(result.high).toBeCloseTo(0.2 + 0.2484138, 6)
  })

  test("under three seeds: prompts only, and it says so; what was held fixed is named", () => {
    const arm = items(2, 50, (_, prompt) => (prompt % 2) * 0.4)
    const result = comparePaired(arm, zero(2, 50), { heldFixed: ["pretrain"] })
    expect(result.method).toBe("95 % bootstrap over prompts only (2 seeds); held fixed over seeds: pretrain")
    expect(result.difference).toBeCloseTo(0.2, 12)
    expect(result.low).toBeGreaterThan(0.12)
    expect(result.high).toBeLessThan(0.28)
    expect(
      comparePaired(
        items(1, 50, () => 1),
        zero(1, 50)
      ).method
    ).toContain("(1 seed)")
  })

  test("a p-value from six seeds on", () => {
    const arm = (seeds: number) => items(seeds, 2, (seed) => 1 + seed)
    expect(comparePaired(arm(5), zero(5, 2)).pValue).toBeNull()
    expect(comparePaired(arm(6), zero(6, 2)).pValue).toBe(2 / 64)
  })

  test("nothing to base it on is null", () => {
    expect(comparePaired([], zero(3, 2))).toMatchObject({ difference: null, low: null, high: null, seeds: 0 })
    const one = comparePaired(
      items(2, 1, () => 1),
      zero(2, 1)
    )
    expect(one).toMatchObject({ difference: 1, low: null, high: null, method: "one prompt: no interval" })
    const partial = comparePaired(
      [
        { seed: 0, prompt: "a", value: Number.NaN },
        { seed: 0, prompt: "b", value: 2 },
        { seed: 0, prompt: "c", value: 4 },
        { seed: 9, prompt: "a", value: 7 }
      ],
      zero(1, 1).concat([
        { seed: 0, prompt: "a", value: 0 },
        { seed: 0, prompt: "b", value: 1 },
        { seed: 0, prompt: "c", value: 1 }
      ])
    )
    expect(partial).toMatchObject({ seeds: 1, prompts: 2, difference: 2 })
    expect(() => comparePaired([...zero(1, 1), ...zero(1, 1)], [])).toThrow(/more than one item/)
  })

  test("pairing removes what seeds and prompts have in common; row order changes nothing", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: -9, max: 9 }), { minLength: 20, maxLength: 20 }), (noise) => {
        const base = items(4, 5, (seed, prompt) => noise[seed * 5 + prompt]!)
        const arm = base.map((item) => ({ ...item, value: item.value + 0.25 }))
        const result = comparePaired(arm, base)
        expect(result.difference).toBeCloseTo(0.25, 12)
        expect(result.low).toBeCloseTo(0.25, 9)
        expect(result.high).toBeCloseTo(0.25, 9)
        expect(comparePaired(arm.toReversed(), base.toReversed())).toEqual(result)
      })
    )
  })

  test("the pieces", () => {
    expect(standardDeviation([1, 2, 3])).toBe(1)
    expect(standardDeviation([1])).toBe(0)
    expect(() => tInterval([1], 0.95)).toThrow(RangeError)
  })
})
