import { describe, expect, it } from "vitest"
import { comparedRow, comparisonCsv, comparisonText } from "../../src/report/comparison.ts"
import type { ComparisonRow } from "../../src/warehouse/comparison.ts"

const row = (metric: string, arm: string, more: Partial<ComparisonRow> = {}): ComparisonRow => ({
  metric,
  arm,
  baseline: "base",
  nSeeds: 8,
  nPrompts: 200,
  value: 0.5,
  baselineValue: 0.3,
  difference: 0.2,
  low: 0.15,
  high: 0.25,
  method: "95 % t interval over 8 seeds' paired mean differences",
  p: 0.0078125,
  pHolm: 0.015625,
  test: "sign flips over 8 seeds",
  effect: 1.5,
  superiority: 0.9,
  unpaired: 0,
  baselineUnpaired: 0,
  least: 0.0078125,
  ...more
})

describe("a comparison as text", () => {
  it("has the ablation's columns, then the tests", () => {
    expect(
      comparisonText("demo", [row("m", "x"), row("m", "y", { p: null, pHolm: null, effect: null, superiority: null })])
    ).toBe(
      [
        "demo: against base",
        "",
        "metric  arm  value  baseline  difference     95 % interval  seeds × prompts      p  p (Holm)  effect  better",
        "──────  ───  ─────  ────────  ──────────  ────────────────  ───────────────  ─────  ────────  ──────  ──────",
        "m       x    0.500     0.300      +0.200  [+0.150, +0.250]          8 × 200  .0078     .0156  +1.500    90 %",
        "        y    0.500     0.300      +0.200  [+0.150, +0.250]          8 × 200      –         –       –       –",
        "",
        "interval: 95 % t interval over 8 seeds' paired mean differences",
        "p: sign flips over 8 seeds. Holm's correction over the family of 1 test (metric × arm)",
        "effect: mean / standard deviation of the prompts' differences; better: share of prompts that the arm is greater on, ties half"
      ].join("\n")
    )
  })
  it("says what had no partner, and a family that is too large for its seeds", () => {
    const rows = Array.from({ length: 8 }, (_, k) => row(`m${k}`, "x", { unpaired: 3, baselineUnpaired: 4 }))
    const text = comparisonText("demo", rows)
    expect(text).toContain("x against base: 3 and 4 results without a partner (seed, prompt) are left out")
    expect(text.match(/without a partner/g)).toHaveLength(1)
    // 8 tests of least 1/128 each
    expect(text).toContain("no corrected p of this family can be under 0.063")
  })
  it("as CSV: quoted where it must be, null as nothing", () => {
    const rows = [row("m", "grpo/shape=a,b", { p: null })].map((one) => comparedRow("demo", one))
    const [head, line] = comparisonCsv(rows).split("\n")
    expect(head).toMatch(/^experiment,metric,arm,baseline,n_seeds,.*,method,p,p_holm,test,effect,superiority,unpaired,/)
    expect(line).toMatch(/^demo,m,"grpo\/shape=a,b",base,8,200,/)
    expect(line).toContain(",,0.015625,")
    expect(comparisonCsv([])).toBe("")
  })
})
