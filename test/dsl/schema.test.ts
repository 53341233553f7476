/** The JSON Schema of experiment files: what an editor marks and offers, and that the committed copy is current. */
import { existsSync, globSync, readFileSync } from "node:fs"
import { basename, join } from "node:path"
import { beforeAll, describe, expect, it } from "vitest"
import { parse } from "yaml"
import { ownRoot } from "../../src/dsl/resolve.ts"
import { experimentSchema, projectPipelines, schemaFile, schemaText } from "../../src/dsl/schema.ts"
import op from "./project/pipelines/op.ts"
import plain from "./project/pipelines/plain.ts"
import { faults } from "./validate.ts"

const schema = experimentSchema([
  { name: "op", pipeline: op },
  { name: "plain", pipeline: plain }
])
const marks = (yaml: string) => faults(schema, parse(yaml))
const head = "name: x\npipeline: op\n"

describe("an editor accepts", () => {
  const good: ReadonlyArray<string> = [
    head,
    `${head}params: { grpo.steps: 3, grpo: { reward.coverage.weight: 0, groupSize: 4 }, data.source: { kind: world, situations: 3 } }`,
    `${head}params: { data.source: { kind: file, path: ./x.csv }, estimator.encoder: hf://a/b@c }`,
    `${head}sweep: { grid: { grpo.steps: [1, 2], grpo: { reward.coverage.shape: [ladder] }, data.source: [{ kind: world }] }, exclude: [{ grpo.steps: 1 }] }`,
    "name: x\narms: { a: { pipeline: op, params: { grpo.steps: 1 } }, b: { pipeline: plain }, c: }\nparams: { grpo.steps: 1 }",
    "extends: [a.yaml]\nparams: { any.thing: 1 }",
    "name: x\npipeline: ./mine.ts\nparams: { any.thing: 1 }",
    `${head}seeds: { count: 3, vary: [grpo], base: 1 }\nbaseline: { grpo.steps: 1 }\nreport: { metrics: [a], gates: [{ metric: a, min: 0 }] }\ncompute: { threads: 1 }`
  ]
  it.each(good.map((yaml) => [yaml]))("%s", (yaml) => {
    expect(marks(yaml)).toEqual([])
  })
})

describe("an editor marks", () => {
  const bad: ReadonlyArray<readonly [string, string]> = [
    ["sweeep: 1", "/sweeep"],
    [`${head}params: { grpo.stepz: 3 }`, "/params/grpo.stepz"],
    [`${head}params: { grpo: { reward: { coverage.shap: ladder } } }`, "/params/grpo/reward/coverage.shap"],
    [`${head}params: { grpo.groupSize: many }`, "/params/grpo.groupSize"],
    [`${head}params: { grpo.steps: -1 }`, "/params/grpo.steps"],
    [`${head}params: { grpo.reward.aggregate: sum }`, "/params/grpo.reward.aggregate"],
    [`${head}sweep: { grid: { grpo.steps: [x] } }`, "/sweep/grid/grpo.steps/0"],
    [`${head}sweep: { grid: { grpo.steps: 3 } }`, "/sweep/grid/grpo.steps"],
    [`${head}arms: { a: { params: { grpo.stepz: 1 } } }`, "/arms/a/params/grpo.stepz"],
    ["arms: { a: { pipeline: plain, params: { grpo.steps: 1 } } }", "/arms/a/params/grpo.steps"],
    ["pipeline: po", "/pipeline"],
    ["seeds: { count: -1 }", "/seeds/count"]
  ]
  it.each(bad)("%s", (yaml, path) => {
    expect(marks(yaml)).toEqual([path])
  })
})

it("offers descriptions and defaults, and says each section once", () => {
  const defs = schema["$defs"] as Record<string, { properties: Record<string, unknown> }>
  expect(defs["op.grpo"]?.properties["steps"]).toEqual({
    type: "integer",
    minimum: 0,
    description: "optimizer updates",
    default: 30
  })
  expect(defs["op.grpo"]?.properties["reward.coverage.weight"]).toMatchObject({ default: 0.3, minimum: 0 })
  expect(defs["op.data.source"]?.properties["path"]).toEqual({ type: "string", description: "rows" })
  expect(defs["op.data"]?.properties["source"]).toEqual({
    anyOf: [{ $ref: "#/$defs/op.data.source" }, { enum: ["world", "file"] }],
    default: { kind: "world" }
  })
  expect(JSON.stringify(schema)).not.toContain("9007199254740991")
})

describe("the project's own", () => {
  let pipelines: Awaited<ReturnType<typeof projectPipelines>>
  beforeAll(async () => {
    pipelines = await projectPipelines(ownRoot)
  })

  it("committed copy is current (else: pnpm --silent exp schema > experiments/schema.json)", () => {
    // Compared as one word: a difference of thousands of lines helps nobody.
    const committed = existsSync(schemaFile(ownRoot)) ? readFileSync(schemaFile(ownRoot), "utf8") : ""
    expect(committed === schemaText(pipelines) ? "current" : "out of date").toBe("current")
  })

  it("experiments have nothing that an editor would mark", () => {
    const own = experimentSchema(pipelines)
    const files = globSync("experiments/**/*.yaml", { cwd: ownRoot, exclude: ["experiments/executors/**"] })
    for (const file of files) {
      expect(faults(own, parse(readFileSync(join(ownRoot, file), "utf8"))), basename(file)).toEqual([])
    }
  })
})
