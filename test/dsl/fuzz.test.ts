/** Whatever a file says, loading answers with an experiment or with placed problems, never with a crash. */
import * as fc from "fast-check"
import { describe, expect, it } from "vitest"
import { load, problems } from "./support.ts"

const valid = `name: f
pipeline: op
params:
  grpo: { steps: 3, reward.coverage: { weight: 0.5, shape: linear } }
  data.source: { kind: world, situations: 5 }
  estimator.steps: &n 4
  warmStart.steps: *n
arms:
  a: { params: { grpo.groupSize: 4 } }
  b: { pipeline: plain }
sweep:
  grid: { grpo.reward.aggregate: [sum-then-normalize, normalize-then-sum] }
  zip: { grpo.prompts: [4, 8], evaluate.prompts: [1, 2] }
  exclude: [{ grpo.prompts: 4, grpo.reward.aggregate: normalize-then-sum }]
seeds: { count: 2, vary: [grpo], base: 1 }
baseline: { arm: b }
report: { metrics: [eval/coverage/exact], gates: [{ metric: eval/coverage/exact, arm: a, min: 0 }] }
compute: { threads: 1 }
`
const words = [
  "null",
  "[]",
  "{}",
  "-1",
  "1.5",
  "x",
  "a.b",
  "...",
  ":",
  "*n",
  "&n 1",
  "[1, 2]",
  "{ a: 1 }",
  "!!binary x",
  '"',
  "? k",
  "- 1",
  "<<",
  ".nan",
  "hf://a",
  "a: b: c",
  "\t",
  "world",
  "__proto__",
  "constructor"
]

const edit = fc.oneof(
  fc.record({ at: fc.nat(), cut: fc.nat({ max: 12 }), put: fc.constantFrom(...words) }),
  fc.record({ at: fc.nat(), cut: fc.nat({ max: 60 }), put: fc.constant("") })
)
const mutate = (edits: ReadonlyArray<{ readonly at: number; readonly cut: number; readonly put: string }>): string =>
  edits.reduce((text, { at, cut, put }) => {
    const start = at % (text.length + 1)
    return text.slice(0, start) + put + text.slice(start + cut)
  }, valid)

describe("loading", () => {
  it("takes the text that is mutated below", async () => {
    expect((await load(valid)).variants.map((v) => v.arm)).toHaveLength(5)
  })

  it("survives edits of a valid file", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(edit, { minLength: 1, maxLength: 3 }), async (edits) => {
        const yaml = mutate(edits)
        const valid = await load(yaml).then(
          () => true,
          () => false
        )
        if (valid) return
        const found = await problems(yaml)
        expect(found.length).toBeGreaterThan(0)
        for (const p of found) {
          expect(p.line).toBeGreaterThanOrEqual(1)
          expect(p.line).toBeLessThanOrEqual(yaml.split("\n").length + 1)
          expect(p.col).toBeGreaterThanOrEqual(1)
          expect(p.message).not.toBe("")
        }
      }),
      { numRuns: 300 }
    )
  })

  it("survives values of any kind under every key", async () => {
    const value = fc.anything({ maxDepth: 2, withNullPrototype: false }).map((v) => JSON.stringify(v) ?? "null")
    const keys = [
      "name",
      "extends",
      "pipeline",
      "params",
      "arms",
      "sweep",
      "seeds",
      "baseline",
      "report",
      "compute",
      "params: { grpo",
      "params: { data.source",
      "sweep: { grid",
      "arms: { a"
    ]
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...keys), value, async (key, json) => {
        const yaml = `${key}: ${json}${key.includes("{") ? " }" : ""}\n${key === "name" ? "" : "name: f\n"}${key === "pipeline" ? "" : "pipeline: op\n"}`
        const valid = await load(yaml).then(
          () => true,
          () => false
        )
        if (!valid) expect((await problems(yaml)).length).toBeGreaterThan(0)
      }),
      { numRuns: 200 }
    )
  })
})
