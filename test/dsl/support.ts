/** Experiment files in a temporary folder, loaded against the project of toy stages beside this file. */
import { mkdirSync, writeFileSync } from "node:fs"
import { basename, dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { Effect, Exit } from "effect"
import { expect } from "vitest"
import { loadExperiment } from "../../src/dsl/load.ts"
import type { LoadedExperiment } from "../../src/dsl/Planned.ts"
import { InvalidExperiment, type Problem } from "../../src/dsl/problems.ts"
import { freshFolder } from "../support/folders.ts"

export const projectRoot = fileURLToPath(new URL("./project", import.meta.url))

/** A new empty folder, gone after the test file. */
export const fresh = freshFolder("dsl")

/** Writes files into a fresh folder and gives its path. */
export const folder = (files: Readonly<Record<string, string>>): string => {
  const dir = fresh()
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(dir, name)), { recursive: true })
    writeFileSync(join(dir, name), text)
  }
  return dir
}

interface Options {
  readonly set?: ReadonlyArray<string>
  readonly files?: Readonly<Record<string, string>>
}

const attempt = async (yaml: string, { set = [], files = {} }: Options) => {
  const dir = folder({ ...files, "x.yaml": yaml })
  return Effect.runPromiseExit(loadExperiment(join(dir, "x.yaml"), { set, projectRoot }))
}

export const load = async (yaml: string, options: Options = {}): Promise<LoadedExperiment> => {
  const exit = await attempt(yaml, options)
  if (Exit.isSuccess(exit)) return exit.value
  throw exit.cause.reasons.map((r) => (r._tag === "Fail" ? new Error(r.error.message) : r))[0]
}

/** The problems of a file that must be invalid; folders taken off the file names. */
export const problems = async (yaml: string, options: Options = {}): Promise<ReadonlyArray<Problem>> => {
  const exit = await attempt(yaml, options)
  if (Exit.isSuccess(exit)) throw new Error("expected an invalid experiment")
  for (const reason of exit.cause.reasons) {
    if (reason._tag === "Fail" && reason.error instanceof InvalidExperiment) {
      return reason.error.errors.map((p) => ({ ...p, file: basename(p.file) }))
    }
  }
  throw new Error(String(exit.cause))
}

/** `line:col path` of every problem. */
export const places = async (yaml: string, options: Options = {}): Promise<ReadonlyArray<string>> =>
  (await problems(yaml, options)).map((p) => `${p.file}:${p.line}:${p.col} ${p.path}`)

/** What every file of a mistake begins with. */
export const head = "name: x\npipeline: op\n"

/** A mistake, the place where it is told, and a word of its message or hint. */
export type Mistake = readonly [what: string, yaml: string, place: string, word: RegExp]

/** Asserts that a file has one problem, there, that says so. */
export const onlyTold = async (yaml: string, place: string, word: RegExp): Promise<void> => {
  const found = await problems(yaml)
  const told = found.map((p) => `${p.file}:${p.line}:${p.col} ${p.path} | ${p.message} | ${p.hint ?? ""}`)
  expect(told, told.join("\n")).toHaveLength(1)
  expect(told[0]).toContain(`${place} | `)
  expect(told[0]).toMatch(word)
}
