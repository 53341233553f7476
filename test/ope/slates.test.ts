/** Propensities, set probabilities, votes, rewards and bounds, by hand and as properties. */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import * as fc from "fast-check"
import { describe, expect, it } from "vitest"
import { valueBounds } from "../../src/ope/bounds.ts"
import { logPropensities } from "../../src/ope/propensity.ts"
import { logSetProbability } from "../../src/ope/setProbability.ts"
import { checkReward, responseReward, scaleVotes } from "../../src/ope/votes.ts"
import { logWeights } from "../../src/ope/weights.ts"

const probability = fc.double({ min: 0.01, max: 1, noNaN: true })
const sum = (values: ReadonlyArray<number>) => values.reduce((a, b) => a + b, 0)

describe("propensities", () => {
  // e^-2 in 2 tokens, e^-3 in 1
  const two = [
    { logprob: -2, tokens: 2 },
    { logprob: -3, tokens: 1 }
  ]
  it("by hand", () => {
    expect(logPropensities("sequence", two)).toEqual([-2, -3])
    expect(logPropensities("length-normalised", two)).toEqual([-1, -3])
    const mass = Math.log(Math.exp(-1) + Math.exp(-3))
    expect(logPropensities("pool-normalised", two)).toEqual([-1 - mass, -3 - mass])
  })

  it("refuse what has no probability or no tokens", () => {
    expect(() => logPropensities("sequence", [{ logprob: -Infinity, tokens: 1 }])).toThrow(/leave it out/)
    expect(() => logPropensities("sequence", [{ logprob: Number.NaN, tokens: 1 }])).toThrow(/NaN/)
    expect(() => logPropensities("sequence", [{ logprob: -1, tokens: 0 }])).toThrow(/0 tokens/)
  })

  it("are a distribution over the pool where they are normalised to one", () => {
    const scored = fc.record({
      logprob: fc.double({ min: -300, max: 0, noNaN: true }),
      tokens: fc.integer({ min: 1, max: 40 })
    })
    fc.assert(
      fc.property(fc.array(scored, { minLength: 1, maxLength: 6 }), (pool) => {
        expect(sum(logPropensities("pool-normalised", pool).map(Math.exp))).toBeCloseTo(1, 9)
      })
    )
  })
})

describe("set probability", () => {
  it("by hand: two of three without replacement", () => {
    // p = 1/2, 1/4 of a pool with 1/4 left: 1/2 * (1/4)/(1/2) + 1/4 * (1/2)/(3/4) = 1/4 + 1/6
    const logp = [Math.log(1 / 2), Math.log(1 / 4)]
    expect(Math.exp(logSetProbability("plackett-luce", logp))).toBeCloseTo(5 / 12, 12)
    expect(Math.exp(logSetProbability("product", logp))).toBeCloseTo(1 / 8, 12)
  })

  it("equals the sum over all 120 orders", () => {
    const { logProbability, p } = (
      JSON.parse(readFileSync(join(import.meta.dirname, "../golden/ope/estimators.json"), "utf8")) as {
        readonly plackettLuce: { readonly p: ReadonlyArray<number>; readonly logProbability: number }
      }
    ).plackettLuce
    expect(logSetProbability("plackett-luce", p.map(Math.log))).toBeCloseTo(logProbability, 10)
  })

  it("a whole pool is certain, a slate of one has its own probability, order does not matter", () => {
    fc.assert(
      fc.property(fc.array(probability, { minLength: 2, maxLength: 7 }), (weights) => {
        const logp = weights.map((w) => Math.log(w / sum(weights)))
        expect(logSetProbability("plackett-luce", logp)).toBeCloseTo(0, 6)
        expect(logSetProbability("plackett-luce", logp.slice(0, 1))).toBeCloseTo(logp[0]!, 9)
        const part = logp.slice(0, -1)
        expect(logSetProbability("plackett-luce", part.toReversed())).toBeCloseTo(
          logSetProbability("plackett-luce", part),
          9
        )
      })
    )
  })

  it("refuses what is no probability and more than 16", () => {
    expect(() => logSetProbability("plackett-luce", [Math.log(0.7), Math.log(0.6)])).toThrow(/sum to 1.3/)
    expect(() => logSetProbability("plackett-luce", new Array(17).fill(-9))).toThrow(/\[17\] .*at most \[16\]/)
    expect(logSetProbability("product", new Array(17).fill(-1))).toBe(-17)
  })
})

