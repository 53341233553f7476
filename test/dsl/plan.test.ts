/** Keys, sharing, states and reasons of a plan. */
import { Effect } from "effect"
import { describe, expect, it } from "vitest"
import { numericClassOf } from "../../src/device/classOf.ts"
import { classText, type NumericClass } from "../../src/device/numericClass.ts"
import { onnxNumericClass } from "../../src/device/onnx/numericClass.ts"
import { canonicalJson, hashOf, sha256 } from "../../src/dsl/canonical.ts"
import { familyKey } from "../../src/dsl/growth.ts"
import { contentKey, keyParams, taskKey } from "../../src/dsl/key.ts"
import {
  emptyLookup,
  type LoadedExperiment,
  type Lookup,
  type Plan,
  type PlannedTask,
  type PreviousTask
} from "../../src/dsl/Planned.ts"
import { plan } from "../../src/dsl/plan.ts"
import { load } from "./support.ts"

const planned = (experiment: LoadedExperiment, lookup: Lookup = emptyLookup): Promise<Plan> =>
  Effect.runPromise(plan(experiment, lookup))

describe("canonical JSON", () => {
  it("sorts by code unit, drops undefined, prints numbers as ECMAScript", () => {
    expect(canonicalJson({ b: 1, a: [1e21, 0.1, -0, "ü\n"], A: null, u: undefined })).toBe(
      '{"A":null,"a":[1e+21,0.1,0,"ü\\n"],"b":1}'
    )
    for (const bad of [Number.NaN, Infinity, 1n, () => 1])
      expect(() => canonicalJson({ a: { b: bad } })).toThrow(/\$\.a\.b|\$/)
  })
})

const runtime: NumericClass = { provider: "cpu", dtype: "f32", threads: 1, runtime: "onnxruntime 1.30.0" }

describe("the numeric class", () => {
  it("is what was asked for; threads count on the CPU only", () => {
    expect(classText(runtime)).toBe("cpu-f32, 1 thread, onnxruntime 1.30.0")
    expect(onnxNumericClass({ threads: 3, dtype: "f32" }, "cpu").threads).toBe(3)
    expect(onnxNumericClass({ threads: 3, dtype: "f32" }, "webgpu").threads).toBeNull()
    expect(onnxNumericClass({ threads: 1, dtype: "f32" }, "cpu").runtime).toContain("-CommonSubexpressionElimination")
  })

  it("of a card says that sums are in one order where that was asked for; no other class changes with it", () => {
    const asked = { threads: 2, dtype: "bf16", deterministic: true } as const
    expect(classText(numericClassOf(asked, "xla:cuda"))).toMatch(/^xla:cuda-bf16, deterministic, xla /)
    expect(numericClassOf({ ...asked, deterministic: false }, "xla:cuda")).not.toHaveProperty("deterministic")
    for (const provider of ["cpu", "xla:cpu"]) {
      expect(numericClassOf(asked, provider)).toEqual(numericClassOf({ threads: 2, dtype: "bf16" }, provider))
    }
  })
})

describe("keys", () => {
  const parts = {
    stage: "sft",
    version: 2,
    params: { steps: 1 },
    seed: 3,
    class: runtime
  }

  it("are what docs/formats.md says, to the bit", () => {
    // The golden hash is Python's, of the canonical JSON written out by hand: whatever changes it needs a new format number.
    const text =
      '{"class":{"dtype":"f32","provider":"cpu","runtime":"onnxruntime 1.30.0","threads":1},' +
      '"format":1,"inputs":{"data":{"output":"rows","task":"ab"}},"params":{"steps":1},"seed":3,"stage":"sft","version":2}'
    const key = taskKey(parts, { data: { task: "ab", output: "rows" } })
    expect(key).toBe(sha256(text))
    expect(key).toBe("49b94cd4e7883f27690e6695595b133e805c073c4bd9c14ed2d39af32bd4fb9c")
    expect(contentKey({ ...parts, seed: null, class: null }, { data: "cd" })).toBe(
      hashOf({ format: 1, stage: "sft", version: 2, params: { steps: 1 }, inputs: { data: "cd" } })
    )
  })

  it("hold a file's hash and not its path, and a hub model's name", () => {
    const file = (path: string, hash: string) => ({ a: [{ _tag: "File", path, sha256: hash }] })
    expect(keyParams(file("/x/a", "1"))).toEqual(keyParams(file("/y/b", "1")))
    expect(keyParams(file("/x/a", "1"))).not.toEqual(keyParams(file("/x/a", "2")))
    expect(keyParams(file("hf://a/b@c", ""))).toEqual({ a: [{ file: "hf://a/b@c" }] })
  })
})

