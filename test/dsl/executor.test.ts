/** Executor files: every mistake with its place and remedy, what a right one says, and what an editor makes of them. */
import { globSync, readFileSync, writeFileSync } from "node:fs"
import { basename, join } from "node:path"
import { Effect, Exit } from "effect"
import { describe, expect, it } from "vitest"
import { parse } from "yaml"
import { devices } from "../../src/cli/root.ts"
import { meshText } from "../../src/device/mesh.ts"
import { memoryShare } from "../../src/device/xla/openClient.ts"
import { deviceNames, type Executor, executorText, loadExecutor, usualExecutor } from "../../src/dsl/executor.ts"
import { InvalidExecutor, problemText } from "../../src/dsl/problems.ts"
import { ownRoot } from "../../src/dsl/resolve.ts"
import { executorSchemaFile, executorSchemaText } from "../../src/dsl/schema.ts"
import { freshFolder } from "../support/folders.ts"
import { faults } from "./validate.ts"

const fresh = freshFolder("executor")

const attempt = (yaml: string) => {
  const file = join(fresh(), "e.yaml")
  writeFileSync(file, yaml)
  return Effect.runPromiseExit(loadExecutor(file))
}

const load = async (yaml: string): Promise<Executor> => {
  const exit = await attempt(yaml)
  if (Exit.isSuccess(exit)) return exit.value
  throw new Error(String(exit.cause))
}

/** The problems of a file that must be invalid, one line each; folders taken off the file names. */
const problems = async (yaml: string): Promise<ReadonlyArray<string>> => {
  const exit = await attempt(yaml)
  if (Exit.isSuccess(exit)) throw new Error("expected an invalid file")
  const [reason] = exit.cause.reasons
  if (reason?._tag !== "Fail" || !(reason.error instanceof InvalidExecutor)) throw new Error(String(exit.cause))
  return reason.error.errors.map((p) => problemText({ ...p, file: basename(p.file) }))
}

const cuda = "device: xla:cuda\n"

