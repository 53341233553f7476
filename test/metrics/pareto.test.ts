import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { envelope, hypervolume, type Point } from "../../src/metrics/pareto.ts"

const at = (x: number, y: number): Point => ({ x, y })

test("by hand: three of five points stand on the envelope; areas add up in strips", () => {
  const points = [at(1, 5), at(3, 3), at(2, 2), at(4, 1), at(3, 2)]
  expect(envelope(points)).toEqual([0, 1, 3])
  // above (0, 0): 4 * 1 + 3 * (3 - 1) + 1 * (5 - 3) = 12
  expect(hypervolume(points, at(0, 0))).toBe(12)
  // above (2, 1): only (3, 3) and (3, 2) are better in both: 1 * 2
  expect(hypervolume(points, at(2, 1))).toBe(2)
})

test("nothing, nothing better, doubles, and coordinates that are not finite", () => {
  expect(envelope([])).toEqual([])
  expect(hypervolume([], at(0, 0))).toBe(0)
  expect(hypervolume([at(0, 9), at(9, 0)], at(0, 0))).toBe(0)
  expect(envelope([at(1, 1), at(1, 1), at(Number.NaN, 7), at(7, Number.POSITIVE_INFINITY)])).toEqual([0])
  expect(() => hypervolume([], at(Number.NaN, 0))).toThrow(RangeError)
})

const points = fc.array(fc.record({ x: fc.integer({ min: 0, max: 6 }), y: fc.integer({ min: 0, max: 6 }) }), {
  maxLength: 7
})

describe("properties, on a grid where both can be counted", () => {
  test("no point is dominated by another, each left out is dominated or doubled", () => {
    const dominates = (a: Point, b: Point) => a.x >= b.x && a.y >= b.y && (a.x > b.x || a.y > b.y)
    fc.assert(
      fc.property(points, (list) => {
        const kept = envelope(list)
        list.forEach((point, i) => {
          const beaten = list.some((other) => dominates(other, point))
          const doubled = list.findIndex(({ x, y }) => x === point.x && y === point.y) < i
          expect(kept.includes(i)).toBe(!beaten && !doubled)
        })
      })
    )
  })
  test("the area is the number of unit cells under some point, whatever the order", () => {
    fc.assert(
      fc.property(points, (list) => {
        let cells = 0
        for (let x = 0; x < 6; x++) for (let y = 0; y < 6; y++) if (list.some((p) => p.x > x && p.y > y)) cells++
        expect(hypervolume(list, at(0, 0))).toBe(cells)
        expect(hypervolume(list.toReversed(), at(0, 0))).toBe(cells)
      })
    )
  })
})
