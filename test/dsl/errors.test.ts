/** Every kind of mistake in an experiment file, each with its exact place and its remedy; those of cells in errors.cells.test.ts. */
import { Effect, Exit } from "effect"
import { describe, expect, it } from "vitest"
import { loadExperiment } from "../../src/dsl/load.ts"
import { thrown } from "../../src/dsl/module.ts"
import { head, type Mistake, onlyTold, places, problems, projectRoot } from "./support.ts"

const table: ReadonlyArray<Mistake> = [
  ["YAML syntax", "name: x\npipeline: [op\n", "x.yaml:3:1 ", /not YAML/],
  ["a key twice", `${head}seeds: { count: 1 }\nseeds: { count: 2 }\n`, "x.yaml:4:1 seeds", /twice, first at line 3/],
  ["no mapping", "- a\n", "x.yaml:1:1 ", /key: value.*this is a list/],
  ["a second document", `${head}---\nname: y\n`, "x.yaml:3:1 ", /second document begins here.*one file for each/],
  ["a merge key", `${head}params: { <<: { grpo.steps: 3 } }\n`, "x.yaml:3:11 params.<<", /not YAML 1\.2.*use extends/],
  ["no name", "pipeline: op\n", "x.yaml:1:1 name", /no name/],
  ["a name that is none", "name: a/b\npipeline: op\n", "x.yaml:1:7 name", /letters, digits.*got a\/b/],
  ["an unknown top key", `${head}sweeep: 1\n`, "x.yaml:3:1 sweeep", /did you mean sweep\?/],
  ["no pipeline", "name: x\n", "x.yaml:1:1 pipeline", /no pipeline.*pipelines: .*op, plain/],
  ["a pipeline that is not there", "name: x\npipeline: po\n", "x.yaml:2:11 pipeline", /did you mean op\?.*pipelines: /],
  ["a pipeline file that is not there", "name: x\npipeline: ./p.ts\n", "x.yaml:2:11 pipeline", /no file .*p\.ts/],
  ["a package that is not there", "name: x\npipeline: '@no/such/p'\n", "x.yaml:2:11 pipeline", /no package @no\/such/],
  ["a folder as pipeline", "name: x\npipeline: ./\n", "x.yaml:2:11 pipeline", /is a folder, no module/],
  [
    "an arm's name that is none",
    `${head}arms: { a/b: {} }\n`,
    "x.yaml:3:9 arms.a/b",
    /letters, digits, dots, dashes and underscores.*got a\/b/
  ],
  ["an arm without pipeline", "name: x\narms:\n  a: {}\n", "x.yaml:3:3 arms.a", /arm a has no pipeline/],
  [
    "an unknown arm key",
    "name: x\narms:\n  a: { pipeline: op, param: 1 }\n",
    "x.yaml:3:22 arms.a.param",
    /did you mean params\?/
  ],
  [
    "an unknown parameter",
    `${head}params:\n  grpo.stepz: 3\n`,
    "x.yaml:4:3 params.grpo.stepz",
    /did you mean grpo\.steps\?/
  ],
  ["an unknown section", `${head}params:\n  gpro: { steps: 3 }\n`, "x.yaml:4:3 params.gpro", /did you mean grpo\?/],
  [
    "a parameter without its section",
    `${head}params:\n  groupSize: 3\n`,
    "x.yaml:4:3 params.groupSize",
    /did you mean grpo\.groupSize\?/
  ],
  [
    "a wrong type",
    `${head}params:\n  grpo.groupSize: many\n`,
    "x.yaml:4:19 params.grpo.groupSize",
    /expected a number; got many/
  ],
  [
    "a number in quotes",
    `${head}params:\n  grpo.groupSize: "8"\n`,
    "x.yaml:4:19 params.grpo.groupSize",
    /expected a number; got "8"/
  ],
  [
    "a key without value",
    `${head}params:\n  grpo.groupSize:\n`,
    "x.yaml:4:18 params.grpo.groupSize",
    /expected a number; got nothing/
  ],
  [
    "a section where a number is wanted",
    `${head}params:\n  grpo.steps: { a: 1 }\n`,
    "x.yaml:4:3 params.grpo.steps",
    /expected a number; got {"a":1}/
  ],
  [
    "a number where a section is wanted",
    `${head}params:\n  grpo: 3\n`,
    "x.yaml:4:9 params.grpo",
    /expected a section \(steps, groupSize, .*got 3/
  ],
  [
    "a fraction where a count is wanted",
    `${head}params: { grpo.steps: 1.5 }\n`,
    "x.yaml:3:23 params.grpo.steps",
    /integer; got 1\.5/
  ],
  [
    "below the bound",
    `${head}params: { grpo.steps: -1 }\n`,
    "x.yaml:3:23 params.grpo.steps",
    /greater than or equal to 0; got -1/
  ],
  [
    "not a number",
    `${head}params: { warmStart.learningRate: .nan }\n`,
    "x.yaml:3:35 params.warmStart.learningRate",
    /finite number; got NaN/
  ],
  [
    "infinity",
    `${head}params: { warmStart.learningRate: .inf }\n`,
    "x.yaml:3:35 params.warmStart.learningRate",
    /finite number; got Infinity/
  ],
  [
    "a wrong word",
    `${head}params: { grpo.reward.aggregate: sum-then-normalise }\n`,
    "x.yaml:3:34 params.grpo.reward.aggregate",
    /one of sum-then-normalize, normalize-then-sum; got sum-then-normalise.*did you mean sum-then-normalize\?/
  ],
  [
    "an unknown variant",
    `${head}params: { data.source: { kind: disk } }\n`,
    "x.yaml:3:11 params.data.source",
    /kind: world or file; got/
  ],
  [
    "a key of another variant",
    `${head}params: { data.source: { kind: world, path: ./x.yaml } }\n`,
    "x.yaml:3:39 params.data.source.path",
    /no key path/
  ],
  [
    "a leaf twice in one layer",
    `${head}params:\n  grpo.steps: 1\n  grpo: { steps: 2 }\n`,
    "x.yaml:5:11 params.grpo.steps",
    /grpo\.steps is spelt twice, first at line 4/
  ],
  [
    "a file that is not there",
    `${head}params: { data.source: { kind: file, path: ./no.csv } }\n`,
    "x.yaml:3:44 params.data.source.path",
    /no file or folder .*no\.csv/
  ],
  [
    "a model without revision",
    `${head}params: { estimator.encoder: hf://a/b }\n`,
    "x.yaml:3:30 params.estimator.encoder",
    /revision/
  ],
  [
    "a hub model where a file is wanted",
    `${head}params: { data.source: { kind: file, path: hf://a/b@c } }\n`,
    "x.yaml:3:44 params.data.source.path",
    /local path/
  ],
  [
    "an impossible combination",
    `${head}params: { grpo.groupSize: 3, grpo.prompts: 3 }\n`,
    "x.yaml:3:27 params.grpo.groupSize",
    /multiple of 4.*use 8/
  ],
  ["a base that is not there", `extends: base.yaml\n${head}`, "x.yaml:1:10 extends", /no file/],
  ["a folder as base", `extends: ./\n${head}`, "x.yaml:1:10 extends", /a folder, not a file/],
  [
    "a base that is not there, and no pipeline but its",
    "name: x\nextends: base.yaml\n",
    "x.yaml:2:10 extends",
    /no file/
  ],
  ["itself as base", `extends: x.yaml\n${head}`, "x.yaml:1:10 extends", /circle: .*x\.yaml -> .*x\.yaml/]
]

describe("a mistake is told where it stands", () => {
  it.each(table)("%s", (_, ...mistake) => onlyTold(...mistake))

  it("in a file that is extended, at that file", async () => {
    expect(await places(`extends: b.yaml\n${head}`, { files: { "b.yaml": "params:\n  grpo.steps: x\n" } })).toEqual([
      "b.yaml:2:15 params.grpo.steps"
    ])
  })

  it("in a longer circle, at the one that closes it", async () => {
    const files = { "a.yaml": "extends: b.yaml\n", "b.yaml": "extends: [a.yaml]\n" }
    expect(await places(`extends: a.yaml\n${head}`, { files })).toEqual(["b.yaml:1:11 extends.0"])
  })

  it("in --set, by its number", async () => {
    const set = ["grpo.steps=1", "grpo.stepz=1", "grpo.groupSize=few", "grpo.steps", "grpo.prompts=[1"]
    expect(await places(head, { set })).toEqual([
      "--set:2:1 grpo.stepz",
      "--set:3:1 grpo.groupSize",
      "--set:4:1 grpo.steps",
      "--set:5:1 grpo.prompts"
    ])
  })

  it("in --set of what is no parameter, with where it belongs", async () => {
    const found = await problems(head, { set: ["seeds.count=3"] })
    expect(found.map((p) => `${p.message} | ${p.hint}`)).toEqual([
      "the pipeline has no parameter seeds | seeds is set in the file only"
    ])
  })

  it("a pipeline's module that cannot be imported, with Node's place in it", () => {
    const boom = Object.assign(new Error("boom"), {
      stack: "Error: boom\n    at make (file:///a/b%20c/p.ts:2:7)\n    at file:///a/q.ts:1:1"
    })
    expect(thrown(boom)).toBe("boom, at /a/b c/p.ts:2")
    const top = Object.assign(new Error("boom"), {
      stack: "Error: boom\n    at file:///a/p.ts:3:7\n    at node:internal:1"
    })
    expect(thrown(top)).toBe("boom, at /a/p.ts:3")
    const syntax = Object.assign(new SyntaxError("no enums"), {
      stack: "file:///a/p.ts:4\nenum A { b }\n^^^^\n\nSyntaxError: no enums\n    at node:internal/typescript:72:36"
    })
    expect(thrown(syntax)).toBe("no enums, at /a/p.ts:4")
    const stripped = Object.assign(new SyntaxError("no enums"), {
      stack: "/a/p.ts:4\nenum A { b }\n^^^^\n\nSyntaxError: no enums\n    at node:internal/typescript:72:36"
    })
    expect(thrown(stripped)).toBe("no enums, at /a/p.ts:4")
    const missing = Object.assign(new Error("Cannot find package 'x'"), {
      stack: "Error: no\n    at node:internal:1:1"
    })
    expect(thrown(missing)).toBe("Cannot find package 'x'")
    expect(thrown("a word")).toBe("a word")
  })

  it("a file that is not there", async () => {
    const exit = await Effect.runPromiseExit(loadExperiment("/no/such/file.yaml", { projectRoot }))
    expect(Exit.isFailure(exit) && String(exit.cause)).toMatch(/no file \/no\/such\/file\.yaml/)
  })
})

describe("all mistakes at once", () => {
  it("of five kinds in one file", async () => {
    const yaml = `name: bad
pipeline: op
sweeep: 1
params:
  grpo.stepz: 3
  grpo.groupSize: many
sweep:
  grid:
    grpo.reward.coverage.shape: [ladder, steep]
seeds: { count: -1, vary: [grop] }
report: { metrics: [nothing] }
`
    expect(await places(yaml)).toEqual([
      "x.yaml:3:1 sweeep",
      "x.yaml:5:3 params.grpo.stepz",
      "x.yaml:6:19 params.grpo.groupSize",
      "x.yaml:9:42 sweep.grid.grpo.reward.coverage.shape.1",
      "x.yaml:10:17 seeds.count",
      "x.yaml:10:28 seeds.vary.0",
      "x.yaml:11:21 report.metrics.0"
    ])
  })

  it("each once, however many cells it concerns", async () => {
    const yaml = `${head}params: { grpo.groupSize: x }\nsweep: { grid: { grpo.steps: [1, 2, 3], grpo.prompts: [1, 2] } }\n`
    expect(await places(yaml)).toEqual(["x.yaml:3:27 params.grpo.groupSize"])
  })

  it("names and metrics are still checked where parameters are wrong", async () => {
    const yaml = `${head}params: { grpo.groupSize: x }\nseeds: { vary: [gpro] }\nreport: { metrics: [nope] }\n`
    expect(await places(yaml)).toEqual([
      "x.yaml:3:27 params.grpo.groupSize",
      "x.yaml:4:17 seeds.vary.0",
      "x.yaml:5:21 report.metrics.0"
    ])
  })
})
