/** A tiny world's logged slates and its policy, made once for a test file, and logs of one's own. */
import { mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { Effect } from "effect"
import type { LoggedSlate } from "../../src/data/records.ts"
import { slates } from "../../src/stages/slates.ts"
import { runStage } from "../support/runStage.ts"
import { tinyPolicy, tinyWorld, warmPolicy } from "./ground.ts"

/** By a file's own folders. */
export const loggedGround = (fresh: () => string) =>
  Effect.cached(
    Effect.gen(function* () {
      const made = yield* tinyWorld(fresh)
      const policy = yield* warmPolicy(fresh, yield* tinyPolicy(fresh, made.world), made.demonstrations)
      const logged = yield* runStage(slates, {
        dir: fresh(),
        inputs: { world: made.world },
        params: { slatesPerPrompt: 4, slateSize: 3, poolSize: 5 }
      })
      return { made, policy, log: logged.out, said: logged.said }
    })
  ).pipe(Effect.runSync)

/** A log of one's own as an artifact, in a folder. */
export const writtenTo = (dir: string, rows: ReadonlyArray<LoggedSlate>) => {
  mkdirSync(dir, { recursive: true })
  writeFileSync(join(dir, "rows.jsonl"), rows.map((row) => `${JSON.stringify(row)}\n`).join(""))
  return dir
}

/** Value by votes alone, with the odds themselves. */
export const label = { cu: "label", votes: "rate", lambda: 0, propensity: "sequence" } as const