const sweep = `name: s
arms:
  warm: { pipeline: plain }
  op: { pipeline: op }
params: { grpo.steps: 2 }
sweep: { grid: { grpo.reward.coverage.shape: [ladder, linear] } }
seeds: { count: 3, vary: [warmStart, grpo], base: 7 }
`
const by = (p: Plan, node: string) => p.tasks.filter((task) => task.nodes.includes(node))

describe("sharing", () => {
  it("equal keys are one task over cells, arms and seeds", async () => {
    const p = await planned(await load(sweep))
    expect(p.cells.map((c) => c.id)).toEqual(
      ["warm", "op/shape=ladder", "op/shape=linear"].flatMap((arm) => [0, 1, 2].map((n) => `s/${arm}/seed=${n}`))
    )
    // 9 cells; one data set and one estimator in all; one warm start a seed; grpo a seed and shape.
    expect(
      Object.fromEntries(["data", "estimator", "warmStart", "grpo", "evaluate"].map((n) => [n, by(p, n).length]))
    ).toEqual({
      data: 1,
      estimator: 1,
      warmStart: 3,
      grpo: 6,
      evaluate: 9
    })
    expect(by(p, "data")[0]?.cells).toHaveLength(9)
    expect(by(p, "data")[0]?.seed).toBe(7)
    expect(by(p, "warmStart").map((t) => t.seed)).toEqual([0, 1, 2])
    expect(by(p, "evaluate").every((t) => t.seed === null && t.class !== null)).toBe(true)
    expect(by(p, "data")[0]?.class).toBeNull()
    for (const [i, task] of p.tasks.entries()) {
      const before = new Set(p.tasks.slice(0, i).map((t) => t.key))
      expect(Object.values(task.inputs).every((input) => before.has(input.task))).toBe(true)
    }
  })

  it("all seeded nodes follow the cell's seed unless told otherwise; threads count only on devices", async () => {
    const p = await planned(await load("name: x\npipeline: plain\nseeds: { list: [4] }\n"))
    expect(p.tasks.map((t) => [t.stage, t.seed])).toEqual([
      ["world", 4],
      ["sft", 4],
      ["evaluate", null]
    ])
    const one = await planned(await load("name: x\npipeline: plain\nseeds: { list: [4] }\ncompute: { threads: 1 }\n"))
    expect(one.tasks.map((t, i) => t.key === p.tasks[i]?.key)).toEqual([true, false, false])
  })

  it("the backend is code of what computes, and of nothing else", async () => {
    const p = await planned(await load("name: x\npipeline: plain\n"))
    const writer = "overtone/src/device/onnx/writer.ts"
    expect(p.tasks.map((t) => [t.stage, writer in t.code.files])).toEqual([
      ["world", false],
      ["sft", true],
      ["evaluate", true]
    ])
  })

  it("keys do not depend on names, spelling or order of the YAML", async () => {
    const a = await planned(await load("name: a\npipeline: op\nparams: { grpo: { steps: 1, groupSize: 4 } }\n"))
    const b = await planned(
      await load(
        "name: b\narms: { z: { pipeline: op, params: { grpo.groupSize: 4, grpo.steps: 1, evaluate.prompts: 200 } } }\n"
      )
    )
    expect(a.tasks.map((t) => t.key)).toEqual(b.tasks.map((t) => t.key))
  })
})

