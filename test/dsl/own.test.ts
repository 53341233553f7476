/** Rewards of a user's own in YAML: found, checked and keyed when an experiment is loaded. */
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { Effect } from "effect"
import { describe, expect, it } from "vitest"
import { loadExperiment } from "../../src/dsl/load.ts"
import { emptyLookup, type PlannedTask } from "../../src/dsl/Planned.ts"
import { plan } from "../../src/dsl/plan.ts"
import { experimentSchema } from "../../src/dsl/schema.ts"
import own from "./own/pipeline.ts"
import { folder, load, problems } from "./support.ts"
import { faults } from "./validate.ts"

const at = (path: string) => fileURLToPath(new URL(path, import.meta.url))
const pipeline = at("./own/pipeline.ts")
const head = `name: x\npipeline: ${pipeline}\n`
const mine = `import { reward } from "${at("../../src/rewards/custom.ts")}"
import * as Param from "${at("../../src/dsl/param.ts")}"
import { most } from "./deep.ts"
export const brevity = reward({
  params: { most: Param.int(most, "candidates", { min: 1 }), words: Param.optional(Param.FileParam, "a list") },
  weight: 0.5,
  score: ({ answer }, { most }) => (answer.candidates.length <= most ? 1 : 0)
})
export const number = 3
export default brevity
`
const files = {
  "package.json": '{ "name": "lab" }',
  "mine.ts": mine,
  "deep.ts": "export const most = 5\n",
  "words.txt": "a\n",
  "reward.py": "pass\n"
}
const rewardOf = async (yaml: string) => {
  const loaded = await load(yaml, { files })
  return (loaded.variants[0]!.params as { grpo: { reward: Record<string, Record<string, unknown>> } }).grpo.reward
}
const told = async (yaml: string) =>
  (await problems(yaml, { files })).map(
    (p) => `${p.line}:${p.col} ${p.path}: ${p.message}${p.hint === null ? "" : ` (${p.hint})`}`
  )

describe("a reward of a user's own", () => {
  it("stands beside the built-in ones, its defaults resolved and its files hashed", async () => {
    const reward = await rewardOf(
      `${head}params:\n  grpo.reward.brevity: { from: ./mine.ts#brevity, words: ./words.txt }\n`
    )
    expect(Object.keys(reward)).toContain("coverage")
    expect(reward["brevity"]).toMatchObject({
      from: { _tag: "Code", export: "brevity", name: "lab/mine.ts" },
      weight: 0.5,
      timeout: 60,
      most: 5,
      words: { _tag: "File", sha256: "87428fc522803d31065e7bce3cf03fe475096631e5e07bbd7a0fde60c4cf25c7" }
    })
  })

  it("is put together from layers, dotted keys, arms and sweeps as every other parameter", async () => {
    const yaml = `${head}params:
  grpo.reward.brevity.from: ./mine.ts
  grpo.reward.brevity.weight: { from: 1, to: 0, steps: 50 }
sweep: { grid: { grpo.reward.brevity.most: [2, 3] } }
`
    const { variants } = await load(yaml, { files })
    expect(variants.map((v) => v.arm)).toEqual(["most=2", "most=3"])
    expect(variants[1]!.params).toMatchObject({
      grpo: { reward: { brevity: { most: 3, weight: { from: 1, to: 0, steps: 50 }, from: { export: "default" } } } }
    })
  })

  it("is left out of the arms in which nothing says where it is", async () => {
    const yaml = `${head}params: { grpo.reward.brevity.weight: 2 }
arms: { with: { params: { grpo.reward.brevity.from: ./mine.ts } }, without: }
`
    const { variants } = await load(yaml, { files })
    expect(variants.map(({ params }) => "brevity" in (params as { grpo: { reward: object } }).grpo.reward)).toEqual([
      true,
      false
    ])
  })

  it("may be a command, whose files are hashed, or a service", async () => {
    const reward = await rewardOf(`${head}params:
  grpo.reward.py: { exec: [python3, ./reward.py, -u], version: "1", params: { a: [1] } }
  grpo.reward.net: { http: "http://127.0.0.1:1/score", version: "2", weight: 0 }
`)
    expect(reward["py"]).toMatchObject({
      exec: ["python3", { _tag: "File" }, "-u"],
      version: "1",
      weight: 1,
      timeout: 60
    })
    expect(reward["net"]).toMatchObject({ http: "http://127.0.0.1:1/score", weight: 0 })
  })
})

