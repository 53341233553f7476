/**
 * A vitest reporter that has the last word: what failed, what passed at its second try only, and one plain line,
 * `N passed, N failed, N skipped`.
 */
import { writeSync } from "node:fs"
import { relative } from "node:path"
import type { Reporter, TestModule } from "vitest/node"

/** What is asked of a test file that ran: vitest's `TestModule`, as far as it matters here. */
export interface Ran {
  readonly moduleId: string
  readonly state: () => string
  readonly errors: () => ReadonlyArray<unknown>
  readonly children: {
    readonly allTests: () => Iterable<{
      readonly fullName: string
      readonly result: () => {
        readonly state: "passed" | "failed" | "skipped" | "pending"
        readonly errors?: ReadonlyArray<unknown> | undefined
      }
      readonly diagnostic: () => { readonly flaky: boolean } | undefined
    }>
    readonly allSuites: () => Iterable<{ readonly fullName: string; readonly errors: () => ReadonlyArray<unknown> }>
  }
}

/** The first line of what was thrown, whatever that is. */
const firstLine = (thrown: unknown): string => {
  const message = typeof thrown === "object" && thrown !== null && "message" in thrown ? thrown.message : thrown
  return String(typeof message === "object" ? JSON.stringify(message) : message).split("\n")[0]!
}

/**
 * Tests by result; a module that could not even be loaded counts as one failure, as do a hook that failed and an error outside
 * any test.
 */
export const tally = (modules: ReadonlyArray<Ran>, errors: ReadonlyArray<unknown>) => {
  const n = { passed: 0, failed: errors.length, skipped: 0 }
  const said = errors.map((error) => `failed: outside any test: ${firstLine(error)}`)
  for (const module of modules) {
    const file = relative(process.cwd(), module.moduleId)
    let failedInside = false
    for (const test of module.children.allTests()) {
      const { errors: why = [], state } = test.result()
      if (state === "pending") n.failed++
      else n[state]++
      const failed = state === "failed" || state === "pending"
      failedInside ||= failed
      if (failed)
        said.push(`failed: ${file} > ${test.fullName}: ${why.length > 0 ? firstLine(why[0]) : "it did not end"}`)
      else if (test.diagnostic()?.flaky) said.push(`passed at its second try: ${file} > ${test.fullName}`)
    }
    // a hook of a group: its tests count as skipped
    for (const suite of module.children.allSuites()) {
      const [why] = suite.errors()
      if (why === undefined) continue
      failedInside = true
      n.failed++
      said.push(`failed: ${file} > ${suite.fullName}: ${firstLine(why)}`)
    }
    if (module.state() === "failed" && !failedInside) {
      n.failed++
      said.push(`failed: ${file}: ${firstLine(module.errors()[0] ?? "a hook")}`)
    }
  }
  return { ...n, said }
}

export default class Summary implements Reporter {
  onTestRunEnd(modules: ReadonlyArray<TestModule>, errors: ReadonlyArray<unknown>): void {
    const { failed, passed, said, skipped } = tally(modules, errors)
    const count = `${passed} passed, ${failed} failed, ${skipped} skipped`
    // After the other reporters' own last words, which are written in the same turn.
    process.once("exit", () => writeSync(1, `${[...said, count].join("\n")}\n`))
  }
}
