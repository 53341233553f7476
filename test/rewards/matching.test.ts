import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { greedyMatching, maximumMatching, type Similarities, similarities } from "../../src/rewards/matching.ts"

const matrix = (rows: ReadonlyArray<ReadonlyArray<number>>): Similarities => ({
  rows: rows.length,
  columns: rows[0]?.length ?? 0,
  data: rows.flat()
})

/** MBGM word for word as the authors have it, mutual-best test and all. */
const mutualBest = (s: Similarities, threshold: number): Array<[number, number]> => {
  const m: Array<number> = Array.from(s.data)
  const pairs: Array<[number, number]> = []
  const largest = (cells: ReadonlyArray<number>) =>
    Math.max(...cells.map((k) => m[k]!).filter((value) => !Number.isNaN(value)))
  const every = m.map((_, k) => k)
  for (;;) {
    const top = largest(every)
    if (top === -Infinity || top < threshold) return pairs
    const cell = m.indexOf(top)
    const row = Math.floor(cell / s.columns)
    const column = cell % s.columns
    const inRow = every.filter((k) => Math.floor(k / s.columns) === row)
    const inColumn = every.filter((k) => k % s.columns === column)
    if (top === largest(inRow) && top === largest(inColumn)) {
      pairs.push([row, column])
      for (const k of [...inRow, ...inColumn]) m[k] = Number.NaN
    } else m[cell] = Number.NaN
  }
}

/** The greatest number of pairs, by trying everything. */
const optimum = (s: Similarities, threshold: number, row = 0, taken = 0): number => {
  if (row === s.rows) return 0
  let best = optimum(s, threshold, row + 1, taken)
  for (let column = 0; column < s.columns; column++) {
    if (taken & (1 << column) || s.data[row * s.columns + column]! < threshold) continue
    best = Math.max(best, 1 + optimum(s, threshold, row + 1, taken | (1 << column)))
  }
  return best
}

/** Small matrices of multiples of 0.1, so that ties occur. */
const small = fc
  .tuple(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 5 }))
  .chain(([rows, columns]) =>
    fc
      .array(fc.integer({ min: 0, max: 10 }), { minLength: rows * columns, maxLength: rows * columns })
      .map((data): Similarities => ({ rows, columns, data: data.map((value) => value / 10) }))
  )

describe("matching", () => {
  test("greedy takes the greatest first and can pair fewer than is possible", () => {
    // .9 takes row 0 and column 0; what is left, (1, 1) = .1, is under .6. Pairing (0, 1) with (1, 0) gives two.
    const s = matrix([
      [0.9, 0.8],
      [0.7, 0.1]
    ])
    expect(greedyMatching(s, 0.6)).toEqual([{ row: 0, column: 0, similarity: 0.9 }])
    expect(maximumMatching(s, 0.6)).toEqual([
      { row: 0, column: 1, similarity: 0.8 },
      { row: 1, column: 0, similarity: 0.7 }
    ])
  })

  test("ties go to the first cell in row-major order", () => {
    const s = matrix([
      [0.5, 0.9],
      [0.9, 0.9]
    ])
    expect(greedyMatching(s, 0.9).map(({ row, column }) => [row, column])).toEqual([
      [0, 1],
      [1, 0]
    ])
  })

  test("the threshold itself matches, NaN never does, an empty side gives no pair", () => {
    expect(greedyMatching(matrix([[0.7]]), 0.7)).toHaveLength(1)
    expect(greedyMatching(matrix([[Number.NaN]]), 0.7)).toHaveLength(0)
    expect(maximumMatching(matrix([[Number.NaN]]), 0.7)).toHaveLength(0)
    expect(greedyMatching({ rows: 0, columns: 3, data: [] }, 0.7)).toEqual([])
    expect(maximumMatching({ rows: 2, columns: 0, data: [] }, 0.7)).toEqual([])
  })

  test("MBGM is greedy matching: the mutual-best test never refuses", () => {
    fc.assert(
      fc.property(small, (s) => {
        expect(greedyMatching(s, 0.6).map(({ row, column }) => [row, column])).toEqual(mutualBest(s, 0.6))
      }),
      { numRuns: 500 }
    )
  })

  test("maximum matching is optimal, one-to-one, over the threshold; greedy never has more", () => {
    let fewer = 0
    fc.assert(
      fc.property(small, (s) => {
        const best = maximumMatching(s, 0.6)
        expect(best).toHaveLength(optimum(s, 0.6))
        expect(new Set(best.map(({ column }) => column)).size).toBe(best.length)
        expect(best.every(({ similarity }) => similarity >= 0.6)).toBe(true)
        const greedy = greedyMatching(s, 0.6).length
        expect(greedy).toBeLessThanOrEqual(best.length)
        // A maximal matching has at least half of the pairs of a maximum one.
        expect(2 * greedy).toBeGreaterThanOrEqual(best.length)
        if (greedy < best.length) fewer++
      }),
      { numRuns: 500, seed: 1 }
    )
    expect(fewer).toBeGreaterThan(0)
  })

  test("similarities are dot products; different widths are refused with both shapes", () => {
    const a = { rows: 2, width: 2, data: new Float32Array([1, 0, 0, 1]) }
    const b = { rows: 1, width: 2, data: new Float32Array([0.5, 0.25]) }
    expect(Array.from(similarities(a, b).data)).toEqual([0.5, 0.25])
    expect(() => similarities(a, { rows: 1, width: 3, data: [1, 2, 3] })).toThrow(/\[2, 2\].*\[1, 3\]/)
  })
})
