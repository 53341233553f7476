/**
 * What the pages show works: fenced `yaml` parses (and, where it names a pipeline, is a valid experiment), fenced `sql`
 * is understood by the warehouse, fenced `ts` type-checks as a module of its own (`ts fragment` only has to parse), and
 * links lead somewhere. Every experiment is valid, and says what it is for.
 */
import { execFileSync } from "node:child_process"
import { existsSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { stripTypeScriptTypes } from "node:module"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { it } from "@effect/vitest"
import { Effect, Result } from "effect"
import { afterAll, beforeAll, describe, expect } from "vitest"
import { parseDocument } from "yaml"
import { loadExperiment } from "../src/dsl/load.ts"
import { DuckDb } from "../src/warehouse/DuckDb.ts"
import { migrate, recreateViews } from "../src/warehouse/Migrations.ts"
import { root } from "./support/imports.ts"

interface Block {
  /** `README.md:31`: where its first line is. */
  readonly at: string
  readonly info: string
  readonly text: string
}

const blocksOf = (file: string, text: string): ReadonlyArray<Block> => {
  const blocks: Array<Block> = []
  const lines = text.split("\n")
  for (let i = 0; i < lines.length; i++) {
    const info = /^```(\S.*)?$/.exec(lines[i]!)
    if (!info) continue
    const end = lines.indexOf("```", i + 1)
    if (end < 0) throw new Error(`${file}:${i + 1}: a fence that is never closed`)
    blocks.push({ at: `${file}:${i + 2}`, info: info[1] ?? "", text: lines.slice(i + 1, end).join("\n") })
    i = end
  }
  return blocks
}

const pages = [...globSync("*.md", { cwd: root }), ...globSync("docs/**/*.md", { cwd: root })].sort()
const blocks = pages.flatMap((page) => blocksOf(page, readFileSync(join(root, page), "utf8")))
const ofKind = (...infos: ReadonlyArray<string>) => blocks.filter((block) => infos.includes(block.info))

const problemsOf = async (file: string, projectRoot = root) => {
  const result = await Effect.runPromise(Effect.result(loadExperiment(file, { projectRoot })))
  return Result.isSuccess(result) ? [] : result.failure.errors
}

describe("fenced yaml", () => {
  const folder = mkdtempSync(join(tmpdir(), "overtone-docs-"))
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  it.each(ofKind("yaml"))("$at is right", async ({ text }) => {
    const document = parseDocument(text)
    expect(document.errors).toEqual([])
    if (!document.has("pipeline") && !document.has("arms")) return
    // As if it stood among the experiments.
    const bases = document.toJS()["extends"]
    const absolute = (base: string) => join(root, "experiments", base)
    if (bases !== undefined) document.set("extends", [bases].flat().map(absolute))
    const file = join(folder, "page.yaml")
    writeFileSync(file, String(document))
    expect(await problemsOf(file)).toEqual([])
  })
})

describe("fenced sql", () => {
  const queries = [
    ...ofKind("sql").map(({ at, text }) => ({ at, text })),
    ...globSync("warehouse/queries/*.sql", { cwd: root }).map((at) => ({
      at,
      text: readFileSync(join(root, at), "utf8")
    }))
  ]

  it.live.each(queries)("$at is understood by the warehouse", ({ text }) =>
    Effect.gen(function* () {
      yield* migrate()
      yield* recreateViews()
      const { connection } = yield* DuckDb
      yield* Effect.promise(async () => {
        const statements = await connection.extractStatements(text)
        for (let i = 0; i < statements.count; i++) await statements.prepare(i)
      })
    }).pipe(Effect.provide(DuckDb.layer({ path: ":memory:" })))
  )
})

describe("experiments", () => {
  const files = globSync("experiments/**/*.yaml", { cwd: root }).filter(
    (file) => !/\/(base|executors)\//.test(file) && !file.includes("/.")
  )

  /** `--set data=DIR` in the head of a file: what only its user can say. */
  const asked = (file: string) =>
    [...readFileSync(join(root, file), "utf8").matchAll(/^#.*$/gm)].flatMap(([line]) =>
      [...line.matchAll(/--set ([\w.]+)=[A-Z]+\b/g)].map(([, key]) => key!)
    )

  it.each(files)("%s is valid, but for what its head asks of the user", async (file) => {
    const missing = asked(file).map((key) => `${key} is missing`)
    const problems = await problemsOf(join(root, file))
    expect(problems.filter((problem) => !missing.includes(problem.message))).toEqual([])
  })
})

describe("fenced typescript", () => {
  // Inside the project, so that packages and the project's own name resolve.
  const folder = join(root, `.vitest-docs-${process.pid}`)
  const whole = ofKind("ts")
  const nameOf = (at: string) => at.replaceAll(/[^A-Za-z0-9]+/g, "_")
  let complaints = ""

  beforeAll(() => {
    if (whole.length === 0) return
    mkdirSync(folder, { recursive: true })
    for (const { at, text } of whole) writeFileSync(join(folder, `${nameOf(at)}.ts`), `${text}\nexport {}\n`)
    const settings = { extends: "../tsconfig.json", compilerOptions: { noUnusedLocals: false }, include: ["*.ts"] }
    writeFileSync(join(folder, "tsconfig.json"), JSON.stringify(settings))
    try {
      execFileSync(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), "-p", folder], {
        encoding: "utf8"
      })
    } catch (error) {
      complaints = String((error as { readonly stdout?: unknown }).stdout ?? "")
      if (!/error TS\d+/.test(complaints)) throw error
    }
  })

  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  it.each(ofKind("ts", "ts fragment"))("$at parses", ({ text }) => {
    expect(() => stripTypeScriptTypes(text)).not.toThrow()
  })

  it.each(whole)("$at type-checks", ({ at }) => {
    expect(complaints.split("\n").filter((line) => line.includes(`${nameOf(at)}.ts`))).toEqual([])
  })
})

describe("links", () => {
  const links = pages.flatMap((page) => {
    const text = readFileSync(join(root, page), "utf8").replaceAll(/^```[\s\S]*?^```$/gm, "")
    return [...text.matchAll(/\]\(([^)\s]+)\)/g)]
      .map(([, to]) => ({ page, to: to!.replace(/#.*$/, "") }))
      .filter(({ to }) => to !== "" && !/^[a-z]+:/.test(to))
  })

  it.each(links)("$page leads to $to", ({ page, to }) => {
    expect(existsSync(join(root, dirname(page), to))).toBe(true)
  })
})

it("every page is in the index of pages", () => {
  const index = readFileSync(join(root, "docs/README.md"), "utf8")
  const missing = globSync("*.md", { cwd: join(root, "docs") }).filter(
    (page) => page !== "README.md" && !index.includes(`(${page})`)
  )
  expect(missing).toEqual([])
})

it("every experiment says its question, its command and what is expected, and the command names the file", () => {
  const wrong = globSync("experiments/**/*.yaml", { cwd: root }).filter((file) => {
    const head = readFileSync(join(root, file), "utf8").split(/^[^#\n]/m)[0]!
    return (
      !/\/(base|executors)\//.test(file) &&
      !(/^# Question:/m.test(head) && new RegExp(`^# Run: .*${file}`, "m").test(head) && /^# Expect/m.test(head))
    )
  })
  expect(wrong).toEqual([])
})
