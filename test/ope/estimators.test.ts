/** Estimators against Open Bandit Pipeline's formulas (numpy), by hand, by their reductions, and in degenerate cases. */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import * as fc from "fast-check"
import { describe, expect, it } from "vitest"
import {
  type EstimatorName,
  type EstimatorSettings,
  estimate,
  estimatorNames,
  type Round,
  valueOf
} from "../../src/ope/estimators.ts"
import { weightReport } from "../../src/ope/weights.ts"

const golden = JSON.parse(readFileSync(join(import.meta.dirname, "../golden/ope/estimators.json"), "utf8")) as Record<
  EstimatorName,
  number
> &
  Record<"logWeight" | "reward" | "model" | "direct", ReadonlyArray<number>> & {
    readonly settings: EstimatorSettings
    readonly ess: number
    readonly max: number
  }

/** A query a round. */
const rounds = (columns: { readonly [K in "logWeight" | "reward" | "model" | "direct"]: ReadonlyArray<number> }) =>
  columns.logWeight.map((logWeight, query): Round => {
    const at = (name: "reward" | "model" | "direct") => columns[name][query]!
    return { query, share: 1, logWeight, reward: at("reward"), model: at("model"), direct: at("direct") }
  })

/** A stand-in for a random stream: every resample is the sample itself. */
const inTurn = (queries: number) => {
  let k = 0
  return () => (k++ % queries) / queries
}

