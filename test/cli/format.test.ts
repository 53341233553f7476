import { describe, expect, it } from "vitest"
import { about, bar, bytes, clock, count, cut, number } from "../../src/cli/format.ts"
import { cell, fields, rowsTable } from "../../src/cli/rows.ts"

describe("for people", () => {
  it.each([
    [0.2, "1 s"],
    [7.4, "7 s"],
    [89, "89 s"],
    [240, "4 min"],
    [3900, "65 min"],
    [7500, "2 h 05 min"]
  ])("%d s is about %s", (seconds, text) => expect(about(seconds)).toBe(text))
  it.each([
    [0, "0:00"],
    [-3, "0:00"],
    [7, "0:07"],
    [760, "12:40"],
    [3723, "1:02:03"]
  ])("%d s on a clock is %s", (s, text) => expect(clock(s)).toBe(text))
  it.each([
    [0, "0"],
    [3, "3"],
    [0.4123, "0.412"],
    [12.345, "12.35"],
    [123.45, "123.5"],
    [1240.4, "1,240"],
    [1.2e-5, "1.2e-5"],
    [-0.5, "-0.500"],
    [2e12, "2.0e+12"]
  ])("%d is written %s", (value, text) => expect(number(value)).toBe(text))
  it.each([
    [0, "0 B"],
    [999, "999 B"],
    [1000, "1.0 kB"],
    [91_000_000, "91.0 MB"],
    [25.3e9, "25.3 GB"],
    [3e15, "3000 TB"]
  ])("%d bytes are %s", (n, text) => expect(bytes(n)).toBe(text))
  it("counts one thing and many", () => {
    expect([count(1, "cell"), count(24, "cell"), count(1234, "task")]).toEqual(["1 cell", "24 cells", "1,234 tasks"])
  })
  it.each([
    [0, "────"],
    [0.5, "━━──"],
    [1, "━━━━"],
    [7, "━━━━"],
    [-1, "────"],
    [Number.NaN, "────"]
  ])("a bar of %d", (share, text) => expect(bar(share, 4)).toBe(text))
  it.each([
    ["abc", 3, "abc"],
    ["abcd", 3, "ab…"],
    ["abcd", 1, "…"],
    ["abcd", 0, ""]
  ] as const)("%s in %d columns", (text, width, kept) => expect(cut(text, width)).toBe(kept))
})

describe("rows", () => {
  const rows = [
    { name: "reward", value: 0.123456789, note: null },
    { name: "loss", value: 12, note: { a: [1] } }
  ]
  it("are a table whose numbers stand to the right", () => {
    expect(rowsTable(rows).split("\n")).toEqual([
      "name       value  note",
      "──────  ────────  ─────────",
      "reward  0.123457",
      'loss          12  {"a":[1]}'
    ])
  })
  it("one of them is its fields, a long text below its name", () => {
    expect(fields({ id: "x", completion: "a\nb", seed: 0 })).toBe("id          x\ncompletion\n  a\n  b\nseed        0")
    expect(cell(undefined)).toBe("")
  })
})
