/** References that go to another prompt: none keeps its own, none is lost, and the seed decides which. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Situations } from "../../src/artifact/kinds.ts"
import { shuffle } from "../../src/stages/shuffle.ts"
import { world } from "../../src/stages/world.ts"
import { freshFolder } from "../support/folders.ts"
import { failStage, rowsOf, runStage } from "../support/runStage.ts"
import { tinySettings } from "./ground.ts"

const fresh = freshFolder("shuffle")

describe("shuffle", () => {
  it.live("every prompt stays in its place and gets another's references; the windows are the same", () =>
    Effect.gen(function* () {
      const made = yield* runStage(world, { dir: fresh(), params: tinySettings })
      const before = yield* rowsOf(Situations, made.out.train)
      const shuffled = (seed: number) =>
        runStage(shuffle, { dir: fresh(), params: {}, inputs: { situations: made.out.train }, seed }).pipe(
          Effect.flatMap(({ out }) => rowsOf(Situations, out.situations))
        )
      const after = yield* shuffled(0)
      assert.deepStrictEqual(
        after.map(({ id, prompt }) => [id, prompt]),
        before.map(({ id, prompt }) => [id, prompt])
      )
      const text = ({ perspectives }: (typeof before)[number]) => perspectives.map((one) => one.text).join("\n")
      for (const [i, row] of after.entries()) assert.notStrictEqual(text(row), text(before[i]!))
      assert.deepStrictEqual(after.map(text).toSorted(), before.map(text).toSorted())
      assert.deepStrictEqual(yield* shuffled(0), after)
      assert.notDeepEqual(yield* shuffled(1), after)
    })
  )

  it.live("one prompt has nobody to take references from", () =>
    Effect.gen(function* () {
      const made = yield* runStage(world, { dir: fresh(), params: { ...tinySettings, test: 1 } })
      const error = yield* failStage(shuffle, { dir: fresh(), params: {}, inputs: { situations: made.out.test } })
      assert.match(String(error), /references go from one prompt to another, and there is one prompt/)
    })
  )
})
