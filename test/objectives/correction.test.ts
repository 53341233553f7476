/** Importance weights between what drew the answers and the policy that is trained. */
import { assert, describe, it } from "@effect/vitest"
import { importanceWeights } from "../../src/objectives/correction.ts"
import { closeAll } from "./policyGradientCases.ts"

describe("importance weights", () => {
  const l = Math.log(2)
  // Ratios 2, 1/2, 4 and 8: rows with products 4 and 8.
  const trainer = [[-1, -1, -1], [-1]]
  const drawn = [[-1 - l, -1 + l, -1 - 2 * l], [-1 - 3 * l]]
  const find = (kind: "truncate" | "mask", level: "token" | "sequence", cap: number, floor = 0) =>
    importanceWeights(trainer, drawn, { kind, level, cap, floor })
  const weights = (found: ReturnType<typeof find>) => found.weights.map((row) => Array.from(row, (x) => +x.toFixed(12)))

  it("by token and by row, truncated and masked", () => {
    assert.deepStrictEqual(weights(find("truncate", "token", 3)), [[2, 0.5, 3], [3]])
    assert.deepStrictEqual(weights(find("mask", "token", 3, 0.6)), [[2, 0, 0], [0]])
    assert.deepStrictEqual(weights(find("truncate", "sequence", 5)), [[4, 4, 4], [5]])
    assert.deepStrictEqual(weights(find("mask", "sequence", 5)), [[4, 4, 4], [0]])
    const { cut, max, mean, min } = find("mask", "sequence", 5)
    closeAll([cut, mean, min, max], [0.25, 6, 4, 8])
    closeAll([find("truncate", "token", 3).cut, find("truncate", "token", 3).mean], [0.5, 14.5 / 4])
  })

  it("equal distributions have weights of exactly 1; overflow is cut; rows that differ are refused", () => {
    assert.deepStrictEqual(weights(importanceWeights(trainer, trainer, { kind: "mask", level: "sequence", cap: 1 })), [
      [1, 1, 1],
      [1]
    ])
    const far = importanceWeights([[0]], [[-2000]], { kind: "truncate", level: "token", cap: 3 })
    assert.deepStrictEqual([weights(far), far.max], [[[3]], Number.POSITIVE_INFINITY])
    assert.throws(
      () => importanceWeights(trainer, drawn.slice(1), { kind: "mask", level: "token", cap: 1 }),
      RangeError
    )
    assert.throws(() => importanceWeights([[1, 2]], [[1]], { kind: "mask", level: "token", cap: 1 }), /row 0/)
  })
})
