import { readFileSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { overlongPenalty } from "../../src/rewards/overlong.ts"
import { centredReturns, returnsToGo, whiten } from "../../src/rewards/returns.ts"
import { root } from "../support/imports.ts"

const rows = (values: ReadonlyArray<ArrayLike<number>>) => values.map((row) => Array.from(row, (x) => +x.toFixed(12)))

describe("returns", () => {
  it("to go: the reward at the last token, penalties at theirs, discounted backwards", () => {
    // gamma 1/2: last 1 - .2 = .8; before it -.1 + .4 = .3; first 0 + .15 = .15
    expect(rows(returnsToGo([1, 3], [3, 1], { gamma: 0.5, penalties: [[0, 0.1, 0.2], [1]] }))).toEqual([
      [0.15, 0.3, 0.8],
      [2]
    ])
    expect(rows(returnsToGo([1, 3], [3, 1], { gamma: 1 }))).toEqual([[1, 1, 1], [3]])
  })

  it("whitened over tokens: a row of three weighs three times", () => {
    // 1, 1, 1, 5: mean 2, variance (3 + 9) / 3 = 4
    expect(rows(whiten(returnsToGo([1, 5], [3, 1], { gamma: 1 }), 0))).toEqual([[-0.5, -0.5, -0.5], [1.5]])
    expect(rows(whiten([Float64Array.of(2, 2), Float64Array.of(2)], 1e-6))).toEqual([[0, 0], [0]])
  })

  it("with a baseline: the group's mean first", () => {
    // groups (1, 3) and (5, 5), lengths 1, 1, 2, 2: centred -1, 1, 0, 0, 0, 0; variance 2 / 5
    const found = whiten(centredReturns([1, 3, 5, 5], 2, [1, 1, 2, 2]), 0)
    expect(rows(found)).toEqual(rows([[-Math.sqrt(2.5)], [Math.sqrt(2.5)], [0, 0], [0, 0]]))
  })

  it("unscorable rows leave mean and deviation, and get 0; so do batches in which none is scorable", () => {
    expect(rows(whiten(returnsToGo([1, Number.NaN, 3], [1, 2, 1], { gamma: 1 }), 0))).toEqual([
      [+(-Math.SQRT1_2).toFixed(12)],
      [0, 0],
      [+Math.SQRT1_2.toFixed(12)]
    ])
    expect(rows(whiten(centredReturns([1, Number.NaN, 3, 4], 2, [1, 2, 1, 1]), 0))).toEqual([[0], [0, 0], [-1], [1]])
    expect(rows(whiten(returnsToGo([Number.NaN], [2], { gamma: 1 }), 1e-6))).toEqual([[0, 0]])
  })

  it("equal PyTorch's (verl's masked_whiten), with a KL in the reward", () => {
    const file = join(root, "test/golden/objectives/policyGradient.json")
    const { logp, mask, ref, returns, shape } = JSON.parse(readFileSync(file, "utf8"))
    const lengths = Array.from({ length: shape[0] }, (_, row) =>
      mask.slice(row * shape[1], (row + 1) * shape[1]).reduce((a: number, b: number) => a + b, 0)
    )
    const penalties = lengths.map((length, row) =>
      Array.from({ length }, (_, t) => returns.klCoefficient * (logp[row * shape[1] + t] - ref[row * shape[1] + t]))
    )
    for (const [gamma, expected] of [
      [1, returns.one],
      [0.9, returns.most]
    ]) {
      const found = whiten(returnsToGo(returns.rewards, lengths, { gamma, penalties }), returns.epsilon)
      found.forEach((row, i) => {
        row.forEach((value, t) => {
          expect(value).toBeCloseTo(expected[i * shape[1] + t], 9)
        })
      })
    }
  })

  it("shapes that do not fit are refused", () => {
    expect(() => returnsToGo([1], [1, 2], { gamma: 1 })).toThrow(RangeError)
    expect(() => returnsToGo([1], [2], { gamma: 1, penalties: [[0]] })).toThrow(/row 0/)
  })
})

describe("overlong penalty", () => {
  it("0 up to limit - buffer, then down to -weight at the limit", () => {
    // limit 20, buffer 4: 16 -> 0, 17 -> -1/4, 18 -> -1/2, 20 -> -1
    expect([1, 16, 17, 18, 20, 25].map((length) => overlongPenalty(length, 20, 4))).toEqual([0, 0, -0.25, -0.5, -1, -1])
    expect(overlongPenalty(18, 20, 4, 0.5)).toBe(-0.25)
    expect(() => overlongPenalty(1, 20, 21)).toThrow(RangeError)
    expect(() => overlongPenalty(1, 20, 0)).toThrow(RangeError)
  })
})
