import { it } from "@effect/vitest"
import * as fc from "fast-check"
import { expect } from "vitest"
import { firstVisits, stepRows } from "../../src/stages/order.ts"

const sizes = fc.record({
  seed: fc.integer({ min: 0, max: 1000 }),
  count: fc.integer({ min: 1, max: 40 }),
  size: fc.integer({ min: 1, max: 50 })
})

it("rows of a step are distinct, and no two steps of a pass share one", () => {
  fc.assert(
    fc.property(sizes, fc.integer({ min: 0, max: 3 }), ({ count, seed, size }, pass) => {
      const taken = Math.min(count, size)
      const steps = Math.floor(count / taken)
      const rowsOf = stepRows(seed, "test", count, size)
      const seen = Array.from({ length: steps }, (_, i) => rowsOf(pass * steps + i)).flat()
      expect(seen).toHaveLength(steps * taken)
      expect(new Set(seen).size).toBe(seen.length)
      expect(seen.every((row) => row >= 0 && row < count)).toBe(true)
    })
  )
})

it("depends on seed, purpose and step alone, in whatever order steps are asked for", () => {
  fc.assert(
    fc.property(sizes, fc.array(fc.integer({ min: 0, max: 60 }), { maxLength: 8 }), ({ count, seed, size }, steps) => {
      const one = stepRows(seed, "test", count, size)
      for (const step of steps) expect(one(step)).toEqual(stepRows(seed, "test", count, size)(step))
    })
  )
  const rows = (seed: number, purpose: string) => [0, 1, 2].map(stepRows(seed, purpose, 100, 10))
  expect(rows(0, "a")).not.toEqual(rows(1, "a"))
  expect(rows(0, "a")).not.toEqual(rows(0, "b"))
})

it("a short last batch is dropped, and every pass is a new permutation", () => {
  // 10 rows, 4 a step: a pass has 2 steps, 2 rows are left out.
  const rowsOf = stepRows(3, "test", 10, 4)
  const passes = [0, 1, 2, 3].map((pass) => [...rowsOf(2 * pass), ...rowsOf(2 * pass + 1)])
  for (const rows of passes) expect(new Set(rows).size).toBe(8)
  expect(new Set(passes.map(String)).size).toBe(4)
  // No row is left out for good.
  expect(new Set(passes.flat()).size).toBe(10)
})

it("fewer rows than a step asks for are taken whole; none are refused", () => {
  expect([...stepRows(0, "test", 3, 8)(5)].sort()).toEqual([0, 1, 2])
  expect(() => stepRows(0, "test", 0, 8)).toThrow(/test.*no rows/)
})

it("first visits: every row that is visited, once; those of fewer steps first", () => {
  fc.assert(
    fc.property(
      sizes,
      fc.integer({ min: 0, max: 30 }),
      fc.integer({ min: 0, max: 30 }),
      ({ count, seed, size }, n, m) => {
        const rowsOf = stepRows(seed, "test", count, size)
        const all = firstVisits(n + m, rowsOf)
        expect(all.slice(0, n)).toEqual(firstVisits(n, rowsOf))
        const visited = Array.from({ length: n + m }, (_, k) => rowsOf(k)).flat()
        expect([...all.flat()].sort((a, b) => a - b)).toEqual([...new Set(visited)].sort((a, b) => a - b))
      }
    )
  )
})
