import { describe, expect, it } from "vitest"
import { byArm, byParameter, type CellItem, compare, type Grouped, pathsOf } from "../../src/warehouse/comparison.ts"
import type { Evaluated } from "../../src/warehouse/evaluated.ts"

const cell = (arm: string, seed: number, params: unknown, experiment = "e"): Evaluated => ({
  experiment,
  cell: `${experiment}/${arm}/seed=${seed}`,
  arm,
  seed,
  params: JSON.stringify(params),
  run: "r1",
  tasks: [{ node: "data", key: "d", class: null }],
  evaluation: "x"
})

const resultsOf =
  (metric: string, values: (cell: Evaluated, prompt: number) => number, prompts = 2, split = "test") =>
  (cells: ReadonlyArray<Evaluated>): ReadonlyMap<string, ReadonlyMap<string, ReadonlyArray<CellItem>>> =>
    new Map([
      [
        metric,
        new Map(
          cells.map((one) => [
            one.cell,
            Array.from({ length: prompts }, (_, p) => ({
              cell: one.cell,
              prompt: `p${p}`,
              value: values(one, p),
              split
            }))
          ])
        )
      ]
    ])

const sweep = [0, 1, 2].flatMap((seed) =>
  ["a", "b"].flatMap((shape) => [1, 2].map((size) => cell(`${shape}/${size}`, seed, { grpo: { shape, size } })))
)
const paramsOf = ({ params }: Evaluated): { readonly grpo: { readonly shape: string; readonly size: number } } =>
  JSON.parse(params)

describe("groups", () => {
  it("arms go by their name, with their experiment's where there are several", () => {
    expect(byArm([cell("x", 0, {})]).map(({ group }) => group)).toEqual(["x"])
    expect(byArm([cell("x", 0, {}), cell("x", 0, {}, "f")]).map(({ group }) => group)).toEqual(["e/x", "f/x"])
  })
  it("a parameter's values, the cells' other parameters apart; cells without it are left out", () => {
    const groups = byParameter([...sweep, cell("c", 0, { grpo: { size: 1 } })], "grpo.shape")
    expect(groups).toHaveLength(12)
    expect(new Set(groups.map(({ group }) => group))).toEqual(new Set(["a", "b"]))
    expect(new Set(groups.map(({ point }) => point))).toEqual(new Set(['{"grpo":{"size":1}}', '{"grpo":{"size":2}}']))
    expect(byParameter(sweep, "grpo.size")[0]!.group).toBe("1")
    expect(pathsOf({ a: { b: 1, c: [2] } })).toEqual(["a", "a.b", "a.c"])
  })
})

