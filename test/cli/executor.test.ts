/** `--executor FILE` and `executor.yaml`: who wins, what is said, and that no key knows of it. */
import { existsSync, mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { environmentOf, under } from "../../src/cli/executor.ts"
import { hostsOf } from "../../src/device/hosts.ts"
import { cpuPlugin, cudaPlugin, locatePlugin } from "../../src/device/xla/plugins.ts"
import { freshFolder } from "../support/folders.ts"
import { exp, json } from "./support.ts"

const fresh = freshFolder("cli-executor")
const support = join(import.meta.dirname, "..", "support")

/** A project of one experiment whose stage uses the device, with an executor file for each name. */
const projectWith = (files: Readonly<Record<string, string>>): string => {
  const dir = fresh()
  mkdirSync(join(dir, "experiments"))
  writeFileSync(join(dir, "package.json"), '{ "name": "mine" }')
  const pipeline = JSON.stringify(join(support, "measuring.ts"))
  const head = `name: measuring\npipeline: ${pipeline}\ncompute: { threads: 1 }\n`
  writeFileSync(join(dir, "experiments", "m.yaml"), head)
  for (const [name, text] of Object.entries(files)) writeFileSync(join(dir, name), text)
  return dir
}

const keys = (said: { readonly out: string }): ReadonlyArray<string> =>
  JSON.parse(said.out).tasks.map((task: { readonly key: string }) => task.key)

describe("an executor file", () => {
  it.live("is the project's executor.yaml where none is named; the command says so, scripts read JSON alone", () =>
    Effect.gen(function* () {
      const dir = projectWith({ "executor.yaml": "device: xla:cpu\njobs: 1\n", "cpu.yaml": "device: cpu\n" })
      const file = join(dir, "experiments", "m.yaml")
      const usual = yield* exp("plan", file, "--json")
      assert.strictEqual(usual.code, 0, usual.err)
      assert.match(usual.err, /^executor .*executor\.yaml: xla:cpu, 1 job at most\n$/)
      const named = yield* exp("plan", file, "--json", "--executor", join(dir, "cpu.yaml"))
      assert.match(named.err, /^executor .*cpu\.yaml: cpu\n$/)
      // another device is another arithmetic, and so another key; the file that names it is not
      assert.notDeepEqual(keys(named), keys(usual))
      assert.deepStrictEqual(keys(usual), keys(yield* exp("plan", file, "--json", "--device", "xla:cpu")))
      const flag = yield* exp("plan", file, "--json", "--device", "cpu")
      assert.match(flag.err, /executor\.yaml is left aside: it is for xla:cpu, and --device says cpu\n$/)
      assert.deepStrictEqual(keys(flag), keys(named))
    })
  )

  it.live("changes no key: cards, mesh, jobs and memory say where a task runs, not what it is", () =>
    Effect.gen(function* () {
      const dir = projectWith({
        "one.yaml": "device: xla:cuda\n",
        "many.yaml": "device: xla:cuda\ncards: [0, 1, 2, 3]\nmesh: { data: 2, model: 2 }\njobs: 1\nmemoryShare: 0.5\n"
      })
      const planned = (...more: ReadonlyArray<string>) =>
        exp("plan", join(dir, "experiments", "m.yaml"), "--json", "--device", "xla:cuda", ...more)
      const plain = yield* planned()
      const one = yield* planned("--executor", join(dir, "one.yaml"))
      const many = yield* planned("--executor", join(dir, "many.yaml"))
      assert.deepStrictEqual([one.out, many.out], [plain.out, plain.out])
      assert.lengthOf(keys(plain), 1)
    })
  )

  it.live("gives a run its jobs; what ran under it is done without it", () =>
    Effect.gen(function* () {
      const dir = projectWith({ "executor.yaml": "jobs: 1\n" })
      const file = join(dir, "experiments", "m.yaml")
      writeFileSync(file, "sweep: { grid: { measure.size: [1, 2] } }\n", { flag: "a" })
      const first = yield* exp("run", file, "--json")
      assert.strictEqual(first.code, 0, first.err)
      assert.match(first.err, /^executor .*executor\.yaml: auto, 1 job at most\n/)
      const states = json(first).flatMap((event) => (event.type === "task" ? [event.state] : []))
      assert.deepStrictEqual(states, ["started", "done", "started", "done"])
      writeFileSync(join(dir, "executor.yaml"), "device: cpu\njobs: 7\n")
      const second = yield* exp("run", file, "--json", "--jobs", "2")
      assert.deepInclude(json(second).at(-1), { ran: 0, cached: 2 })
    })
  )

  it.live.skipIf("missing" in locatePlugin(cpuPlugin))("gives a run its mesh, and flags give it another", () =>
    Effect.gen(function* () {
      const dir = projectWith({ "executor.yaml": "device: xla:cpu\nmesh: { data: 2 }\n" })
      const file = join(dir, "experiments", "m.yaml")
      const meshes = (warehouse: string) =>
        Effect.map(
          exp("--warehouse", warehouse, "sql", "select detail from events where name = 'device'", "--format", "json"),
          (said) => [
            ...new Set(JSON.parse(said.out).map((row: { readonly detail: { mesh?: string } }) => row.detail.mesh))
          ]
        )
      const byFile = yield* exp("--warehouse", join(dir, "a"), "run", file, "--json")
      assert.strictEqual(byFile.code, 0, byFile.err)
      assert.deepStrictEqual(yield* meshes(join(dir, "a")), ["data=2"])
      const byFlag = yield* exp("--warehouse", join(dir, "b"), "run", file, "--json", "--mesh", "model=3")
      assert.strictEqual(byFlag.code, 0, byFlag.err)
      assert.deepStrictEqual(yield* meshes(join(dir, "b")), ["model=3"])
    })
  )

  it.live("that is wrong is told like an experiment, and nothing is created", () =>
    Effect.gen(function* () {
      const dir = projectWith({ "executor.yaml": "device: cpu\njobz: 2\nmesh: { data: two }\n" })
      const file = join(dir, "experiments", "m.yaml")
      for (const argv of [
        ["plan", file],
        ["run", file],
        ["bench", "tinyDecode", "--executor", join(dir, "executor.yaml")]
      ]) {
        const said = yield* exp(...argv, "--json")
        assert.strictEqual(said.code, 3, said.err)
        const [{ errors }] = json(said)
        assert.deepStrictEqual(
          errors.map((e: { line: number; col: number; path: string; hint: string | null }) => [
            e.line,
            e.col,
            e.path,
            e.hint
          ]),
          [
            [2, 1, "jobz", "did you mean jobs?"],
            [3, 15, "mesh.data", null]
          ]
        )
      }
      assert.match(
        (yield* exp("plan", file)).err,
        /executor\.yaml:2:1 jobz: no key jobz here .*\n.*\n\n2 errors; nothing/
      )
      assert.isFalse(existsSync(join(dir, "warehouse")))
    })
  )

  it.live.each([
    ["nowhere.yaml", /there is no file .*nowhere\.yaml/],
    [".", /is a folder: name an executor's YAML file/]
  ] as const)("named %s is a wrong command line", ([name, message]) =>
    Effect.gen(function* () {
      const dir = projectWith({})
      const said = yield* exp("plan", join(dir, "experiments", "m.yaml"), "--executor", join(dir, name))
      assert.strictEqual(said.code, 2)
      assert.match(said.err, message)
    })
  )
})

describe("doctor", () => {
  const check = (file: string) =>
    Effect.map(exp("doctor", "--json", "--executor", file), (said) => ({
      code: said.code,
      ...json(said)[0].checks.find((one: { readonly name: string }) => one.name === "executor")
    }))

  it.live("says what the file asks for, whether that is here, and what is wrong with it", () =>
    Effect.gen(function* () {
      const dir = projectWith({
        "good.yaml": "device: cpu\njobs: 3\n",
        "bad.yaml": "device: cpu\njobs: many\n",
        "cards.yaml": "device: xla:cuda\nmemoryShare: 0.5\n"
      })
      assert.deepInclude(yield* check(join(dir, "good.yaml")), { state: "ok", remedy: null })
      const bad = yield* check(join(dir, "bad.yaml"))
      assert.deepInclude(bad, { state: "fail", code: 1 })
      assert.match(bad.detail, /bad\.yaml:2:7 jobs: expected a number; got many/)
      if ("path" in locatePlugin(cudaPlugin)) return
      const cards = yield* check(join(dir, "cards.yaml"))
      assert.deepInclude(cards, { state: "warn" })
      assert.match(cards.detail, /xla:cuda, 0\.5 of a card's memory/)
      assert.match(cards.remedy, /xla:cuda is not here: .*exp device install nvidia/)
    })
  )
})

describe("the environment that a file asks for", () => {
  it("says of several hosts what the one that is there leaves open", () => {
    const hosts = { coordinator: "node0:7788", count: 4, id: 3, secret: "word" }
    const of = (there: Readonly<Record<string, string>>) =>
      environmentOf({ cards: undefined, memoryShare: undefined, hosts }, there)
    const all = {
      OVERTONE_COORDINATOR: "node0:7788",
      OVERTONE_HOSTS: "4",
      OVERTONE_HOST_ID: "3",
      OVERTONE_HOSTS_SECRET: "word"
    }
    assert.deepStrictEqual(of({ OVERTONE_HOSTS: " " }), all)
    const { OVERTONE_HOST_ID: _, OVERTONE_HOSTS_SECRET: __, ...rest } = all
    assert.deepStrictEqual(of({ OVERTONE_HOST_ID: "0", OVERTONE_HOSTS_SECRET: "other" }), rest)
    assert.deepStrictEqual(hostsOf({ ...of({ OVERTONE_HOST_ID: "0" }), OVERTONE_HOST_ID: "0" }), {
      coordinator: { host: "node0", port: 7788 },
      count: 4,
      id: 0,
      secret: "word"
    })
  })

  it.live("wins over the one that is there while the command runs, and is put back, whatever happens", () =>
    Effect.gen(function* () {
      const asked = environmentOf({ cards: ["2", "5"], memoryShare: 0.4, hosts: undefined })
      assert.deepStrictEqual(asked, { CUDA_VISIBLE_DEVICES: "2,5", OVERTONE_GPU_MEMORY: "0.4" })
      assert.deepStrictEqual(environmentOf(undefined), {})
      const names = Object.keys(asked)
      const now = () => names.map((name) => process.env[name])
      const before = now()
      try {
        process.env["CUDA_VISIBLE_DEVICES"] = "7"
        delete process.env["OVERTONE_GPU_MEMORY"]
        const inside = yield* under(asked)(Effect.sync(now))
        assert.deepStrictEqual([inside, now()], [Object.values(asked), ["7", undefined]])
        yield* Effect.exit(under(asked)(Effect.fail("broken off")))
        assert.deepStrictEqual(now(), ["7", undefined])
      } finally {
        names.forEach((name, i) => {
          if (before[i] === undefined) delete process.env[name]
          else process.env[name] = before[i]
        })
      }
    })
  )
})
