import { readFileSync } from "node:fs"
import { join } from "node:path"
import { assert, it } from "@effect/vitest"
import { Effect, Exit } from "effect"
import { Task } from "../../src/dsl/Task.ts"
import { walk } from "./counting.ts"
import { freshFolder } from "./folders.ts"
import { memoryTask } from "./memoryTask.ts"

const fresh = freshFolder("memory")

it.effect("shows of a stage that N steps are k steps, an interruption, and the rest", () =>
  Effect.gen(function* () {
    const rows = Effect.succeed([{ value: 1 }, { value: 2 }])
    const params = { steps: 9, before: 0, ms: 0, eager: false, mood: "well", at: 99, grow: false } as const
    const go = Effect.fnUntraced(function* (more: Omit<Parameters<typeof memoryTask>[0], "dir">) {
      const out = fresh()
      const { task, said } = memoryTask({ dir: fresh(), checkpointEvery: 2, ...more })
      const context = {
        params,
        inputs: { data: { dir: "", rows } },
        outputs: { state: { dir: out }, checkpoint: { dir: "" } },
        seed: 3
      }
      const exit = yield* Effect.exit(Effect.provideService(walk.run(context), Task, task))
      return { exit, said, out }
    })
    const whole = yield* go({})
    const first = yield* go({ breakAt: 4 })
    assert.isTrue(Exit.isFailure(first.exit))
    assert.lengthOf(first.said.metrics, 4)
    const rest = yield* go({ resume: first.said.checkpoints.at(-1)! })
    const losses = (said: typeof whole.said) => said.metrics.map((m) => [m.step, m.values["loss"]])
    assert.deepStrictEqual([...losses(first.said), ...losses(rest.said)], losses(whole.said))
    assert.strictEqual(
      readFileSync(join(rest.out, "weights.json"), "utf8"),
      readFileSync(join(whole.out, "weights.json"), "utf8")
    )
  })
)
