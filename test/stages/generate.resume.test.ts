/** Generation as a stage: the answers of an attempt that was broken off and taken up are those of an undisturbed one. */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { assert, beforeAll, describe, it } from "@effect/vitest"
import { Effect, Exit } from "effect"
import { Situations } from "../../src/artifact/kinds.ts"
import { generate } from "../../src/stages/generate.ts"
import { freshFolder } from "../support/folders.ts"
import { attemptStage, rowsOf, runStage } from "../support/runStage.ts"
import { tinyPolicy, tinyWorld } from "./ground.ts"

const fresh = freshFolder("generate")
let policy: string
let situations: string
beforeAll(async () => {
  const world = await Effect.runPromise(tinyWorld(fresh))
  policy = await Effect.runPromise(tinyPolicy(fresh, world.world))
  // Three chunks of prompts.
  situations = fresh()
  const rows = await Effect.runPromise(rowsOf(Situations, world.train))
  const many = [0, 1, 2].flatMap((k) => rows.map((row) => ({ ...row, id: `${row.id}/${k}` })))
  await Effect.runPromise(Situations.write(situations).write(many))
})

const asked = (params: object = {}) => ({
  dir: fresh(),
  params: { maxNewTokens: 6, samples: 2, ...params },
  inputs: { policy, situations },
  seed: 3
})
const completions = (dir: string) => readFileSync(join(dir, "rows.jsonl"), "utf8")

describe("answers", () => {
  it.effect("are the same after an interruption, row for row and byte for byte", () =>
    Effect.gen(function* () {
      const whole = yield* runStage(generate, asked())
      const broken = yield* attemptStage(generate, { ...asked(), checkpointEvery: 1, breakAt: 64 })
      assert.isTrue(Exit.isFailure(broken.exit))
      const resume = broken.said.checkpoints[0]!
      assert.strictEqual(resume.step, 64)
      const rest = yield* runStage(generate, { ...asked(), resume })
      assert.deepStrictEqual([...broken.said.samples, ...rest.said.samples], whole.said.samples)
      assert.lengthOf(whole.said.samples, 2 * 144)
      assert.strictEqual(completions(rest.out.completions), completions(whole.out.completions))
      const said = ({ metrics }: typeof whole.said) => Object.entries(metrics[0]!.values)
      const apart = (entries: ReturnType<typeof said>) => entries.filter(([name]) => !name.startsWith("perf/"))
      assert.deepStrictEqual(apart(said(rest.said)), apart(said(whole.said)))
      // what the second attempt decoded
      assert.deepStrictEqual(
        said(rest.said).map(([name]) => name),
        said(whole.said).map(([name]) => name)
      )
      assert.isAbove(whole.said.metrics[0]!.values["perf/live_share"]!, 0.7)
      assert.deepStrictEqual(rest.said.progress[0], { step: 64, of: 144 })
    })
  )
})
