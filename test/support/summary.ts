/** A vitest reporter whose last word is one plain line: `N passed, N failed, N skipped`. */
import { writeSync } from "node:fs"
import type { Reporter, TestModule } from "vitest/node"

/** Tests by result; a module that could not even be loaded counts as one failure, as does an error outside any test. */
export const tally = (modules: ReadonlyArray<TestModule>, errors: number) => {
  const n = { passed: 0, failed: errors, skipped: 0 }
  for (const module of modules) {
    let failedInside = false
    for (const test of module.children.allTests()) {
      const { state } = test.result()
      if (state === "pending") n.failed++
      else n[state]++
      failedInside ||= state === "failed" || state === "pending"
    }
    if (module.state() === "failed" && !failedInside) n.failed++
  }
  return n
}

export default class Summary implements Reporter {
  onTestRunEnd(modules: ReadonlyArray<TestModule>, errors: ReadonlyArray<unknown>): void {
    const { passed, failed, skipped } = tally(modules, errors.length)
    // After the other reporters' own last words, which are written in the same turn.
    process.once("exit", () => writeSync(1, `${passed} passed, ${failed} failed, ${skipped} skipped\n`))
  }
}
