/** The GPU benchmark, as far as it can be wrong without a card: what it resumes, its table, its bundle; and all of it tiny on a CPU. */
import { spawnSync } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, describe, expect, it } from "vitest"
import { filesUnder, isNeeded, unfit, writeCode } from "../../bench/gpu/bundle.ts"
import {
  allowance,
  type Entry,
  type PartRecord,
  readRecord,
  remaining,
  withEntry,
  writeRecord
} from "../../bench/gpu/record.ts"
import { goals, reportOf } from "../../bench/gpu/report.ts"
import { steps, stepsOf } from "../../bench/gpu/steps.ts"
import { absent, titled } from "../device/xla/support.ts"

const folder = mkdtempSync(join(tmpdir(), "overtone-gpu-"))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const empty = (part: string): PartRecord => ({ part, device: "cuda", tiny: false, steps: {} })
const done = (result: unknown): Omit<Entry, "attempts"> => ({
  status: "done",
  startedAt: "2026-11-22",
  seconds: 1,
  result
})
const failed: Omit<Entry, "attempts"> = {
  ...done(null),
  status: "failed",
  message: "it ended with SIGKILL",
  tail: "one\ntwo"
}
const names = (list: ReadonlyArray<{ readonly name: string }>) => list.map(({ name }) => name)

describe("a part that is cut off", () => {
  const plan = ["x", "y", "z"].map((name) => ({ name, limit: 100 }))

  it("goes on with what was never tried, then tries once more what failed", () => {
    let record = withEntry(empty("a"), "x", failed)
    expect(names(remaining(plan, record))).toEqual(["y", "z", "x"])
    record = withEntry(record, "y", done(1))
    expect(names(remaining(plan, record))).toEqual(["z", "x"])
    record = withEntry(withEntry(record, "x", failed), "z", done(2))
    expect(record.steps["x"]?.attempts).toBe(2)
    expect(remaining(plan, record)).toEqual([])
    // what was not there may be there for the next command
    expect(names(remaining(plan, withEntry(record, "y", done({ absent: ["trl"] }))))).toEqual(["y"])
  })

  it("starts no step for which there is too little time, and calls what the part's end stops no failure", () => {
    expect(allowance({ name: "x", limit: 100 }, 300)).toEqual({ seconds: 100, cut: false })
    expect(allowance({ name: "x", limit: 100 }, 60)).toEqual({ seconds: 60, cut: true })
    expect(allowance({ name: "x", limit: 100 }, 19)).toBeUndefined()
    expect(allowance({ name: "x", limit: 10 }, 11)).toEqual({ seconds: 10, cut: false })
  })

  it("is read back as it was written, and refuses to mix devices or sizes", () => {
    const file = join(folder, "deep", "a.json")
    const record = withEntry(empty("a"), "x", done({ f32: 1e-7 }))
    writeRecord(file, record)
    expect(readRecord(file, empty("a"))).toEqual(record)
    expect(() => readRecord(file, { ...empty("a"), device: "cpu" })).toThrow(/device cuda.*asked for is.*device cpu/)
    expect(() => readRecord(file, { ...empty("a"), tiny: true })).toThrow(RangeError)
    expect(readRecord(join(folder, "none.json"), empty("b"))).toEqual(empty("b"))
  })

  it("every step of every part can be done within a part, and has a name of its own in it", () => {
    for (const { limit } of steps) expect(limit).toBeLessThanOrEqual(570)
    for (const part of ["a", "b", "c"] as const) expect(new Set(names(stepsOf(part))).size).toBe(stepsOf(part).length)
    expect(Object.keys(goals).filter((name) => !names(stepsOf("b")).includes(name))).toEqual([])
  })
})

