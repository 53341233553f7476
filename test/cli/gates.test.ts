import { expect, it } from "vitest"
import { broken, type Measured } from "../../src/cli/gates.ts"
import type { Gate } from "../../src/dsl/Planned.ts"

const row = (arm: string, value: number | null, difference: number | null): Measured => ({
  metric: "eval/f1/exact",
  arm,
  baseline: "warm",
  value,
  baseline_value: 0.4,
  difference,
  low: difference === null ? null : difference - 0.05,
  high: difference === null ? null : difference + 0.05
})
const rows = [row("op", 0.6, 0.2), row("sft", 0.5, 0.1)]
const gate = (more: Partial<Gate>): Gate => ({
  metric: "eval/f1/exact",
  arm: null,
  of: "value",
  min: null,
  max: null,
  ...more
})

it("holds a bound on one arm's value", () => {
  expect(broken([gate({ arm: "op", min: 0.6 })], rows)).toEqual([])
  expect(broken([gate({ arm: "op", min: 0.61 })], rows)).toEqual([
    "eval/f1/exact of op must be at least 0.610; it is 0.600"
  ])
  expect(broken([gate({ arm: "op", min: 0.1, max: 0.5 })], rows)).toEqual([
    "eval/f1/exact of op must be at least 0.100 and at most 0.500; it is 0.600"
  ])
})

it("without an arm is about every arm but the baseline", () => {
  expect(broken([gate({ of: "low", min: 0.1 })], rows)).toEqual([
    "low of eval/f1/exact of sft must be at least 0.100; it is 0.050"
  ])
})

it("finds the baseline's own value beside the others", () => {
  expect(broken([gate({ arm: "warm", max: 0.3 })], rows)).toEqual([
    "eval/f1/exact of warm must be at most 0.300; it is 0.400"
  ])
})

it("is broken where there is no number", () => {
  expect(broken([gate({ metric: "eval/none", min: 0 })], rows)).toEqual([
    "eval/none must be at least 0, but nothing was measured"
  ])
  expect(broken([gate({ arm: "op", of: "low", min: 0 })], [row("op", 0.6, null)])).toEqual([
    "low of eval/f1/exact of op must be at least 0, but there is nothing to base it on"
  ])
  expect(broken([gate({ arm: "nobody", min: 0 })], rows)).toHaveLength(1)
})
