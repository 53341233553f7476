import { describe, expect, it } from "vitest"
import { type AblationRow, ablationText, shortNumber } from "../../src/report/ablation.ts"
import { shorten, table, widthOf } from "../../src/report/table.ts"

const row = (metric: string, arm: string, more: Partial<AblationRow> = {}): AblationRow => ({
  experiment: "demo",
  metric,
  arm,
  baseline: "warm-start",
  n_seeds: 3,
  n_prompts: 200,
  value: 0.5,
  baseline_value: 0.3,
  difference: 0.2,
  low: 0.15,
  high: 0.25,
  method: "95 % t interval over 3 seeds' paired mean differences; held fixed over seeds: data, pretrain",
  ...more
})

describe("ablation as text", () => {
  it("metrics together, numbers aligned, notes below", () => {
    const text = ablationText([
      row("eval/coverage/exact", "continued-sft", { value: 0.31, difference: 0.01, low: -0.02, high: 0.04 }),
      row("eval/lines/mean", "continued-sft", {
        value: 4,
        baseline_value: 4.5,
        difference: -0.5,
        low: -0.75,
        high: -0.25
      }),
      row("eval/coverage/exact", "op-grpo")
    ])
    expect(text).toBe(
      [
        "demo: against warm-start",
        "",
        "metric               arm            value  baseline  difference     95 % interval  seeds × prompts",
        "───────────────────  ─────────────  ─────  ────────  ──────────  ────────────────  ───────────────",
        "eval/coverage/exact  continued-sft  0.310     0.300      +0.010  [-0.020, +0.040]          3 × 200",
        "                     op-grpo        0.500     0.300      +0.200  [+0.150, +0.250]          3 × 200",
        "eval/lines/mean      continued-sft  4.000     4.500      -0.500  [-0.750, -0.250]          3 × 200",
        "",
        "interval: 95 % t interval over 3 seeds' paired mean differences",
        "held fixed over seeds: data, pretrain (the intervals do not speak of other draws of these)"
      ].join("\n")
    )
  })

  it("marks rows whose interval excludes 0, and only those", () => {
    const text = ablationText([row("m", "a"), row("m", "b", { low: -1 })], { emphasise: (line) => `<${line}>` })
    expect(text.split("\n").filter((line) => line.startsWith("<"))).toHaveLength(1)
    expect(text).toMatch(/<m +a /)
  })

  it("differing methods get letters; mixed numeric classes a warning; what is not known a dash", () => {
    const text = ablationText([
      row("m", "a"),
      row("m", "b", {
        value: null,
        baseline_value: null,
        difference: null,
        low: null,
        high: null,
        n_seeds: 0,
        n_prompts: 0,
        method: "not compared: numeric classes differ (cpu-f32 | xla-bf16)"
      })
    ])
    expect(text).toMatch(/ b +– +– +– +– +– {2}b$/m)
    expect(text).toContain("a: 95 % t interval over 3 seeds' paired mean differences")
    expect(text).toContain("b: not compared: numeric classes differ")
    expect(text).toContain("warning: b computed in another numeric class")
  })

  it("says nothing of nothing", () => expect(ablationText([])).toBe(""))

  it("numbers: three decimals, signs, exponents for what would show as 0", () => {
    expect([0.12345, -0.5, 12.345, 123.45, 1234.5, 0, 0.0001].map((x) => shortNumber(x))).toEqual([
      "0.123",
      "-0.500",
      "12.35",
      "123.5",
      "1235",
      "0.000",
      "1.0e-4"
    ])
    expect([0.1, -0.1, 0].map((x) => shortNumber(x, true))).toEqual(["+0.100", "-0.100", " 0.000"])
    expect(shortNumber(null)).toBe("–")
  })
})

describe("table", () => {
  it("cuts the widest columns to fit, never what is narrow", () => {
    const text = table(
      [{ name: "id" }, { name: "text" }, { name: "n", align: "right" }],
      [
        ["a", "x".repeat(50), "1"],
        ["bb", "short", "22"]
      ],
      { width: 20 }
    )
    expect(
      text
        .split("\n")
        .map((line) => widthOf(line))
        .every((w) => w <= 20)
    ).toBe(true)
    expect(text.split("\n")[2]).toBe(`a   ${"x".repeat(11)}…   1`)
  })
  it("keeps columns straight through wide characters and control characters", () => {
    const lines = table(
      [{ name: "a" }, { name: "b" }],
      [
        ["日本", "1"],
        ["e\u0301a\n", "2"]
      ]
    ).split("\n")
    expect(lines[2]).toBe("日本  1")
    expect(lines[3]).toBe("e\u0301a\\n  2")
    expect(widthOf("日本")).toBe(4)
    expect(widthOf("e\u0301")).toBe(1)
    expect(shorten("日本語", 5)).toBe("日本…")
  })
  it("shows a heading for no rows", () => expect(table([{ name: "a" }], [])).toBe("a\n─"))
})