describe("estimators", () => {
  it.each(estimatorNames)("%s equals Open Bandit Pipeline's formula", (name) => {
    expect(valueOf(name, rounds(golden), golden.settings)).toBeCloseTo(golden[name], 12)
    const { perQuery, value } = estimate(
      name,
      rounds(golden),
      { uniform: inTurn(golden.reward.length) },
      golden.settings
    )
    expect(perQuery.reduce((a, b) => a + b, 0) / perQuery.length).toBeCloseTo(value, 12)
  })

  it("reports effective sample size and largest weight as numpy does", () => {
    const report = weightReport(golden.logWeight, 1.5)
    expect(report.ess).toBeCloseTo(golden.ess, 10)
    expect(report.max).toBeCloseTo(golden.max, 10)
    expect(report.clipped).toBe(golden.logWeight.filter((x) => x > Math.log(1.5)).length / 12)
  })

  it("by hand: weights 2 and 1/2, rewards 1 and 3, model 1 and 2 of what was logged, 1.5 and 2.5 expected", () => {
    const two = rounds({
      logWeight: [Math.log(2), -Math.log(2)],
      reward: [1, 3],
      model: [1, 2],
      direct: [1.5, 2.5]
    })
    const settings = { clip: 1, switch: 1, shrinkage: 1 }
    const expected: Record<EstimatorName, number> = {
      ips: 1.75, //          (2 * 1 + .5 * 3) / 2
      ips_clipped: 1.25, //  (1 * 1 + .5 * 3) / 2
      snips: 1.4, //         3.5 / 2.5
      dm: 2, //              (1.5 + 2.5) / 2
      dr: 2.25, //           2 + (2 * 0 + .5 * 1) / 2
      sndr: 2.2, //          2 + .5 / 2.5
      switch_dr: 2.25, //    the weight of 2 is left out, and its residual is 0
      dros: 2.2 //           w' = 1 * .5 / (.25 + 1) = .4; 2 + .4 / 2
    }
    for (const name of estimatorNames) expect(valueOf(name, two, settings)).toBeCloseTo(expected[name], 12)
  })

  const round = fc.record({
    logWeight: fc.double({ min: -4, max: 4, noNaN: true }),
    reward: fc.double({ min: 0, max: 2, noNaN: true }),
    model: fc.double({ min: 0, max: 2, noNaN: true }),
    direct: fc.double({ min: 0, max: 2, noNaN: true })
  })
  const logs = fc.array(round, { minLength: 1, maxLength: 8 })
  const asRounds = (list: ReadonlyArray<Omit<Round, "query" | "share">>) =>
    list.map((one, query) => ({ ...one, query, share: 1 }))

  it("equal policies: every weight is 1 and every importance estimate is the mean reward", () => {
    fc.assert(
      fc.property(logs, (list) => {
        const same = asRounds(list.map((one) => ({ ...one, logWeight: 0, direct: one.model })))
        const mean = list.reduce((sum, { reward }) => sum + reward, 0) / list.length
        for (const name of ["ips", "ips_clipped", "snips", "dr", "sndr", "switch_dr"] as const) {
          expect(valueOf(name, same)).toBeCloseTo(mean, 9)
        }
      })
    )
  })

  it("with an exact model the weights have no say in DR; no clip is IPS; no shrinkage is the direct method", () => {
    fc.assert(
      fc.property(logs, (list) => {
        const exact = asRounds(list.map((one) => ({ ...one, reward: one.model })))
        for (const name of ["dr", "sndr", "switch_dr", "dros"] as const) {
          expect(valueOf(name, exact)).toBeCloseTo(valueOf("dm", exact), 9)
        }
        const all = asRounds(list)
        const free = { clip: Infinity, switch: Infinity, shrinkage: 1e15 }
        expect(valueOf("ips_clipped", all, free)).toBeCloseTo(valueOf("ips", all), 9)
        expect(valueOf("switch_dr", all, free)).toBeCloseTo(valueOf("dr", all), 9)
        expect(valueOf("dros", all, free)).toBeCloseTo(valueOf("dr", all), 6)
        expect(valueOf("dros", all, { ...free, shrinkage: 0 })).toBeCloseTo(valueOf("dm", all), 9)
        // SNIPS does not change with the weights' scale, IPS does.
        const heavier = all.map((one) => ({ ...one, logWeight: one.logWeight + 2 }))
        expect(valueOf("snips", heavier)).toBeCloseTo(valueOf("snips", all), 9)
      })
    )
  })

  it("a query's rounds share its weight: two halves are one round of their mean", () => {
    const base = { query: 0, model: 0, direct: 0 }
    const halves = [
      { ...base, share: 0.5, logWeight: 0, reward: 1 },
      { ...base, share: 0.5, logWeight: Math.log(3), reward: 2 },
      { ...base, query: 1, share: 1, logWeight: 0, reward: 4 }
    ]
    // ((1 + 6) / 2 + 4) / 2; self-normalised: (3.5 + 4) / (2 + 1)
    expect(valueOf("ips", halves)).toBeCloseTo(3.75, 12)
    expect(valueOf("snips", halves)).toBeCloseTo(2.5, 12)
    expect(() => valueOf("ips", halves.slice(1))).toThrow(/shares of 0.5, not 1/)
    expect(() => valueOf("ips", [])).toThrow(/at least one round/)
  })

  it("weights that overflow are cut off and said; self-normalised estimates do not mind; those that vanish give 0", () => {
    const huge = rounds({ logWeight: [2000, 1000], reward: [1, 0], model: [0, 0], direct: [0, 0] })
    expect(valueOf("ips", huge)).toBe(Math.exp(300) / 2)
    expect(valueOf("snips", huge)).toBe(1)
    expect(valueOf("ips_clipped", huge)).toBe(5)
    expect(weightReport([2000, 1000], 10)).toMatchObject({ overflowed: 1, clipped: 1, ess: 1 })
    const none = rounds({ logWeight: [-2000, -2001], reward: [1, 0], model: [0, 0], direct: [0, 0] })
    expect(valueOf("ips", none)).toBe(0)
    expect(valueOf("dros", none)).toBe(0)
    expect(valueOf("snips", none)).toBeCloseTo(1 / (1 + Math.exp(-1)), 12)
  })

  it("intervals hold the value, shrink with more queries, and are the value itself with one", () => {
    const list = Array.from({ length: 64 }, (_, k) => ({
      query: k,
      share: 1,
      logWeight: 0,
      reward: k % 2,
      model: 0,
      direct: 0
    }))
    let state = 1
    const uniform = () => {
      state = (state * 48271) % 2147483647
      return state / 2147483647
    }
    const width = (rows: ReadonlyArray<Round>) => {
      const { high, low, value } = estimate("ips", rows, { uniform, resamples: 400 })
      expect(low).toBeLessThan(value)
      expect(high).toBeGreaterThan(value)
      return high - low
    }
    expect(width(list)).toBeLessThan(width(list.slice(0, 16)))
    expect(estimate("snips", list.slice(0, 1), { uniform })).toMatchObject({ low: 0, high: 0, value: 0 })
  })
})
