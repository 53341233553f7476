/** `exp export tensorboard`: every node of every cell with its metrics, from the published database. */
import { globSync, statSync } from "node:fs"
import { join } from "node:path"
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestConsole } from "effect/testing"
import { main } from "../../src/main.ts"
import { freshFolder } from "../support/folders.ts"

const fresh = freshFolder("export")
const climb = join(import.meta.dirname, "project", "experiments", "climb.yaml")

it.live("writes one file a run, and the same again", () =>
  Effect.gen(function* () {
    const [warehouse, out] = [fresh(), fresh()]
    assert.strictEqual(yield* main(["--warehouse", warehouse, "export", "tensorboard", out]), 2)
    assert.strictEqual(yield* main(["--warehouse", warehouse, "run", climb]), 0)
    assert.strictEqual(
      yield* main(["--warehouse", warehouse, "export", "tensorboard", out, "--experiment", "climb"]),
      0
    )
    const files = globSync("**/events.out.tfevents.*", { cwd: out }).sort()
    assert.isAbove(files.length, 0)
    assert.isTrue(
      files.every((file) => /^climb\/.*seed=\d+\/climb\//.test(file)),
      files.join()
    )
    assert.isTrue(files.every((file) => statSync(join(out, file)).size > 40))
    assert.strictEqual(yield* main(["--warehouse", warehouse, "export", "tensorboard", out]), 0)
    assert.deepStrictEqual(globSync("**/events.out.tfevents.*", { cwd: out }).sort(), files)
    assert.strictEqual(yield* main(["--warehouse", warehouse, "export", "tensorboard", out, "--experiment", "none"]), 2)
  }).pipe(Effect.provide(TestConsole.layer))
)