describe("a mistake is told with its place and remedy", () => {
  it.each<readonly [string, RegExp]>([
    ["device: [cpu\n", /^e\.yaml:2:1 not YAML/],
    ["- cpu\n", /^e\.yaml:1:1 an executor file has lines of the form `key: value`; this is a list$/],
    [
      "device: cuda\n",
      /^e\.yaml:1:9 device: expected one of auto, cpu, webgpu, xla:cpu, xla:cuda, .*xla:metal; got cuda$/
    ],
    ["devise: cpu\n", /^e\.yaml:1:1 devise: no key devise here \(did you mean devices?\?\)$/],
    ["jobs: 0\n", /^e\.yaml:1:7 jobs: expected a value between 1 and 99999; got 0$/],
    ["jobs: 1.5\n", /^e\.yaml:1:7 jobs: expected an integer; got 1\.5$/],
    ["jobs: 1\njobs: 2\n", /^e\.yaml:2:1 jobs: jobs stands here twice, first at line 1 \(keep one of them\)$/],
    [`${cuda}memoryShare: 0\n`, /^e\.yaml:2:14 memoryShare: expected a value between 0 \(excluded\) and 1; got 0$/],
    [`${cuda}cards: []\n`, /^e\.yaml:2:1 cards: expected at least one value; got \[\]$/],
    [`${cuda}cards: [1, 1]\n`, /^e\.yaml:2:1 cards: expected values that differ; got \[1,1\]$/],
    [
      `${cuda}cards: [0, GPU-8932f937]\n`,
      /^e\.yaml:2:1 cards: expected cards all by number or all by name: .*two tasks/
    ],
    [`${cuda}cards: [GPU-8932F937-ab, GPU-8932f937]\n`, /^e\.yaml:2:1 cards: expected cards that differ: a name that/],
    [
      `${cuda}hosts: { coordinator: node0, count: 2 }\n`,
      /^e\.yaml:2:23 hosts\.coordinator: expected HOST:PORT of host 0/
    ],
    [`${cuda}hosts: { count: 2 }\n`, /^e\.yaml:2:\d+ hosts.*coordinator is missing/],
    [
      `${cuda}hosts: { coordinator: "node0:1", count: 2, id: 2 }\n`,
      /^e\.yaml:2:\d+ hosts\.id: 2 hosts have no number 2 \(write one from 0 to 1\)$/
    ],
    [
      `${cuda}hosts: { coordinator: "node0:1", count: 2, secret: word }\n`,
      /^e\.yaml:2:\d+ hosts\.secret: no key secret here \(known: coordinator, count, id, secretFile\)$/
    ],
    [
      `${cuda}hosts: { coordinator: "node0:1", count: 2, secretFile: none }\n`,
      /^e\.yaml:2:\d+ hosts\.secretFile: there is no file .*none \(name the file.*OVERTONE_HOSTS_SECRET\)$/
    ],
    [
      `hosts: { coordinator: "node0:1", count: 2 }\n`,
      /^e\.yaml:1:1 hosts: cpu is of one host \(write device: xla:cuda/
    ],
    [`${cuda}cards: [0, -1]\n`, /^e\.yaml:2:12 cards\.1: expected a card's number, or its name as `nvidia-smi -L`/],
    [`${cuda}cards: [gpu0]\n`, /^e\.yaml:2:9 cards\.0: .*\(GPU-\.\.\.\); got gpu0$/],
    [`${cuda}mesh: { tensor: 2 }\n`, /^e\.yaml:2:9 mesh\.tensor: no key tensor here \(known: data, fsdp, model\)$/],
    [`${cuda}mesh: {}\n`, /^e\.yaml:2:1 mesh: expected at least one of data, fsdp, model; got \{\}$/],
    [`${cuda}mesh: data=2\n`, /^e\.yaml:2:7 mesh: expected a section \(data, fsdp, model\); got data=2$/],
    [
      `${cuda}devices: 3\nmesh: { data: 2, model: 2 }\n`,
      /^e\.yaml:3:1 mesh: data=2,model=2 makes 4, and `devices` says 3 \(leave `devices` out: the mesh says how many\)$/
    ],
    [
      `${cuda}cards: [0, 1]\ndevices: 4\n`,
      /^e\.yaml:3:1 devices: a task would take 4 cards, and there are 2 \(take fewer\)$/
    ],
    ["device: xla:cpu\nmesh: { data: 65 }\n", /^e\.yaml:2:1 mesh: xla:cpu shows 64 devices at most \(take fewer\)$/],
    ["mesh: { fsdp: 4 }\n", /^e\.yaml:1:1 mesh: the device cpu is one; .* \(write device: xla:cuda\)$/],
    [
      "memoryShare: 0.5\n",
      /^e\.yaml:1:1 memoryShare: cpu has no cards .* \(write device: xla:cuda, or leave memoryShare/
    ],
    ["device: xla:cpu\ncards: [0]\n", /^e\.yaml:2:1 cards: xla:cpu has no cards/]
  ])("%j", async (yaml, message) => {
    expect(await problems(yaml)).toEqual([expect.stringMatching(message)])
  })

  it("all of them at once, in the order of the file", async () => {
    const places = (await problems("jobz: 1\ndevices: 0\ndevice: gpu\n")).map((line) => line.split(" ")[0])
    expect(places).toEqual(["e.yaml:1:1", "e.yaml:2:10", "e.yaml:3:9"])
  })
})

describe("a right file", () => {
  it("says what it leaves out by nothing", async () => {
    expect(await load("")).toMatchObject({ device: "auto", mesh: undefined, jobs: undefined, cards: undefined })
    expect((await load(`${cuda}devices: 1\n`)).mesh).toBeUndefined()
    expect((await load(`${cuda}mesh: { data: 1 }\n`)).mesh).toBeUndefined()
  })

  it("keeps the mesh's axes in its own order, as `--mesh` does; devices alone share batches", async () => {
    expect(meshText((await load(`${cuda}mesh: { model: 2, data: 3 }\n`)).mesh!)).toBe("model=2,data=3")
    expect(meshText((await load(`${cuda}devices: 4\n`)).mesh!)).toBe("data=4")
  })

  it("is told in one line", async () => {
    const whole = await load(`${cuda}cards: [GPU-1b, GPU-8932f937]\ndevices: 2\njobs: 1\nmemoryShare: 0.5\n`)
    expect(executorText(whole)).toBe(
      "xla:cuda, cards GPU-1b GPU-8932f937, data=2, 1 job at most, 0.5 of a card's memory"
    )
    expect(whole.cards).toEqual(["GPU-1b", "GPU-8932f937"])
    // what the device reads of the environment takes every share that a file may have
    expect(memoryShare(`${whole.memoryShare}`)).toBe(0.5)
    expect(executorText(await load("jobs: 3\n"))).toBe("auto, 3 jobs at most")
  })

  it("may name several hosts; their word stands in a file beside it", async () => {
    const dir = fresh()
    writeFileSync(join(dir, "word"), "open sesame\n")
    const hosts = 'hosts: { coordinator: "node0:7788", count: 4, id: 3, secretFile: word }'
    writeFileSync(join(dir, "e.yaml"), `${cuda}${hosts}\n`)
    const said = await Effect.runPromise(loadExecutor(join(dir, "e.yaml")))
    expect(said.hosts).toEqual({ coordinator: "node0:7788", count: 4, id: 3, secret: "open sesame" })
    expect(executorText(said)).toBe("xla:cuda, host 3 of 4 hosts at node0:7788")
    expect((await load(`${cuda}hosts: { coordinator: "[fe80::1]:1", count: 2 }\n`)).hosts).toMatchObject({ count: 2 })
  })

  it("is looked for in the project's root", () => {
    const root = fresh()
    expect(usualExecutor(root)).toBeUndefined()
    writeFileSync(join(root, "executor.yaml"), "")
    expect(usualExecutor(root)).toBe(join(root, "executor.yaml"))
  })

  it("names the devices of the command line", () => {
    expect(deviceNames).toEqual(devices)
  })
})

describe("an editor", () => {
  const schema = JSON.parse(executorSchemaText())

  it("reads a committed schema that is current (else: exp schema executor > experiments/executors/schema.json)", () => {
    const committed = readFileSync(executorSchemaFile(ownRoot), "utf8")
    expect(committed === executorSchemaText() ? "current" : "out of date").toBe("current")
  })

  it.each(globSync("experiments/executors/*.yaml", { cwd: ownRoot }))("accepts %s, and so does exp", async (file) => {
    const text = readFileSync(join(ownRoot, file), "utf8")
    expect(text).toMatch(/^# yaml-language-server: \$schema=\.\/schema\.json\n/)
    expect(faults(schema, parse(text))).toEqual([])
    await load(text)
  })

  it.each([
    ["devise: cpu", "/devise"],
    ["device: gpu", "/device"],
    ["mesh: { tensor: 2 }", "/mesh/tensor"],
    ["jobs: 0", "/jobs"],
    ["memoryShare: 2", "/memoryShare"]
  ])("marks %s", (yaml, path) => {
    expect(faults(schema, parse(yaml))).toEqual([path])
  })
})