/** A warehouse in which every task of a plan has run; outputs are named by their task's key. */
const warehouse = (ran: Plan, changes: Partial<Lookup> = {}): Lookup => {
  const outputs = (t: PlannedTask) =>
    Object.fromEntries(
      Object.entries(t.outputs).map(([name, kind]) => [name, { kind, sha256: `${t.key}/${name}`, bytes: 1 }])
    )
  const byContent = new Map(
    ran.tasks.map((t) => {
      const inputs = Object.fromEntries(
        Object.entries(t.inputs).map(([name, input]) => [name, `${input.task}/${input.output}`])
      )
      return [
        `${contentKey({ ...t, params: t.keyParams }, inputs)} ${t.code.digest}`,
        { attempt: `at-${t.key}`, outputs: outputs(t) }
      ]
    })
  )
  const bound = new Map(
    ran.cells.flatMap((cell) =>
      cell.tasks.map(
        ({ key, node, stage, ordinal }) =>
          [`${cell.id} ${node} ${stage} ${ordinal}`, ran.tasks.find((t) => t.key === key)!] as const
      )
    )
  )
  return {
    realisation: (content, code) => byContent.get(`${content} ${code}`),
    artifact: () => true,
    shorter: () => undefined,
    previous: (cell, node, stage, ordinal): PreviousTask | undefined => {
      const t = bound.get(`${cell} ${node} ${stage} ${ordinal}`)
      return t === undefined ? undefined : { ...t, params: t.keyParams, codeDigest: t.code.digest, done: true }
    },
    ...changes
  }
}
const states = (p: Plan) =>
  Object.fromEntries(
    [...new Set(p.tasks.map((t) => t.state))].map((s) => [
      s,
      [...new Set(p.tasks.filter((t) => t.state === s).flatMap((t) => t.nodes))]
    ])
  )

