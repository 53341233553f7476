/** The algebra of dimensions. */
import fc from "fast-check"
import { describe, expect, test } from "vitest"
import type { Dim } from "../../src/tensor/Dim.ts"
import {
  addDims,
  broadcastShapes,
  ceilDivideDims,
  dimNames,
  dimText,
  divideDims,
  equalDims,
  evaluateDim,
  multiplyDims,
  namedDim,
  substituteDim,
  subtractDims,
  toDim,
  toShape
} from "../../src/tensor/Dim.ts"

const bindings = { batch: 3, time: 5, past: 7 }
const { dim } = fc.letrec<{ dim: Dim }>((tie) => ({
  dim: fc.oneof(
    { maxDepth: 4 },
    fc.integer({ min: 0, max: 9 }),
    fc.constantFrom("batch", "time", "past").map(namedDim),
    fc.tuple(tie("dim"), tie("dim")).map(([a, b]) => addDims(a, b)),
    fc.tuple(tie("dim"), tie("dim")).map(([a, b]) => multiplyDims(a, b))
  )
}))

describe("dimensions", () => {
  test("sums and products evaluate as numbers do", () => {
    fc.assert(
      fc.property(dim, dim, (a, b) => {
        const [x, y] = [evaluateDim(a, bindings), evaluateDim(b, bindings)]
        expect(evaluateDim(addDims(a, b), bindings)).toBe(x + y)
        expect(evaluateDim(multiplyDims(a, b), bindings)).toBe(x * y)
        expect(evaluateDim(subtractDims(addDims(a, b), b), bindings)).toBe(x)
      })
    )
  })

  test("equal polynomials have one form", () => {
    fc.assert(
      fc.property(dim, dim, dim, (a, b, c) => {
        const left = multiplyDims(addDims(a, b), c)
        const right = addDims(multiplyDims(c, b), multiplyDims(a, c))
        expect(dimText(left)).toBe(dimText(right))
        expect(equalDims(subtractDims(left, right), 0)).toBe(true)
      })
    )
  })

  test("division by a factor undoes multiplication", () => {
    fc.assert(
      fc.property(dim, fc.constantFrom<readonly string[]>([], ["batch"], ["batch", "time"]), (a, names) => {
        const factor = names.reduce<Dim>(multiplyDims, 4)
        expect(equalDims(divideDims(multiplyDims(a, factor), factor), a)).toBe(true)
      })
    )
  })

  test("what does not divide is refused", () => {
    expect(() => divideDims(addDims("batch", 1), "batch")).toThrow("batch does not divide batch+1")
    expect(() => divideDims(multiplyDims("batch", 3), 2)).toThrow(RangeError)
  })

  test("text, names, substitution", () => {
    const area = addDims(multiplyDims("time", multiplyDims(2, "batch")), subtractDims("past", 1))
    expect(dimText(area)).toBe("2*batch*time+past-1")
    expect(dimNames(area)).toEqual(["batch", "past", "time"])
    expect(dimText(substituteDim(area, { batch: 4, past: "time" }))).toBe("9*time-1")
    expect(evaluateDim(area, bindings)).toBe(36)
    expect(() => evaluateDim(area, { batch: 1, time: 1 })).toThrow("bind past")
  })

  test("chunks: counted when sizes are known", () => {
    const tokens = multiplyDims("batch", "time")
    const trips = ceilDivideDims(tokens, 4)
    const rows = ceilDivideDims(tokens, trips)
    expect(dimText(trips)).toBe("ceil(batch*time/4)")
    expect(dimText(rows)).toBe("ceil(batch*time/(ceil(batch*time/4)))")
    // 15 tokens in 4 chunks of 4
    expect([evaluateDim(trips, bindings), evaluateDim(rows, bindings)]).toEqual([4, 4])
    expect(ceilDivideDims(multiplyDims("batch", 6), 3)).toEqual(multiplyDims("batch", 2))
    expect(ceilDivideDims(7, 2)).toBe(4)
    expect(() => ceilDivideDims(7, 0)).toThrow(RangeError)
  })

  test("broadcasting", () => {
    expect(broadcastShapes(toShape(["batch", 1, 3]), toShape(["time", 1]))).toEqual(toShape(["batch", "time", 3]))
    expect(broadcastShapes(toShape(["batch"]), toShape(["time"]))).toBeUndefined()
    expect(broadcastShapes([], toShape(["batch"]))).toEqual(toShape(["batch"]))
  })

  test("what is no dimension is refused", () => {
    for (const wrong of [-1, 1.5, Number.NaN, "two words", ""]) expect(() => toDim(wrong)).toThrow(RangeError)
  })
})