describe("values of a parameter", () => {
  const results = resultsOf("m", (one, p) => {
    const { shape, size } = paramsOf(one).grpo
    return (shape === "b" ? 0.1 * (1 + one.seed) : 0) + 10 * size + p
  })
  const cells = byParameter(sweep, "grpo.shape")
  const rows = compare({ cells, metrics: ["m"], baselines: { b: "a" }, results: results(sweep) })

  it("are compared over pairs that are equal in all else: seeds' differences .1, .2, .3", () => {
    // mean .2, deviation .1, t(.975, 2) = 4.30265: half width .24841; values are means over sizes and prompts
    expect(rows).toHaveLength(1)
    expect(rows[0]).toMatchObject({ metric: "m", arm: "b", baseline: "a", nSeeds: 3, nPrompts: 2, unpaired: 0 })
    expect(rows[0]!.difference).toBeCloseTo(0.2, 12)
    expect(rows[0]!.low).toBeCloseTo(0.2 - 0.2484138, 6)
    expect(rows[0]!.baselineValue).toBeCloseTo(15.5, 12)
    expect(rows[0]!.method).toMatch(/^95 % t interval over 3 seeds' .*held fixed over seeds: data$/)
    expect(rows[0]!.test).toBe("t test over 3 seeds")
  })

  it("a size that only one of them has is no pair, and is counted", () => {
    const more = [...sweep, cell("b/3", 0, { grpo: { shape: "b", size: 3 } })]
    const [row] = compare({
      cells: byParameter(more, "grpo.shape"),
      metrics: ["m"],
      baselines: { b: "a" },
      results: results(more)
    })
    expect(row).toEqual({ ...rows[0]!, unpaired: 2 })
  })
})

describe("arms", () => {
  const arms = [0, 1].flatMap((seed) => ["base", "x", "y"].map((arm) => cell(arm, seed, {})))
  const results = resultsOf("m", (one, p) => (one.arm === "x" ? p : one.arm === "y" ? -p : 0), 8)(arms)
  const against = { x: "base", y: "base" }

  it("every test of the family is corrected, those without results are none", () => {
    const rows = compare({ cells: byArm(arms), metrics: ["m", "n"], baselines: against, results })
    expect(rows.map(({ metric, arm, p }) => [metric, arm, p !== null])).toEqual([
      ["m", "x", true],
      ["m", "y", true],
      ["n", "x", false],
      ["n", "y", false]
    ])
    // prompts' differences 0..7: only all seven one way reach the sum, the 0 either way: 4 of 2^8
    expect(rows[0]).toMatchObject({ p: 4 / 256, pHolm: 8 / 256, superiority: 7.5 / 8, nSeeds: 2 })
    expect(rows[2]).toMatchObject({ difference: null, method: "no results of x yet", test: "no test: no pair" })
  })

  it("prompts that one of them lacks are left out, and counted", () => {
    const few = new Map([
      ["m", new Map([...results.get("m")!].map(([name, list]) => [name, name.includes("/x/") ? list.slice(2) : list]))]
    ])
    const [row] = compare({ cells: byArm(arms), metrics: ["m"], baselines: { x: "base" }, results: few })
    expect(row).toMatchObject({ nPrompts: 6, unpaired: 0, baselineUnpaired: 4 })
    const none: ReadonlyArray<Grouped> = byArm([cell("base", 0, {}), cell("x", 1, {})])
    const [apart] = compare({ cells: none, metrics: ["m"], baselines: { x: "base" }, results })
    expect(apart).toMatchObject({ difference: null, p: null, unpaired: 8, baselineUnpaired: 8 })
    expect(apart!.method).toBe("no (seed, prompt) in common")
  })
})

describe("a metric of steps", () => {
  const cells = byArm([0, 1, 2].flatMap((seed) => ["a", "b"].map((arm) => cell(arm, seed, {}))))
  const one = (value: (one: Evaluated) => number) => resultsOf("grpo:reward", value, 1)
  const compared = (own: ReadonlyArray<Grouped>, value: (one: Evaluated) => number, from = own) =>
    compare({
      cells: own,
      metrics: ["grpo:reward"],
      steps: new Set(["grpo:reward"]),
      baselines: { b: "a" },
      results: one(value)(from)
    })[0]!

  it("has one value a seed: an interval over seeds, no size over prompts, and counts cells that nothing has evaluated", () => {
    const unevaluated = cells.map((own) => ({ ...own, evaluation: null }))
    const row = compared(unevaluated, ({ arm, seed }) => (arm === "b" ? 0.1 * (1 + seed) : 0))
    expect(row).toMatchObject({ nSeeds: 3, nPrompts: 1, effect: null, superiority: null, test: "t test over 3 seeds" })
    expect(row.difference).toBeCloseTo(0.2, 12)
  })

  it("of an arm whose baseline has no such node is shown by itself", () => {
    const row = compared(
      cells,
      ({ seed }) => seed,
      cells.filter(({ arm }) => arm === "b")
    )
    expect(row).toMatchObject({
      value: 1,
      baselineValue: null,
      difference: null,
      p: null,
      method: "a has no grpo:reward"
    })
  })
})
