/** Temporary folders that go away with the test file. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll } from "vitest"

/** Call it at the top of a test file; each call of what it returns makes a new empty folder. */
export const freshFolder = (name: string): (() => string) => {
  const made: Array<string> = []
  afterAll(() => {
    for (const dir of made) rmSync(dir, { recursive: true, force: true })
  })
  return () => {
    const dir = mkdtempSync(join(tmpdir(), `overtone-${name}-`))
    made.push(dir)
    return dir
  }
}