describe("states", () => {
  const yaml = "name: x\npipeline: op\nseeds: { count: 2 }\n"

  it("new in an empty warehouse, cached after a run, nothing to say about either", async () => {
    const e = await load(yaml)
    const fresh = await planned(e)
    expect(states(fresh)).toEqual({ new: ["data", "warmStart", "estimator", "grpo", "evaluate"] })
    const after = await planned(e, warehouse(fresh))
    expect(states(after)).toEqual({ cached: ["data", "warmStart", "estimator", "grpo", "evaluate"] })
    expect([...fresh.tasks, ...after.tasks].flatMap((t) => t.reasons)).toEqual([])
    expect(after.tasks[0]?.realisation?.attempt).toBe(`at-${after.tasks[0]?.key}`)
  })

  it("a changed parameter makes stale what depends on it, and is named with both values", async () => {
    const before = await planned(await load(yaml))
    const after = await planned(await load(yaml, { set: ["grpo.reward.uniqueness.weight=0.1234"] }), warehouse(before))
    expect(states(after)).toEqual({ cached: ["data", "warmStart", "estimator"], stale: ["grpo", "evaluate"] })
    expect(by(after, "grpo")[0]?.reasons).toEqual([
      { kind: "param", path: "grpo.reward.uniqueness.weight", old: 0.3, new: 0.1234 }
    ])
    expect(by(after, "evaluate")[0]?.reasons).toEqual([
      { kind: "input", path: "policy", old: by(before, "grpo")[0]?.key, new: by(after, "grpo")[0]?.key }
    ])
  })

  it("more steps go on from a shorter run of the same family, or say why not", async () => {
    const before = await planned(await load(yaml))
    const situations = `${by(before, "data")[0]?.key}/situations`
    // What a warehouse would have entered for the 100 steps that ran, whatever else is asked of it.
    const familyOf = (t: PlannedTask) => familyKey({ ...t, params: t.keyParams }, t.growth?.param ?? "", { situations })
    const asked = async (...set: ReadonlyArray<string>) => {
      const ran = await planned(await load(yaml, { set: set.filter((one) => !one.includes("steps")) }))
      const shorter: Lookup["shorter"] = (family, code, steps) => {
        const member = by(ran, "warmStart").find((t) => familyOf(t) === family && t.code.digest === code)
        return member?.growth && member.growth.steps < steps ? member.growth.steps : undefined
      }
      return planned(await load(yaml, { set }), warehouse(before, { shorter }))
    }
    const warm = async (...set: ReadonlyArray<string>) => by(await asked(...set), "warmStart")[0]
    const longer = await warm("warmStart.steps=120")
    expect(longer).toMatchObject({ state: "stale", goesOn: { from: 100 }, growth: { steps: 120, because: null } })
    expect(longer?.contentKey).not.toBe(by(before, "warmStart")[0]?.contentKey)
    // Never from a longer one; a task that is there, or that cannot grow, says nothing.
    expect((await warm("warmStart.steps=80"))?.goesOn).toBeNull()
    expect((await warm())?.goesOn).toBeNull()
    expect(by(await asked("grpo.steps=99"), "grpo")[0]).toMatchObject({ goesOn: null, growth: null })
    expect(await warm("warmStart.steps=120", "warmStart.learningRate=2")).toMatchObject({
      goesOn: { because: "so fast it must be planned" }
    })
  })

  it("a new seed is a new cell; a changed base is a reason", async () => {
    const before = await planned(await load(`${yaml.replace("2 }", "1, vary: [grpo] }")}`))
    const more = await planned(await load(`${yaml.replace("2 }", "2, vary: [grpo] }")}`), warehouse(before))
    expect(states(more)).toEqual({
      cached: ["data", "warmStart", "estimator", "grpo", "evaluate"],
      new: ["grpo", "evaluate"]
    })
    const other = await planned(await load(`${yaml.replace("2 }", "1, vary: [grpo], base: 5 }")}`), warehouse(before))
    expect(by(other, "data")[0]?.reasons).toEqual([{ kind: "param", path: "data.seed", old: 0, new: 5 }])
  })

  it("edited code, a raised version and another class are told, changed files by name", async () => {
    const e = await load(yaml)
    const before = await planned(e)
    const edited = (change: (t: PreviousTask) => PreviousTask): Lookup => {
      const base = warehouse(before)
      return {
        ...base,
        realisation: () => undefined,
        previous: (...at) => {
          const t = base.previous(...at)
          return t === undefined ? undefined : change(t)
        }
      }
    }
    const reasons = async (lookup: Lookup) => (await planned(e, lookup)).tasks[0]?.reasons
    const file = "overtone/src/dsl/param.ts"
    const now = before.tasks[0]!.code.files[file] ?? null
    expect(
      await reasons(
        edited((t) => ({
          ...t,
          codeDigest: "old",
          code: { files: { ...t.code?.files, [file]: "was" }, packages: { ...t.code?.packages, effect: "4.0.0" } }
        }))
      )
    ).toEqual([
      { kind: "code", path: file, old: "was", new: now },
      { kind: "code", path: "effect", old: "4.0.0", new: "4.1.0" }
    ])
    expect(await reasons(edited((t) => ({ ...t, codeDigest: "old", code: null })))).toEqual([
      { kind: "code", path: "code", old: "old", new: before.tasks[0]!.code.digest }
    ])
    const toys = "fixture/stages/toys.ts"
    const changed = edited((t) => ({
      ...t,
      codeDigest: "old",
      code: { ...t.code!, files: { ...t.code!.files, [toys]: "was" } }
    }))
    // The project's own files are named as its people name them.
    expect((await reasons(changed))?.map((r) => r.path)).toEqual(["stages/toys.ts"])
    expect(await reasons(edited((t) => ({ ...t, version: 0 })))).toEqual([
      { kind: "version", path: "data", old: 0, new: 1 }
    ])
    const webgpu = await Effect.runPromise(plan(e, warehouse(before), { provider: "webgpu" }))
    expect(by(webgpu, "warmStart")[0]?.reasons[0]).toMatchObject({
      kind: "class",
      path: "warmStart",
      new: expect.stringContaining("webgpu-f32")
    })
  })

  it("what was made and is gone, and what never came to an end, run again", async () => {
    const e = await load(yaml)
    const before = await planned(e)
    const estimator = by(before, "estimator")[0]!
    const lost = await planned(e, warehouse(before, { artifact: (sha) => sha !== `${estimator.key}/encoder` }))
    expect(by(lost, "estimator")[0]).toMatchObject({
      state: "stale",
      reasons: [{ kind: "missing", path: "encoder", new: null }]
    })
    expect(by(lost, "grpo")[0]?.reasons).toMatchObject([{ kind: "input", path: "estimator" }])
    const base = warehouse(before)
    const unfinished = await planned(e, {
      ...base,
      realisation: () => undefined,
      previous: (...at) => ({ ...base.previous(...at)!, done: false })
    })
    expect(states(unfinished)).toEqual({ new: ["data", "warmStart", "estimator", "grpo", "evaluate"] })
    const forgotten = await planned(e, { ...base, realisation: () => undefined })
    expect(forgotten.tasks[0]).toMatchObject({ state: "stale", reasons: [{ kind: "missing", path: "realisation" }] })
  })
})
