import fc from "fast-check"
import { describe, expect, test } from "vitest"
import {
  decomposedAdvantages,
  groupAdvantages,
  groupsVary,
  leaveOneOutAdvantages,
  type RowAdvantage,
  rowAdvantages
} from "../../src/rewards/advantage.ts"

const close = (actual: ArrayLike<number>, expected: ReadonlyArray<number>, digits = 4) => {
  expect(actual.length).toBe(expected.length)
  expected.forEach((value, i) => {
    expect(actual[i]).toBeCloseTo(value, digits)
  })
}

describe("advantages", () => {
  // Two groups of two completions with two rewards: A (0, 0), (1, 0) and B (0, 0), (1, 1).
  const first = { weight: 1, values: [0, 1, 0, 1] }
  const second = { weight: 1, values: [0, 0, 0, 1] }
  const total = [0, 1, 0, 2]
  const options = { groupSize: 2, epsilon: 1e-4 }

  test("GRPO loses the extra reward: A .5/(.70711 + 1e-4), B 1/(1.41421 + 1e-4)", () => {
    close(groupAdvantages(total, options), [-0.70701, 0.70701, -0.70706, 0.70706], 5)
  })

  test("GDPO keeps it: -+.7070 and -+1.4140 over the batch's 1.2909", () => {
    // Unbiased: sqrt((2 * .7070^2 + 2 * 1.4140^2) / 3) = 1.29086
    close(decomposedAdvantages([first, second], options), [-0.5477, 0.5477, -1.0954, 1.0954], 4)
  })

  test("with one reward GDPO is GRPO, up to the batch's scale", () => {
    const one = groupAdvantages(total, options)
    const two = decomposedAdvantages([{ weight: 1, values: total }], options)
    const ratio = two[0]! / one[0]!
    one.forEach((value, i) => {
      expect(two[i]).toBeCloseTo(value * ratio, 10)
    })
  })

  test("the kind is chosen by name", () => {
    const by = (how: RowAdvantage) => Array.from(rowAdvantages(total, 2, how))
    expect(by({ kind: "group", epsilon: 1e-4 })).toEqual(Array.from(groupAdvantages(total, options)))
    // batch of 0, 1, 0, 2: mean .75, variance (.5625 + .0625 + .5625 + 1.5625) / 3 = .91667
    close(by({ kind: "batch", epsilon: 0 }), [-0.52223, 0.52223, -1.04447, 1.04447], 5)
    expect(by({ kind: "centred" })).toEqual([-0.5, 0.5, -1, 1])
    expect(by({ kind: "rloo" })).toEqual([-1, 1, -2, 2])
  })

  test("groups that vary are those with a deviation; NaN apart", () => {
    expect(groupsVary([1, 1, 0, 2, Number.NaN, 3, Number.NaN, Number.NaN], 2)).toEqual([false, true, false, false])
    expect(() => groupsVary([1, 2, 3], 2)).toThrow(RangeError)
  })

  test("a group without variance gets exactly 0, rounding errors notwithstanding", () => {
    const equal = [0.1 + 0.2, 0.3, 0.3, 0.3]
    expect(Array.from(groupAdvantages(equal, { groupSize: 4, epsilon: 1e-6 }))).toEqual([0, 0, 0, 0])
    expect(Array.from(leaveOneOutAdvantages(equal, 4))).toEqual([0, 0, 0, 0])
    expect(Array.from(decomposedAdvantages([{ weight: 1, values: equal }], { groupSize: 4, epsilon: 1e-6 }))).toEqual([
      0, 0, 0, 0
    ])
  })

  test("unscorable completions leave the baseline and get 0", () => {
    // 1 and 3 of the group: mean 2, std sqrt(2)
    close(groupAdvantages([1, Number.NaN, 3], { groupSize: 3, epsilon: 0 }), [-Math.SQRT1_2, 0, Math.SQRT1_2], 12)
    expect(Array.from(groupAdvantages([1, Number.NaN], { groupSize: 2, epsilon: 1e-6 }))).toEqual([0, 0])
    close(leaveOneOutAdvantages([1, Number.NaN, 3], 3), [-2, 0, 2], 12)
    const both = decomposedAdvantages(
      [
        { weight: 1, values: [1, Number.NaN, 3] },
        { weight: 1, values: [0, Number.NaN, 0] }
      ],
      { groupSize: 3, epsilon: 0 }
    )
    close(both, [-Math.SQRT1_2, 0, Math.SQRT1_2], 12)
  })

  test("weights of 0 change nothing, negative weights turn the sign", () => {
    const base = decomposedAdvantages([first], options)
    expect(decomposedAdvantages([first, { weight: 0, values: [9, Number.NaN, 1, 4] }], options)).toEqual(base)
    expect(decomposedAdvantages([{ ...first, weight: -1 }], options)).toEqual(base.map((value) => -value))
  })

  test("scale: the batch's deviation, or none", () => {
    // rewards 0, 1, 0, 3: group means .5 and 1.5; batch mean 1, variance (1 + 0 + 1 + 4) / 3 = 2
    const rewards = [0, 1, 0, 3]
    const centred = [-0.5, 0.5, -1.5, 1.5]
    close(groupAdvantages(rewards, { groupSize: 2, epsilon: 0, scale: "none" }), centred, 12)
    close(
      groupAdvantages(rewards, { groupSize: 2, epsilon: 0, scale: "batch" }),
      centred.map((value) => value / Math.SQRT2),
      12
    )
  })

  test("RLOO is G / (G - 1) times the centred reward", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: -5, max: 5 }), { minLength: 3, maxLength: 3 }), (rewards) => {
        const out = leaveOneOutAdvantages(rewards, 3)
        rewards.forEach((reward, i) => {
          const others = rewards.filter((_, k) => k !== i)
          expect(out[i]).toBeCloseTo(reward - (others[0]! + others[1]!) / 2, 12)
        })
      })
    )
  })

  test("group advantages have mean 0 and do not change with a shift of the rewards", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 8, maxLength: 8 }), (rewards) => {
        const out = groupAdvantages(rewards, { groupSize: 4, epsilon: 1e-6 })
        for (const from of [0, 4])
          expect(out.slice(from, from + 4).reduce((sum, value) => sum + value, 0)).toBeCloseTo(0, 9)
        const shifted = groupAdvantages(
          rewards.map((reward) => reward + 3),
          { groupSize: 4, epsilon: 1e-6 }
        )
        close(shifted, Array.from(out), 9)
      })
    )
  })

  test("rewards that are no whole groups are refused with both shapes", () => {
    expect(() => groupAdvantages([1, 2, 3], { groupSize: 2, epsilon: 0 })).toThrow(/\[3\].*\[2\]/)
    expect(() => decomposedAdvantages([first, { weight: 1, values: [1, 2] }], { groupSize: 2, epsilon: 0 })).toThrow(
      /\[4\].*\[2\]/
    )
  })
})