describe("votes and rewards", () => {
  it("scale by hand, with all zero, all equal and one response defined", () => {
    expect(scaleVotes("slate-normalised", [1, 3])).toEqual([0.25, 0.75])
    expect(scaleVotes("slate-normalised", [0, 0])).toEqual([0.5, 0.5])
    expect(scaleVotes("slate-normalised", [7])).toEqual([1])
    expect(scaleVotes("min-max", [2, 4, 3])).toEqual([0, 1, 0.5])
    expect(scaleVotes("min-max", [4, 4])).toEqual([0.5, 0.5])
    expect(scaleVotes("raw", [4, 0])).toEqual([4, 0])
    expect(scaleVotes("rate", [4, 1], [8, 4])).toEqual([0.5, 0.25])
    expect(scaleVotes("relevance", [0.25, 3])).toEqual([0.25, 3])
  })

  it("refuse negative and missing votes, and labels whose votes could not matter", () => {
    expect(() => scaleVotes("raw", [1, -1])).toThrow(/at least 0, not -1/)
    expect(() => scaleVotes("relevance", [0.5, -0.5])).toThrow(/at least 0, not -0.5/)
    expect(() => scaleVotes("raw", [Number.NaN])).toThrow(/not NaN/)
    expect(() => scaleVotes("raw", [])).toThrow(/without responses/)
    expect(() => scaleVotes("rate", [1, 2])).toThrow(/\[2\] votes, \[0\] exposures/)
    expect(() => checkReward({ cu: "label", votes: "slate-normalised" })).toThrow(/whatever the votes/)
  })

  it("reward by hand: p = 1/4, votes 3 of 4 in a slate of two, lambda 2", () => {
    const logp = Math.log(1 / 4)
    const settings = { votes: "slate-normalised", lambda: 2 } as const
    const soft = { ...settings, diversity: "soft-entropy" } as const
    // K * 3/4 * 1/4 + 2 * log 4
    expect(responseReward({ ...soft, cu: "prob" }, 0.75, logp, 2)).toBeCloseTo(0.375 + 2 * Math.log(4), 12)
    // K * 3/4 * -log 4 + 2 * 1/4 log 4
    expect(responseReward({ ...settings, diversity: "p-log-p", cu: "logprob" }, 0.75, logp, 2)).toBeCloseTo(
      -Math.log(4),
      12
    )
    expect(responseReward({ cu: "label", votes: "raw", diversity: "soft-entropy", lambda: 0 }, 3, logp, 2)).toBe(3)
  })

  it("the mean reward of a slate is eq. 3's sum of votes times probabilities", () => {
    const votes = scaleVotes("slate-normalised", [1, 3])
    const p = [0.2, 0.4]
    const settings = { cu: "prob", votes: "slate-normalised", diversity: "soft-entropy", lambda: 0 } as const
    const mean = sum(votes.map((vote, k) => responseReward(settings, vote, Math.log(p[k]!), 2))) / 2
    expect(mean).toBeCloseTo(0.25 * 0.2 + 0.75 * 0.4, 12)
  })
})

describe("weights", () => {
  it("a slate of one has the same weight jointly and by itself; equal policies weigh 1", () => {
    expect(logWeights("joint", "product", [-1], [-3])).toEqual([2])
    expect(logWeights("independent", "product", [-1], [-3])).toEqual([2])
    expect(logWeights("joint", "plackett-luce", [-1], [-3])[0]).toBeCloseTo(2, 12)
    for (const set of ["product", "plackett-luce"] as const) {
      expect(logWeights("joint", set, [-1, -2, -4], [-1, -2, -4])).toEqual([0])
    }
    expect(() => logWeights("joint", "product", [-1], [-1, -2])).toThrow(/\[1\] .* \[2\]/)
  })
})

describe("bounds of theorem 4.1", () => {
  const response = fc.record({
    logWeight: fc.double({ min: -2, max: 2, noNaN: true }),
    utility: fc.double({ min: 0, max: 2, noNaN: true }),
    diversity: fc.double({ min: 0, max: 3, noNaN: true })
  })
  const slate = fc.array(response, { minLength: 1, maxLength: 5 }).map((list) => ({
    logWeights: list.map(({ logWeight }) => logWeight),
    utility: list.map(({ utility }) => utility),
    diversity: list.map(({ diversity }) => diversity)
  }))

  it("hold, in this order", () => {
    fc.assert(
      fc.property(fc.array(slate, { minLength: 1, maxLength: 4 }), (slates) => {
        const { bound1, bound2, value } = valueBounds(slates)
        expect(bound1).toBeLessThanOrEqual(value * (1 + 1e-12))
        expect(bound2).toBeLessThanOrEqual(bound1 * (1 + 1e-12))
      }),
      { numRuns: 2000, seed: 1 }
    )
  })

  it("the first is tight where all rewards of a slate are equal, and only there; the second where both parts are too", () => {
    const equal = valueBounds([{ logWeights: [0.3, -1], utility: [1, 1], diversity: [1, 1] }])
    expect(equal.bound1).toBeCloseTo(equal.value, 12)
    expect(equal.bound2).toBeCloseTo(equal.value, 12)
    const unequal = valueBounds([{ logWeights: [0, 0], utility: [1, 2], diversity: [0, 0] }])
    // mean 1.5 against the geometric mean
    expect(unequal).toMatchObject({ value: 1.5, bound2: 0 })
    expect(unequal.bound1).toBeCloseTo(Math.sqrt(2), 12)
    expect(() => valueBounds([{ logWeights: [0], utility: [-1], diversity: [0] }])).toThrow(/not for -1/)
    expect(() => valueBounds([{ logWeights: [0], utility: [], diversity: [0] }])).toThrow(/\[1\] weights has \[0\]/)
  })
})