describe("the report", () => {
  const rate = (tokensPerSecond: number) =>
    done({ tokensPerSecond, compileSeconds: 23.44, devicePeakBytes: 11.41e9, planPeakBytes: 9e9, peakBytes: 2.5e10 })
  const b = withEntry(
    withEntry(withEntry(empty("b"), "0.5B sft", rate(90_000)), "3B sft", rate(8000)),
    "3B lora",
    failed
  )
  const c = withEntry(empty("c"), "0.5B sft", rate(45_000))

  it("has ours, the peer's, their ratio, floor and target", () => {
    const lines = reportOf([empty("a"), b, c]).split("\n")
    expect(lines.find((line) => line.startsWith("| 0.5B sft"))).toBe(
      "| 0.5B sft | 90,000 | 45,000 | 2.00 | 60,000 | 100,000 | floor met | 23.4 | 11.4 | 9.0 | 25.0 |"
    )
    expect(lines.find((line) => line.startsWith("| 3B sft"))).toBe(
      "| 3B sft | 8,000 | - | - | 12,000 | 16,000 | below the floor | 23.4 | 11.4 | 9.0 | - |"
    )
  })

  it("says what failed and with what words, and what was not run", () => {
    const text = reportOf([empty("a"), b, c])
    expect(text).toContain("- b: 3B lora, attempt 1: it ended with SIGKILL (one / two)")
    expect(text).toMatch(/## Not run\n\na: loading, .*b: 0\.5B lora, .*c: 3B sft/)
    expect(text).not.toMatch(/Not run[^#]*b: 3B lora(?! loop)/)
  })

  it("measures nothing against a goal where sizes are tiny, and claims nothing where nothing was run", () => {
    expect(reportOf([empty("a"), { ...b, tiny: true }, c].map((one) => ({ ...one, tiny: true })))).not.toContain(
      "60,000"
    )
    expect(reportOf([])).toContain("No speeds were measured.")
  })
})

describe("the bundle", () => {
  it("takes of a package what runs on Linux", () => {
    const kept = ["package.json", "index.js", "linux_x64/koffi.node", "src/koffi/index.cjs", "LICENSE.txt"]
    const left = [
      "musl_x64/koffi.node",
      "vendor/a.js",
      "doc/x.js",
      "cnoke.cjs",
      "index.d.ts",
      "lib/native/base.cc",
      "README.md"
    ]
    expect([...kept, ...left].filter(isNeeded)).toEqual(kept)
  })

  it("holds the commands, koffi's library and nothing of the CPU's engine or the warehouse", async () => {
    const target = join(folder, "bundle")
    await writeCode(target)
    const files = filesUnder(target)
    for (const file of ["run.sh", "run.mjs", "step.mjs", "install.mjs", "peer.py"]) expect(files).toContain(file)
    expect(files).toContain("node_modules/@koromix/koffi-linux-x64/linux_x64/koffi.node")
    expect(files.filter((file) => /onnxruntime|duckdb/.test(file))).toEqual([])
    // beside it only Node travels, 43 MiB compressed
    expect(files.reduce((sum, file) => sum + statSync(join(target, file)).size, 0)).toBeLessThan(8 * 2 ** 20)
  })

  it("takes no wheel that is missing or not the pinned one", async () => {
    writeFileSync(join(folder, "a.whl"), "other")
    const wheel = (file: string) => ({ project: "p", version: "1", file, sha256: "0".repeat(64) })
    expect(await unfit(folder, [wheel("a.whl"), wheel("b.whl")])).toEqual([
      "a.whl is not the pinned file",
      "b.whl is missing"
    ])
  })
})

describe("run.sh", () => {
  const run = (out: string, env: Readonly<Record<string, string>>, ...args: ReadonlyArray<string>) => {
    const script = join(import.meta.dirname, "..", "..", "bench", "gpu", "run.sh")
    return spawnSync("bash", [script, "--out", out, "--tiny", ...args], {
      encoding: "utf8",
      env: { ...process.env, ...env }
    })
  }
  const recordOf = (out: string, part: string): PartRecord =>
    JSON.parse(readFileSync(join(out, `${part}.json`), "utf8"))

  it.skipIf(absent !== undefined)(titled("does a part on the CPU, and nothing again"), () => {
    const out = join(folder, "cpu")
    const chosen = ["--device", "cpu", "loading", "donation", "dots", "ceilings", "0.5B sft", "0.5B decode 64"]
    const first = run(out, {}, ...chosen)
    expect(first.stderr).not.toContain("failed")
    expect(first.status).toBe(0)
    const a = recordOf(out, "a")
    expect(a.steps["donation"]?.result).toMatchObject({ inPlace: true, right: true })
    expect(a.steps["dots"]?.result).toMatchObject({ right: true })
    const trained = recordOf(out, "b").steps["0.5B sft"]?.result
    // 4 rows of 9 + 24 - 1 places
    expect(trained).toMatchObject({ tokens: 128, seconds: [expect.any(Number), expect.any(Number)] })
    expect(readFileSync(join(out, "report.md"), "utf8")).toContain("| 0.5B decode 64 |")
    expect(run(out, {}, ...chosen).status).toBe(0)
    expect(recordOf(out, "a")).toEqual(a)
  })

  it("records a failure with its message and goes on; without a Python it says so", () => {
    const out = join(folder, "none")
    const env = { OVERTONE_CACHE: join(folder, "no-cache") }
    const { status } = run(out, env, "--device", "cuda", "--python", "/no/python", "loading", "dots", "peer versions")
    expect(status).toBe(75)
    const { steps: found } = recordOf(out, "a")
    expect(found["loading"]).toMatchObject({ status: "failed", attempts: 1, message: "it ended with exit code 1" })
    expect(found["loading"]?.tail).toContain("exp device install nvidia")
    expect(found["loading"]?.result).toMatchObject({ node: process.version })
    expect(found["dots"]?.status).toBe("failed")
    expect(recordOf(out, "c").steps["peer versions"]).toMatchObject({
      status: "done",
      result: { absent: ["/no/python"] }
    })
  })

  it("refuses a step that there is not", () => {
    const { status, stderr } = run(join(folder, "x"), {}, "0.5B stf")
    expect(status).toBe(2)
    expect(stderr).toContain("there is no step 0.5B stf")
  })
})
