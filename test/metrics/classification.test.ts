import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { agreementAt, calibrateThreshold, classAgreement, tripletAccuracy } from "../../src/metrics/classification.ts"

describe("classification", () => {
  test("triplet accuracy; a tie is wrong", () => {
    expect(tripletAccuracy([0.9, 0.5, 0.2], [0.1, 0.5, 0.3])).toBeCloseTo(1 / 3, 12)
    expect(() => tripletAccuracy([1], [])).toThrow(/\[1\].*\[0\]/)
  })

  test("agreement at a threshold", () => {
    // At .5: said same .5, .7, .9; truly same .4, .7, .9: hits 2, precision 2/3, recall 2/3, accuracy 3/5.
    const judged = { similarities: [0.1, 0.4, 0.5, 0.7, 0.9], same: [false, true, false, true, true] }
    const at = agreementAt(judged, 0.5)
    expect(at.accuracy).toBeCloseTo(3 / 5, 12)
    expect([at.precision, at.recall, at.f1]).toEqual([2 / 3, 2 / 3, 2 / 3])
    expect(agreementAt(judged, 2)).toMatchObject({ accuracy: 2 / 5, precision: 0, recall: 0, f1: 0 })
  })

  test("calibration: by accuracy the gap below .7, by F1 the gap below .4", () => {
    // Accuracy is 4/5 at (.1, .4) and at (.5, .7); the wider gap is (.1, .4): 4 right there too. F1 there is 6/7.
    const judged = { similarities: [0.1, 0.4, 0.5, 0.7, 0.9], same: [false, true, false, true, true] }
    expect(calibrateThreshold(judged, "accuracy")).toMatchObject({ threshold: 0.25, accuracy: 0.8 })
    expect(calibrateThreshold(judged, "f1").threshold).toBe(0.25)
    expect(calibrateThreshold(judged, "f1").f1).toBeCloseTo(6 / 7, 12)
  })

  test("judgements that are all alike put the threshold outside", () => {
    const similarities = [0.2, 0.6]
    expect(calibrateThreshold({ similarities, same: [true, true] }, "accuracy").threshold).toBeLessThan(0.2)
    expect(calibrateThreshold({ similarities, same: [false, false] }, "accuracy").threshold).toBeGreaterThan(0.6)
    expect(() => calibrateThreshold({ similarities: [], same: [] }, "f1")).toThrow(RangeError)
    expect(() => calibrateThreshold({ similarities: [Number.NaN], same: [true] }, "f1")).toThrow(/NaN/)
  })

  test("no threshold does better than the calibrated one, and its score is what it says", () => {
    const rows = fc.array(fc.tuple(fc.integer({ min: 0, max: 9 }), fc.boolean()), { minLength: 1, maxLength: 12 })
    fc.assert(
      fc.property(rows, fc.constantFrom("accuracy" as const, "f1" as const), (pairs, by) => {
        const judged = { similarities: pairs.map(([k]) => k / 10), same: pairs.map(([, same]) => same) }
        const best = calibrateThreshold(judged, by)
        expect(agreementAt(judged, best.threshold)).toEqual(best)
        for (let k = -1; k <= 10; k++)
          expect(agreementAt(judged, k / 10 + 0.05)[by]).toBeLessThanOrEqual(best[by] + 1e-12)
      })
    )
  })

  test("accuracy and macro-F1 of classes", () => {
    // a: hits 1, said 2, true 1 -> 2/3; b: hits 1, said 1, true 2 -> 2/3
    const { accuracy, macroF1 } = classAgreement(["a", "a", "b"], ["a", "b", "b"])
    expect(accuracy).toBeCloseTo(2 / 3, 12)
    expect(macroF1).toBeCloseTo(2 / 3, 12)
  })
})