describe("what is wrong with one", () => {
  const cases: ReadonlyArray<readonly [what: string, lines: string, said: RegExp]> = [
    [
      "a missing file",
      "grpo.reward.b: { from: ./nine.ts#b }",
      /^4:26 .*grpo\.reward\.b\.from: no file .*nine\.ts \(paths are relative/
    ],
    [
      "a mistyped export",
      "grpo.reward.b: { from: ./mine.ts#brevty }",
      /^4:26 .*no export brevty \(did you mean brevity\?\)/
    ],
    [
      "an export that is none",
      "grpo.reward.b: { from: ./mine.ts#number }",
      /^4:26 .*number of .*mine\.ts is no a? ?reward: it is a number; write/
    ],
    [
      "a wrong parameter",
      "grpo.reward.b: { from: ./mine.ts#brevity, most: many }",
      /^4:51 .*b\.most: expected .*got many/
    ],
    [
      "a parameter out of bounds",
      "grpo.reward.b: { from: ./mine.ts#brevity, most: 0 }",
      /^4:51 .*greater than or equal to 1/
    ],
    [
      "a mistyped parameter",
      "grpo.reward.b: { from: ./mine.ts#brevity, mots: 3 }",
      /^4:45 .*no key mots here \(did you mean most\?\)/
    ],
    [
      "a missing file of a parameter",
      "grpo.reward.b: { from: ./mine.ts#brevity, words: ./no.txt }",
      /^4:52 .*no file or folder .*no\.txt/
    ],
    [
      "no origin",
      "grpo.reward.b: { weight: 1 }",
      /^4:3 .*no parameter grpo\.reward\.b \(a reward of your own says where it is: from, exec, http\)/
    ],
    [
      "a mistyped part",
      "grpo.reward.covrage.weight: 1",
      /^4:3 .*no parameter grpo\.reward\.covrage \(did you mean grpo\.reward\.coverage\?\)/
    ],
    ["a command without version", "grpo.reward.b: { exec: [python3, reward.py] }", /^4:18 .*b: version is missing/],
    ["a service that is no URL", "grpo.reward.b: { http: here, version: '1' }", /^4:26 .*expected a URL/],
    ["a strange name", "grpo.reward.b b: { from: ./mine.ts#brevity }", /^4:3 .*letters, digits/],
    ["a missing package", "grpo.reward.b: { from: nopackage/x#b }", /^4:26 .*no package nopackage/],
    ["a wrong schedule", "grpo.reward.coverage.weight: { from: 1, to: 0, steps: 0 }", /^4:\d+ .*weight/]
  ]
  it.each(cases)("%s", async (_, line, said) => {
    const all = await told(`${head}params:\n  ${line}\n`)
    expect(all).toHaveLength(1)
    expect(all[0]).toMatch(said)
  })

  it("is told with the line at which the module fails", async () => {
    const all = await problems(`${head}params:\n  grpo.reward.b: { from: ./bad.ts }\n`, {
      files: { ...files, "bad.ts": "export const a = 1\nthrow new Error('not today')\n" }
    })
    expect(all[0]?.message).toMatch(/bad\.ts cannot be imported: not today/)
  })

  it("is told of an axis of the sweep too", async () => {
    const [first] = await told(`${head}sweep: { grid: { grpo.reward.covrage.shape: [ladder] } }\n`)
    expect(first).toMatch(/no arm has the parameter grpo\.reward\.covrage\.shape \(did you mean/)
  })
})

describe("its code", () => {
  const tasks = async (dir: string): Promise<ReadonlyArray<PlannedTask>> =>
    (await Effect.runPromise(Effect.flatMap(loadExperiment(join(dir, "x.yaml")), (e) => plan(e, emptyLookup)))).tasks
  const yaml = `${head}params: { grpo.reward.b: { from: ./mine.ts#brevity } }\n`

  it("is part of the digest of the tasks that name it, with what it imports; its name is part of the key", async () => {
    const [a, b] = [folder({ ...files, "x.yaml": yaml }), folder({ ...files, "x.yaml": yaml })]
    const [one] = await tasks(a)
    const [other] = await tasks(b)
    expect(Object.keys(one!.code.files)).toEqual(expect.arrayContaining(["lab/mine.ts", "lab/deep.ts"]))
    expect(one!.keyParams).toMatchObject({ reward: { b: { from: { code: "lab/mine.ts#brevity" }, most: 5 } } })
    expect([other!.key, other!.code.digest]).toEqual([one!.key, one!.code.digest])

    writeFileSync(join(b, "mine.ts"), mine.replace("? 1 : 0", "? 2 : 0"))
    const [edited] = await tasks(b)
    expect(edited!.key).toBe(one!.key)
    expect(edited!.code.digest).not.toBe(one!.code.digest)

    const without = await tasks(folder({ "x.yaml": head }))
    expect(Object.keys(without[0]!.code.files).some((file) => file.startsWith("lab/"))).toBe(false)
  })

  it("of a command is its version and the bytes of its files, of a service its version: parts of the key", async () => {
    const keyOf = async (section: string, more: Readonly<Record<string, string>> = {}) => {
      const [task] = await tasks(
        folder({ ...files, ...more, "x.yaml": `${head}params: { grpo.reward.b: { ${section} } }\n` })
      )
      return task!.key
    }
    const command = (version: string) => `exec: [python3, ./reward.py], version: "${version}"`
    const service = (version: string) => `http: "http://127.0.0.1:1/score", version: "${version}"`
    const keys = await Promise.all([
      keyOf(command("1")),
      keyOf(command("2")),
      keyOf(command("1"), { "reward.py": "import sys\n" }),
      keyOf(service("1")),
      keyOf(service("2"))
    ])
    expect(new Set(keys).size).toBe(5)
    // What it imports is not seen: that is what the version is for.
    expect(await keyOf(command("1"), { "deep.py": "x = 1\n" })).toBe(keys[0])
  })
})

describe("an editor", () => {
  const schema = experimentSchema([{ name: "own", pipeline: own }])
  const marks = (params: object) => faults(schema, { name: "x", pipeline: "own", params })
  it("accepts one in nested and dotted spelling, and marks what is wrong in it", () => {
    expect(marks({ "grpo.reward.b": { from: "./x.ts#b", most: 3 }, "grpo.reward.c.exec": ["a"] })).toEqual([])
    expect(marks({ grpo: { reward: { b: { from: "./x.ts#b", weight: { from: 1, to: 0, steps: 5 } } } } })).toEqual([])
    expect(marks({ "grpo.reward.coverage.shap": "ladder" })).toEqual(["/params/grpo.reward.coverage.shap"])
    expect(marks({ grpo: { reward: { b: { from: 3 } } } })).toEqual(["/params/grpo/reward/b/from"])
  })
})
