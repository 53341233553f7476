import { describe, expect, it } from "vitest"
import {
  baselineOf,
  type CellState,
  compareArms,
  consistent,
  describeArm,
  heldFixed,
  type Items,
  metricsOf
} from "../../src/warehouse/ablation.ts"

const cell = (
  arm: string,
  seed: number,
  tasks: Readonly<Record<string, string>>,
  more: Partial<CellState> = {}
): CellState => ({
  cell: `e/${arm}/seed=${seed}`,
  arm,
  seed,
  params: "{}",
  run: "r1",
  tasks: Object.entries(tasks).map(([node, key]) => ({ node, key, class: node === "evaluate" ? null : "cpu" })),
  ...more
})

const itemsOf = (name: string, arms: Readonly<Record<string, ReadonlyArray<ReadonlyArray<number>>>>): Items =>
  new Map([
    [
      name,
      new Map(
        Object.entries(arms).map(([arm, seeds]) => [
          arm,
          seeds.flatMap((values, seed) => values.map((value, p) => ({ seed, prompt: `p${p}`, value })))
        ])
      )
    ]
  ])

describe("an arm against its baseline", () => {
  const cells = [0, 1, 2].flatMap((seed) => [
    cell("method", seed, { data: "d", grpo: `g${seed}`, evaluate: `em${seed}` }),
    cell("base", seed, { data: "d", evaluate: `eb${seed}` })
  ])

  it("three seeds: t interval over the seeds' mean differences", () => {
    // Differences per prompt: seed 0: 0.1, 0.3 (mean 0.2); seed 1: 0.4, 0.4 (0.4); seed 2: 0.5, 0.7 (0.6).
    // Mean 0.4, standard deviation 0.2, t(0.975, 2) = 4.302652729911275: half width 4.30265 * 0.2 / sqrt(3) = 0.49683.
    const items = itemsOf("m", {
      base: [
        [0, 0],
        [0, 0],
        [0, 0]
      ],
      method: [
        [0.1, 0.3],
        [0.4, 0.4],
        [0.5, 0.7]
      ]
    })
    const [row] = compareArms("method", "base", ["m"], cells, items)
    expect(row).toMatchObject({
      metric: "m",
      arm: "method",
      baseline: "base",
      nSeeds: 3,
      nPrompts: 2,
      baselineValue: 0
    })
    expect(row!.difference).toBeCloseTo(0.4, 12)
    expect(row!.low).toBeCloseTo(0.4 - 0.4968275, 6)
    expect(row!.high).toBeCloseTo(0.4 + 0.4968275, 6)
    expect(row!.method).toMatch(/t interval over 3 seeds.*held fixed over seeds: data$/)
  })

  it("one seed: prompts only, and it says so; equal arms differ by exactly 0", () => {
    const items = itemsOf("m", { base: [[0.1, 0.2, 0.7]], method: [[0.1, 0.2, 0.7]] })
    const [row] = compareArms("method", "base", ["m"], cells.slice(0, 2), items)
    expect(row).toMatchObject({ nSeeds: 1, nPrompts: 3, difference: 0, low: 0, high: 0 })
    expect(row!.method).toContain("prompts only")
  })

  it("nulls with the reason where a metric has no items, or an arm none yet", () => {
    const items = itemsOf("m", { base: [[0.1]] })
    const [none, missing] = compareArms("method", "base", ["m", "n"], cells, items)
    expect(none).toMatchObject({
      difference: null,
      low: null,
      high: null,
      nSeeds: 0,
      method: "no results of method yet"
    })
    expect(missing!.difference).toBeNull()
  })

  it("arms of different numeric classes are not compared", () => {
    const [row] = compareArms(
      "method",
      "base",
      ["m"],
      [
        cell("method", 0, { evaluate: "a" }, { tasks: [{ node: "grpo", key: "g", class: "xla-bf16" }] }),
        cell("base", 0, { evaluate: "b" }, { tasks: [{ node: "sft", key: "s", class: "cpu-f32" }] })
      ],
      itemsOf("m", { base: [[1]], method: [[2]] })
    )
    expect(row).toMatchObject({ difference: null, method: "not compared: numeric classes differ (cpu-f32 | xla-bf16)" })
  })

  it("says of which split it is, if not the test split, and compares no two", () => {
    const of = (arms: Readonly<Record<string, string>>): Items =>
      new Map([
        [
          "m",
          new Map(
            Object.entries(arms).map(([arm, split]) => [
              arm,
              [0, 1, 2].flatMap((seed) => [0, 1].map((p) => ({ seed, prompt: `p${p}`, value: seed + p, split })))
            ])
          )
        ]
      ])
    const [tuned] = compareArms("method", "base", ["m"], cells, of({ method: "development", base: "development" }))
    expect(tuned!.method).toMatch(/^95 % t interval over 3 seeds' .*, prompts of the development split; held fixed/)
    expect(tuned!.difference).toBe(0)
    const [mixed] = compareArms("method", "base", ["m"], cells, of({ method: "development", base: "test" }))
    expect(mixed).toMatchObject({
      difference: null,
      method: "not compared: method was evaluated on the development split, base on test"
    })
    const [alone] = describeArm("a", ["m"], of({ a: "development" }))
    expect(alone!.method).toBe("no baseline: the mean over seeds and prompts of the development split")
  })

  it("an arm without a baseline shows its means", () => {
    const [row] = describeArm(
      "a",
      ["m"],
      itemsOf("m", {
        a: [
          [0.25, 0.75],
          [0.5, Number.NaN]
        ]
      })
    )
    expect(row).toMatchObject({ baseline: null, value: 0.5, nSeeds: 2, nPrompts: 2, difference: null })
  })
})

describe("what is compared", () => {
  it("nodes held fixed are those with one task over the seeds, in both arms", () => {
    const cells = [0, 1].flatMap((seed) => [
      cell("a", seed, { data: "d", sft: `s${seed}`, grpo: "g" }),
      cell("b", seed, { data: "d", sft: `s${seed}`, grpo: `h${seed}` })
    ])
    expect(heldFixed(cells)).toEqual(["data"])
    expect(heldFixed(cells.filter((c) => c.seed === 0))).toEqual([])
  })

  it("cells that an older run left with other parameters are left out", () => {
    const cells = [
      cell("a", 0, {}, { run: "r2", params: "new" }),
      cell("a", 1, {}, { run: "r1", params: "old" }),
      cell("a", 2, {}, { run: "r1", params: "new" }),
      cell("b", 0, {}, { run: "r1", params: "old" })
    ]
    expect(consistent(cells).map((c) => c.cell)).toEqual(["e/a/seed=0", "e/a/seed=2", "e/b/seed=0"])
  })

  it("baselines: a map, or one arm for all the others", () => {
    expect(baselineOf("base", ["base", "x", "y"])).toEqual({ x: "base", y: "base" })
    expect(baselineOf({ "x/1": "b/1", "b/1": "b/1" }, [])).toEqual({ "x/1": "b/1" })
    expect(baselineOf(null, ["x"])).toEqual({})
  })

  it("metrics: in the report's order, patterns by name", () => {
    const found = ["eval/b", "eval/a", "loss", "eval+c"]
    expect(metricsOf({ metrics: ["loss", "eval/*", "eval/a", "absent"], baseline: {} }, found)).toEqual([
      "loss",
      "eval/a",
      "eval/b",
      "absent"
    ])
    expect(metricsOf({ metrics: [], baseline: {} }, found)).toEqual(["eval+c", "eval/a", "eval/b", "loss"])
  })
})
