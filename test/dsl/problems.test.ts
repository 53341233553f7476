/** What was probably meant: distances between words, and which of them count. */
import { describe, expect, it } from "vitest"
import { closest, editDistance } from "../../src/dsl/problems.ts"

describe("suggestions", () => {
  it("count swaps of neighbours as one edit", () => {
    expect(editDistance("gpro", "grpo")).toBe(1)
    expect(editDistance("", "abc")).toBe(3)
    expect(editDistance("kitten", "sitting")).toBe(3)
    expect(editDistance("same", "same")).toBe(0)
  })

  it("are kept for what is close", () => {
    expect(closest("warm-start", ["warmStart", "grpo"])).toBe("warmStart")
    expect(closest("weight", ["grpo.reward.coverage.weight"])).toBe("grpo.reward.coverage.weight")
    expect(closest("weight", ["coverage.weight", "uniqueness.weight"])).toBeUndefined()
    expect(closest("zzz", ["grpo", "sft"])).toBeUndefined()
  })
})
