/** The command as a process of its own: signals, pipes, a warehouse in use. */
import { type ChildProcess, spawn } from "node:child_process"
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { afterAll, afterEach, describe, expect, it } from "vitest"

const home = mkdtempSync(join(tmpdir(), "overtone-process-"))
const children = new Set<ChildProcess>()
afterEach(() => {
  for (const child of children) child.kill("SIGKILL")
  children.clear()
})
afterAll(() => rmSync(home, { recursive: true, force: true }))

const entry = join(import.meta.dirname, "..", "..", "src", "main.ts")
const climb = join(import.meta.dirname, "project", "experiments", "climb.yaml")

const start = (...argv: ReadonlyArray<string>) => {
  const child = spawn(process.execPath, [entry, ...argv], { stdio: ["ignore", "pipe", "pipe"] })
  children.add(child)
  const said = { out: "", err: "" }
  child.stderr.setEncoding("utf8").on("data", (text) => (said.err += text))
  const lines = createInterface({ input: child.stdout })
  lines.on("line", (line) => (said.out += `${line}\n`))
  /** Resolves with the first JSON line that fits. */
  const seen = (fits: (event: Record<string, unknown>) => boolean): Promise<Record<string, unknown>> =>
    new Promise((resolve, reject) => {
      lines.on("line", (line) => {
        const event = JSON.parse(line)
        if (fits(event)) resolve(event)
      })
      lines.once("close", () => reject(new Error(`ended before it was seen: ${said.out}${said.err}`)))
    })
  const ended = new Promise<number | null>((resolve) => child.once("close", (code) => resolve(code)))
  return { child, said, seen, ended }
}

const alive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

describe("exp run", () => {
  // nobody waits for its end
  const slow = ["run", climb, "--limit", "1", "--json", "--set", "climb.ms=200", "--set", "climb.steps=20000"]

  it("ends with 130 on Ctrl-C, takes its workers with it, and a second one beside it is refused", async () => {
    const warehouse = mkdtempSync(join(home, "interrupted-"))
    const first = start("--warehouse", warehouse, ...slow)
    const progress = first.seen((e) => e["type"] === "progress")
    const { pid } = await first.seen((e) => e["state"] === "started" && e["stage"] === "climb")
    await progress

    const second = start("--warehouse", warehouse, ...slow)
    expect(await second.ended).toBe(2)
    expect(second.said.out).toBe("")
    expect(second.said.err).toMatch(/in use/)

    first.child.kill("SIGINT")
    expect(await first.ended).toBe(130)
    expect(alive(Number(pid))).toBe(false)
    expect(first.said.err).toMatch(/Interrupted.*go on with:\n.*exp --warehouse .* run .*--set climb\.ms=200/s)

    const third = start("--warehouse", warehouse, "run", climb, "--limit", "1", "--json")
    expect(await third.ended).toBe(0)
    expect(JSON.parse(third.said.out.trim().split("\n").at(-1)!)).toMatchObject({
      type: "summary",
      cached: 1,
      ran: 2,
      failed: 0
    })
  })

  it("ends in order when its reader goes away, and takes its workers with it", async () => {
    const { child, seen, said, ended } = start("--warehouse", mkdtempSync(join(home, "unread-")), ...slow)
    const { pid } = await seen((e) => e["state"] === "started" && e["stage"] === "climb")
    child.stdout.destroy()
    expect(await ended).toBe(130)
    expect(alive(Number(pid))).toBe(false)
    expect(said.err).toMatch(/Interrupted/)
  })

  it("ends in order, too, when nobody reads what it tells people", async () => {
    const { child, ended } = start(
      "--warehouse",
      mkdtempSync(join(home, "unheard-")),
      ...slow.filter((word) => word !== "--json")
    )
    await new Promise((resolve) => child.stderr.once("data", resolve))
    child.stderr.destroy()
    expect(await ended).toBe(130)
  })

  it("of a file that is in no project keeps its warehouse where it was called", async () => {
    const loose = mkdtempSync(join(home, "loose-"))
    const pipeline = join(import.meta.dirname, "project", "pipelines", "climb.ts")
    writeFileSync(join(loose, "loose.yaml"), `name: loose\npipeline: ${JSON.stringify(pipeline)}\n`)
    const child = spawn(process.execPath, [entry, "run", "loose.yaml", "--only", "start"], { cwd: loose })
    children.add(child)
    expect(await new Promise((resolve) => child.once("close", resolve))).toBe(0)
    expect(existsSync(join(loose, "warehouse", "store", "overtone.duckdb"))).toBe(true)
  })
})

describe("paths on the command line", () => {
  /** As pnpm starts a script: in the project's root, with where it was called. */
  const called = async (cwd: string, from: string, ...argv: ReadonlyArray<string>) => {
    const env = { ...process.env, INIT_CWD: from, npm_package_json: join(project, "package.json") }
    const child = spawn(process.execPath, [entry, ...argv], { cwd, env })
    children.add(child)
    let said = ""
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text) => (said += text))
    await new Promise((resolve) => child.once("close", resolve))
    return said
  }
  const project = mkdtempSync(join(home, "project-"))
  const sub = join(project, "deep", "er")
  const elsewhere = join(project, "elsewhere")
  for (const dir of [sub, elsewhere]) mkdirSync(dir, { recursive: true })
  writeFileSync(join(project, "package.json"), '{ "name": "paths", "type": "module" }')
  for (const dir of [project, sub])
    writeFileSync(join(dir, "x.yaml"), `name: x\npipeline: none-of-${dir === sub ? "sub" : "root"}\n`)
  writeFileSync(join(project, "y.yaml"), "name: y\npipeline: none-of-root\n")

  it("are relative to where they were typed, whatever folder pnpm changed to", async () => {
    const [warehouse, file, fallback, moved] = await Promise.all([
      called(project, sub, "--warehouse", "./w", "sql", "select 1"),
      called(project, sub, "plan", "x.yaml"),
      called(project, sub, "plan", "y.yaml"),
      called(elsewhere, sub, "--warehouse", "./w", "sql", "select 1")
    ])
    expect(warehouse).toContain(join(sub, "w"))
    expect(file).toMatch(/none-of-sub/)
    expect(fallback).toMatch(/none-of-root/)
    // A script that changed the folder by itself means its own.
    expect(moved).toContain(join(elsewhere, "w"))
  })
})

describe("exp sql", () => {
  it("is content when its reader has seen enough", async () => {
    const warehouse = mkdtempSync(join(home, "asked-"))
    expect(await start("--warehouse", warehouse, "run", climb, "--limit", "1", "--only", "start").ended).toBe(0)
    const { child, said, ended } = start(
      "--warehouse",
      warehouse,
      "sql",
      "select * from range(200000)",
      "--format",
      "csv"
    )
    child.stdout.destroy()
    expect(await ended).toBe(0)
    expect(said.err).toBe("")
  })
})

describe("exp schema", () => {
  it.skipIf(process.platform === "win32")("says when the file that it writes to takes no more", async () => {
    const child = spawn(
      "bash",
      ["-c", `ulimit -f 8; ${process.execPath} ${entry} schema > ${join(home, "cut.json")}`],
      {
        stdio: ["ignore", "ignore", "pipe"]
      }
    )
    children.add(child)
    let err = ""
    child.stderr.setEncoding("utf8").on("data", (text) => (err += text))
    expect(await new Promise((resolve) => child.once("close", resolve))).toBe(1)
    expect(err).toMatch(/exp: not all could be written: EFBIG/)
  })
})
