/** `summary.json` in a report: one small object for people. */
import { writeFile } from "node:fs/promises"
import { join } from "node:path"
import { Effect } from "effect"

export const writeSummary = (dir: string, summary: Readonly<Record<string, string | number>>): Effect.Effect<void> =>
  Effect.promise(() => writeFile(join(dir, "summary.json"), `${JSON.stringify(summary, null, 2)}\n`))
