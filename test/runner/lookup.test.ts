import { rmSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Plan } from "../../src/dsl/Planned.ts"
import { warehouseLookup } from "../../src/runner/lookup.ts"
import { select } from "../../src/runner/selection.ts"
import { planOf, runLines, runPlan } from "../support/counted.ts"
import { freshFolder } from "../support/folders.ts"

const fresh = freshFolder("lookup")
const cell = "counting/one/seed=0"
const keyOf = (plan: Plan, node: string) => plan.tasks.find((task) => task.nodes.includes(node))?.key ?? ""

describe("what a plan asks of a warehouse", () => {
  it.live("is answered from the newest run in which the cell's node came to an end", () =>
    Effect.gen(function* () {
      const root = fresh()
      const nothing = warehouseLookup(join(root, "not-there"), "counting")
      assert.isUndefined(nothing.previous(cell, "walk", "walk", 0))
      assert.isUndefined(nothing.realisation("c", "d"))

      const first = planOf({ walk: { steps: 2 }, other: { steps: 2 } }, { digests: { walk: "c0de1" } })
      const one = select(first, { only: "walk" })
      yield* runPlan(root, one.plan, { wanted: one.wanted })
      // The next run rebinds the cell to another task, which fails.
      const second = planOf({ walk: { steps: 2, mood: "typed", at: 0 }, other: { steps: 2 } })
      const two = select(second, { only: "walk" })
      yield* runPlan(root, two.plan, { wanted: two.wanted })

      const lookup = warehouseLookup(root, "counting")
      const previous = lookup.previous(cell, "walk", "walk", 0)
      assert.deepInclude(previous, { key: keyOf(first, "walk"), done: true, codeDigest: "c0de1", seed: 0, class: null })
      assert.propertyVal(previous?.params, "steps", 2)
      assert.deepStrictEqual(previous?.inputs, { data: { task: keyOf(first, "numbers"), output: "data" } })
      assert.deepStrictEqual(previous?.code, { files: {}, packages: {} })
      // Planned twice, never done: known, but not as something that ran before.
      assert.deepInclude(lookup.previous(cell, "judge", "judge", 0), { done: false, codeDigest: null })
      assert.isUndefined(lookup.previous(cell, "walk", "walk", 1))
      assert.isUndefined(lookup.previous("counting/one/seed=7", "walk", "walk", 0))
      assert.isUndefined(warehouseLookup(root, "another").previous(cell, "walk", "walk", 0))

      const attempt = runLines(root, "attempt").find((line) => line["key"] === keyOf(first, "walk"))
      const found = lookup.realisation(String(attempt?.["contentKey"]), "c0de1")
      assert.strictEqual(found?.attempt, attempt?.["attempt"])
      const sha256 = found?.outputs["state"]?.sha256 ?? ""
      assert.isTrue(lookup.artifact(sha256))
      rmSync(join(root, "artifacts", sha256), { recursive: true })
      assert.isFalse(lookup.artifact(sha256))
    })
  )
})
