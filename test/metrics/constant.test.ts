import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { bestLines, crossFitted } from "../../src/metrics/constant.ts"
import { pluralisticCoverage } from "../../src/metrics/pope.ts"
import { oneHot } from "./rows.ts"

describe("the best constant lines", () => {
  test("by hand: greedy takes what adds most to the mean coverage, and stops where nothing does", () => {
    // Windows {0, 1}, {0, 2, 3}, {1}. Gains at first: 0: 1/2 + 1/3, 1: 1/2 + 1 = 1.5, 2: 1/3. Then 0: 5/6, 2: 1/3; then 2; 3.
    const windows = [oneHot([0, 1]), oneHot([0, 2, 3]), oneHot([1])]
    const pool = oneHot([0, 1, 2, 5, 3])
    expect(bestLines(windows, pool, 2, 0.9)).toEqual([1, 0])
    expect(bestLines(windows, pool, 9, 0.9)).toEqual([1, 0, 2, 4])
    expect(bestLines(windows, pool, 9, 1.1)).toEqual([])
    expect(bestLines([], pool, 3, 0.5)).toEqual([])
    expect(bestLines(windows, oneHot([]), 3, 0.5)).toEqual([])
  })

  test("the first line is the best single one, and more lines never cover less", () => {
    const window = fc.uniqueArray(fc.nat(5), { minLength: 1, maxLength: 4 })
    fc.assert(
      fc.property(fc.array(window, { minLength: 1, maxLength: 5 }), (sets) => {
        const windows = sets.map((set) => oneHot(set))
        const pool = oneHot([0, 1, 2, 3, 4, 5])
        const worth = (lines: ReadonlyArray<number>) =>
          windows.reduce((sum, one) => sum + pluralisticCoverage(one, oneHot(lines), 0.9), 0)
        const chosen = bestLines(windows, pool, 6, 0.9)
        expect(worth(chosen.slice(0, 1))).toBeCloseTo(Math.max(...[0, 1, 2, 3, 4, 5].map((k) => worth([k]))), 12)
        for (let n = 1; n < chosen.length; n++)
          expect(worth(chosen.slice(0, n + 1))).toBeGreaterThan(worth(chosen.slice(0, n)))
        expect(worth(chosen)).toBeCloseTo(windows.length, 12)
      })
    )
  })
})

describe("cross-fitting", () => {
  test("an even window is measured with what odd ones have in common, and the other way round", () => {
    // Even windows are about 0 and 1, odd ones about 2 (twice) and 3; two references each: two lines.
    const windows = [oneHot([0, 1]), oneHot([2, 3]), oneHot([0, 1]), oneHot([2, 4])]
    const [even, odd] = crossFitted(windows, 0.9)
    const said = (places: typeof even) => places.map(({ row, window }) => [window, row])
    expect(said(even)).toEqual([
      [1, 0],
      [1, 1]
    ])
    expect(said(odd)).toEqual([
      [0, 0],
      [0, 1]
    ])
  })
  test("a single window has nothing to be measured with", () => {
    expect(crossFitted([oneHot([0])], 0.5)[0]).toEqual([])
    expect(crossFitted([], 0.5)).toEqual([[], []])
  })
})
