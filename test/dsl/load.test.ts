/** What a valid experiment file comes to: layers, arms, sweeps, baselines, files. */
import { createHash } from "node:crypto"
import { mkdirSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { Effect } from "effect"
import { describe, expect, it } from "vitest"
import { loadExperiment } from "../../src/dsl/load.ts"
import type { LoadedExperiment } from "../../src/dsl/Planned.ts"
import { fresh, load, projectRoot } from "./support.ts"

const head = "name: x\npipeline: op\n"
const arms = (e: LoadedExperiment) => e.variants.map((v) => v.arm)
/** A parameter of every variant, by its dotted path. */
const each = (e: LoadedExperiment, path: string) =>
  e.variants.map((v) =>
    path.split(".").reduce<unknown>((at, key) => (at as Record<string, unknown> | undefined)?.[key], v.params)
  )

describe("defaults", () => {
  it("are all resolved, and one seed is run", async () => {
    const e = await load(head)
    expect(e.variants).toHaveLength(1)
    expect(e.variants[0]?.params).toEqual({
      data: { source: { kind: "world", situations: 100 } },
      estimator: { steps: 180 },
      warmStart: { steps: 100, learningRate: 0.001 },
      grpo: {
        steps: 30,
        groupSize: 8,
        prompts: 16,
        reward: {
          coverage: { weight: 0.3, shape: "ladder" },
          uniqueness: { weight: 0.3, shape: "ladder" },
          aggregate: "sum-then-normalize"
        }
      },
      evaluate: { prompts: 200 }
    })
    expect(arms(e)).toEqual(["op"])
    expect(e.seeds).toEqual({ list: [0], vary: null, base: 0 })
    expect(e.compute).toEqual({ threads: 2, dtype: "f32", deterministic: false })
    expect(e.baseline).toEqual({})
  })
})

describe("layers", () => {
  it("defaults < extends < params < arm < sweep < --set", async () => {
    const files = {
      "low.yaml":
        "params: { grpo.steps: 1, evaluate.prompts: 1, estimator.steps: 1, warmStart.steps: 1, grpo.prompts: 4 }\n",
      "base/high.yaml":
        "extends: ../low.yaml\nparams: { grpo.steps: 2, evaluate.prompts: 2, estimator.steps: 2, warmStart.steps: 2 }\n"
    }
    const yaml = `name: x
extends: base/high.yaml
pipeline: op
params: { grpo.steps: 3, evaluate.prompts: 3, estimator.steps: 3 }
arms: { a: { params: { grpo.steps: 4, evaluate.prompts: 4 } } }
sweep: { grid: { grpo.steps: [5] } }
`
    const paths = ["grpo.prompts", "warmStart.steps", "estimator.steps", "evaluate.prompts", "grpo.steps"]
    const plainRun = await load(yaml, { files })
    expect(paths.flatMap((path) => each(plainRun, path))).toEqual([4, 2, 3, 4, 5])
    const set = await load(yaml, { files, set: ["grpo.steps=6"] })
    expect(each(set, "grpo.steps")).toEqual([6])
    expect(plainRun.files.map((file) => file.split("/").at(-1))).toEqual(["low.yaml", "high.yaml", "x.yaml"])
  })

  it("later files of `extends` go over earlier ones, and one file is read once", async () => {
    const files = {
      "root.yaml": "params: { grpo.steps: 1 }\n",
      "a.yaml": "extends: root.yaml\nparams: { grpo.steps: 2, grpo.groupSize: 2 }\n",
      "b.yaml":
        "extends: root.yaml\nparams: { grpo.groupSize: 4 }\nseeds: { list: [7, 9], base: 3 }\nreport: { metrics: [eval/uniqueness/exact] }\n"
    }
    const e = await load(`extends: [a.yaml, b.yaml]\n${head}seeds: { count: 2 }\n`, { files })
    expect([each(e, "grpo.steps"), each(e, "grpo.groupSize")]).toEqual([[2], [4]])
    expect(e.files).toHaveLength(4)
    expect(e.seeds).toEqual({ list: [0, 1], vary: null, base: 3 })
    expect(e.report.metrics).toEqual(["eval/uniqueness/exact"])
  })

  it("--set takes any YAML value, nested ones too", async () => {
    const e = await load(head, {
      set: ["grpo={steps: 2, reward.coverage.weight: 0}", "data.source.situations=5", "grpo.groupSize=4"]
    })
    expect([each(e, "grpo.steps"), each(e, "grpo.reward.coverage.weight"), each(e, "grpo.groupSize")]).toEqual([
      [2],
      [0],
      [4]
    ])
    expect(each(e, "data.source")).toEqual([{ kind: "world", situations: 5 }])
  })

  it("a changed discriminator replaces its object", async () => {
    const files = { "base.yaml": "params: { data.source: { kind: world, situations: 3 } }\n", "rows.csv": "a\n" }
    const e = await load(`extends: base.yaml\n${head}params: { data.source: { kind: file, path: rows.csv } }\n`, {
      files
    })
    expect(each(e, "data.source")[0]).toMatchObject({ kind: "file", path: { _tag: "File" } })
  })

  it("a variant is known by its keys, and by its name alone", async () => {
    const files = { "rows.csv": "a\n" }
    const source = async (yaml: string, set: ReadonlyArray<string> = []) =>
      each(await load(`${head}params: { data.source: ${yaml} }\n`, { files, set }), "data.source")[0]
    expect(await source("{ path: rows.csv }")).toMatchObject({ kind: "file", path: { _tag: "File" } })
    expect(await source("{ path: rows.csv }", ["data.source=world"])).toEqual({ kind: "world", situations: 100 })
    expect(await source("world", ["data.source.situations=4"])).toEqual({ kind: "world", situations: 4 })
    expect(await source("{ situations: 4 }")).toEqual({ kind: "world", situations: 4 })
  })

  it("YAML anchors work", async () => {
    const e = await load(`${head}params: { warmStart.steps: &n 7, estimator.steps: *n }\n`)
    expect([each(e, "warmStart.steps"), each(e, "estimator.steps")]).toEqual([[7], [7]])
  })
})

describe("arms", () => {
  const yaml = `name: x
arms: { warm: { pipeline: plain }, op: { pipeline: op } }
params: { grpo.steps: 3, warmStart.steps: 2 }
`
  it("take the shared parameters that their pipeline has", async () => {
    const e = await load(yaml, { set: ["grpo.groupSize=4"] })
    expect(each(e, "warmStart.steps")).toEqual([2, 2])
    expect(each(e, "grpo.steps")).toEqual([undefined, 3])
    expect(each(e, "grpo.groupSize")).toEqual([undefined, 4])
  })

  it("of a base are added to, by name", async () => {
    const files = {
      "base.yaml":
        "arms: { a: { pipeline: plain, params: { warmStart.steps: 1, evaluate.prompts: 1 } }, b: }\npipeline: op\n"
    }
    const e = await load(
      "name: x\nextends: base.yaml\narms: { a: { params: { warmStart.steps: 2 } }, c: { pipeline: plain } }\n",
      { files }
    )
    expect(arms(e)).toEqual(["a", "b", "c"])
    expect(e.variants.map((v) => v.pipeline.spec)).toEqual(["plain", "op", "plain"])
    expect([each(e, "warmStart.steps")[0], each(e, "evaluate.prompts")[0]]).toEqual([2, 1])
  })

  it("of a base lie below the experiment's own shared parameters", async () => {
    const files = {
      "base.yaml":
        "pipeline: op\nparams: { grpo.steps: 1 }\narms: { a: { params: { grpo.steps: 2, grpo.prompts: 2 } }, b: }\n"
    }
    const e = await load(
      "name: x\nextends: base.yaml\nparams: { grpo.steps: 3 }\narms: { b: { params: { grpo.steps: 4 } } }\n",
      { files }
    )
    expect([each(e, "grpo.steps"), each(e, "grpo.prompts")]).toEqual([
      [3, 4],
      [2, 16]
    ])
  })

  it("that lack an axis stand once; a baseline arm serves every point", async () => {
    const e = await load(`${yaml}sweep: { grid: { grpo.reward.coverage.shape: [ladder, linear] } }\nbaseline: warm\n`)
    expect(arms(e)).toEqual(["warm", "op/shape=ladder", "op/shape=linear"])
    expect(e.baseline).toEqual({ "op/shape=ladder": "warm", "op/shape=linear": "warm" })
  })
})

describe("sweeps", () => {
  const points = async (sweep: string) => arms(await load(`${head}sweep:\n${sweep}`))

  it("grid is every combination, in the file's order, with short unambiguous names", async () => {
    expect(
      await points(
        "  grid:\n    grpo.reward: { coverage.shape: [ladder, linear] }\n    grpo.reward.aggregate: [sum-then-normalize]\n"
      )
    ).toEqual(["shape=ladder,aggregate=sum-then-normalize", "shape=linear,aggregate=sum-then-normalize"])
    expect(
      await points("  grid: { grpo.reward.coverage.shape: [ladder], grpo.reward.uniqueness.shape: [linear] }\n")
    ).toEqual(["coverage.shape=ladder,uniqueness.shape=linear"])
  })

  it("zip goes row by row, cells are spelt out, include adds, exclude takes away", async () => {
    expect(await points("  zip: { grpo.steps: [1, 2], grpo.groupSize: [4, 8] }\n")).toEqual([
      "steps=1,groupSize=4",
      "steps=2,groupSize=8"
    ])
    expect(await points("  cells: [{ grpo.steps: 1 }, { grpo: { steps: 2, groupSize: 4 } }]\n")).toEqual([
      "steps=1",
      "steps=2,groupSize=4"
    ])
    expect(
      await points(
        "  grid: { grpo.steps: [1, 2], grpo.groupSize: [4, 8] }\n  exclude: [{ grpo.steps: 1, grpo.groupSize: 8 }]\n  include: [{ grpo.steps: 9 }]\n"
      )
    ).toEqual(["steps=1,groupSize=4", "steps=2,groupSize=4", "steps=2,groupSize=8", "steps=9"])
    expect(await points("  grid: { grpo.steps: [1, 2] }\n  zip: { grpo.groupSize: [4], grpo.prompts: [2] }\n")).toEqual(
      ["steps=1,groupSize=4,prompts=2", "steps=2,groupSize=4,prompts=2"]
    )
  })

  it("whole objects can be values, and their names stay apart", async () => {
    const names = await points(
      "  grid: { data.source: [{ kind: world, situations: 5 }, { kind: world, situations: 6 }] }\n"
    )
    expect(names).toEqual(["source=kind:world+situations:5", "source=kind:world+situations:6"])
  })

  it("--set goes over the sweep, whose points keep their names", async () => {
    const e = await load(`${head}sweep: { grid: { grpo.steps: [1, 2] } }\n`, { set: ["grpo.steps=5"] })
    expect(arms(e)).toEqual(["steps=1", "steps=2"])
    expect(each(e, "grpo.steps")).toEqual([5, 5])
  })
})

describe("baselines", () => {
  const sweep = "sweep: { grid: { grpo.reward.coverage.shape: [ladder, linear], grpo.steps: [1, 2] } }\n"

  it("a whole point is everyone's", async () => {
    const e = await load(`${head}${sweep}baseline: { grpo.reward.coverage.shape: linear, grpo: { steps: 1 } }\n`)
    expect(e.baseline).toEqual({
      "shape=ladder,steps=1": "shape=linear,steps=1",
      "shape=ladder,steps=2": "shape=linear,steps=1",
      "shape=linear,steps=2": "shape=linear,steps=1"
    })
  })

  it("some axes: the point that differs in these alone", async () => {
    const e = await load(`${head}${sweep}baseline: { grpo.reward.coverage.shape: linear }\n`)
    expect(e.baseline).toEqual({
      "shape=ladder,steps=1": "shape=linear,steps=1",
      "shape=ladder,steps=2": "shape=linear,steps=2"
    })
  })

  it("an arm: its own same point; an arm and values: both", async () => {
    const both =
      "name: x\narms: { a: { pipeline: op }, b: { pipeline: op } }\nsweep: { grid: { grpo.steps: [1, 2] } }\n"
    expect((await load(`${both}baseline: a\n`)).baseline).toEqual({
      "b/steps=1": "a/steps=1",
      "b/steps=2": "a/steps=2"
    })
    expect((await load(`${both}baseline: { arm: a, grpo.steps: 1 }\n`)).baseline).toEqual({
      "a/steps=2": "a/steps=1",
      "b/steps=1": "a/steps=1",
      "b/steps=2": "a/steps=1"
    })
  })

  it("gates name arms by name or label, and all without", async () => {
    const yaml = `name: x
arms: { a: { pipeline: op }, b: { pipeline: op } }
report: { metrics: ["eval/*"], gates: [{ metric: eval/coverage/exact, of: low, min: 0 }, { metric: eval/uniqueness/exact, arm: b, max: 1 }] }
`
    expect((await load(yaml)).report.gates).toEqual([
      { metric: "eval/coverage/exact", arm: null, of: "low", min: 0, max: null },
      { metric: "eval/uniqueness/exact", arm: "b", of: "value", min: null, max: 1 }
    ])
  })
})

describe("files", () => {
  it("become path and hash: relative to the YAML that says them", async () => {
    const files = {
      "data/rows.csv": "a,b\n",
      "base/b.yaml": "params: { data.source: { kind: file, path: ../data/rows.csv } }\n"
    }
    const e = await load(`extends: base/b.yaml\n${head}`, { files })
    const sha256 = createHash("sha256").update("a,b\n").digest("hex")
    expect(each(e, "data.source.path")).toEqual([
      { _tag: "File", path: join(dirname(e.file), "data/rows.csv"), sha256 }
    ])
  })

  it("of a folder by names and bytes, hidden files aside; hub models by their revision", async () => {
    const dir = fresh()
    mkdirSync(join(dir, "sub"))
    writeFileSync(join(dir, "sub", "w"), "1")
    const sha = async () => each(await load(head, { set: [`estimator.encoder=${dir}`] }), "estimator.encoder.sha256")[0]
    const before = await sha()
    writeFileSync(join(dir, ".DS_Store"), "x")
    expect(await sha()).toBe(before)
    writeFileSync(join(dir, "sub", "w"), "22")
    expect(await sha()).not.toBe(before)
    const hub = await load(head, { set: ["estimator.encoder=hf://org/name@abc"] })
    expect(each(hub, "estimator.encoder")).toEqual([{ _tag: "File", path: "hf://org/name@abc", sha256: "" }])
  })
})

describe("pipelines", () => {
  it("as a file beside the YAML, and as a package's export", async () => {
    const dir = fresh()
    const module = `export { default } from ${JSON.stringify(fileURLToPath(new URL("./project/pipelines/plain.ts", import.meta.url)))}\n`
    mkdirSync(join(dir, "node_modules/@lab/p/dist"), { recursive: true })
    writeFileSync(join(dir, "node_modules/@lab/p/dist/mine.js"), module)
    writeFileSync(
      join(dir, "node_modules/@lab/p/package.json"),
      JSON.stringify({
        name: "@lab/p",
        version: "1.0.0",
        type: "module",
        exports: { "./*": { types: "./x.d.ts", import: "./dist/*.js" } }
      })
    )
    writeFileSync(join(dir, "mine.mjs"), module)
    const run = (spec: string) => {
      writeFileSync(join(dir, "x.yaml"), `name: x\npipeline: "${spec}"\n`)
      return Effect.runPromise(loadExperiment(join(dir, "x.yaml"), { projectRoot }))
    }
    expect((await run("./mine.mjs")).variants[0]?.pipeline.file).toBe(join(dir, "mine.mjs"))
    expect((await run("@lab/p/mine")).variants[0]?.tasks.map((t) => t.node)).toEqual(["data", "warmStart", "evaluate"])
    await expect(run("@lab/p/other")).rejects.toThrow(/exports \.\/other as \.\/dist\/other\.js, which does not exist/)
  })
})
