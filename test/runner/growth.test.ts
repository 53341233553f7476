/**
 * More steps go on where fewer ended: equal to the last bit to a run that was never broken up, through a kill as well, with
 * every row once; and never from another family, nor from a longer run.
 */
import { appendFileSync, chmodSync, existsSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { TaskEvent } from "../../src/runner/events.ts"
import { warehouseLookup } from "../../src/runner/lookup.ts"
import { select } from "../../src/runner/selection.ts"
import { run } from "../../src/runner/supervisor.ts"
import { layer } from "../../src/warehouse/live.ts"
import { rows } from "../../src/warehouse/sql.ts"
import { optionsOf, planOf, resultOf, runPlan } from "../support/counted.ts"
import { hold, release } from "../support/counting.ts"
import { freshFolder } from "../support/folders.ts"

const fresh = freshFolder("growth")

interface Walk {
  readonly steps: number
  readonly before?: number
  readonly grow?: boolean
  readonly eager?: boolean
  readonly ms?: number
}
type Others = NonNullable<Parameters<typeof planOf>[1]>

/** The plan up to `walk`, whose node `other` is the same task. */
const walkPlan = (walk: Walk, others: Others = {}) => {
  const full = { grow: true, ...walk }
  const { plan, wanted } = select(planOf({ walk: full, other: full }, others), { only: "walk" })
  return { plan, wanted, key: plan.tasks.find(({ stage }) => stage === "walk")!.key }
}

/** Runs a walk and says with which step it began; undefined where it did not have to run. */
const go = Effect.fnUntraced(function* (
  root: string,
  walk: Walk,
  others: Others = {},
  watch: (event: TaskEvent | undefined, step: number) => void = () => undefined
) {
  const { plan, wanted, key } = walkPlan(walk, others)
  let started: TaskEvent | undefined
  const { summary } = yield* runPlan(root, plan, {
    wanted,
    onEvent: (event) => {
      if (event.type === "task" && event.key === key && event.state === "started") started = event
      if (event.type === "progress" && event.key === key) watch(started, event.step)
    }
  })
  return { key, firstStep: started?.firstStep, failed: summary.failed }
})

const undisturbed = Effect.fnUntraced(function* (walk: Walk) {
  const root = fresh()
  const { key, firstStep } = yield* go(root, walk)
  assert.strictEqual(firstStep, 0)
  return resultOf(root, key)
})

describe("a longer run", () => {
  it.live("takes up the longest shorter one, and is to the last bit what it would have been without", () =>
    Effect.gen(function* () {
      const root = fresh()
      const whole = yield* undisturbed({ steps: 9 })
      assert.strictEqual((yield* go(root, { steps: 4 })).firstStep, 0)
      assert.strictEqual((yield* go(root, { steps: 6 })).firstStep, 4)
      const { key, firstStep } = yield* go(root, { steps: 9 })
      assert.strictEqual(firstStep, 6)
      // The row that the shorter ones wrote after they handed over is not in it: `whole` has one `end`, as this has.
      assert.deepStrictEqual(resultOf(root, key), whole)
      // What ran is cached; a shorter run takes nothing from a longer one.
      assert.isUndefined((yield* go(root, { steps: 6 })).firstStep)
      assert.strictEqual((yield* go(root, { steps: 3 })).firstStep, 0)
      assert.strictEqual((yield* go(root, { steps: 5 })).firstStep, 4)
    })
  )

  it.live("goes on behind a phase of steps that all of a family have in common", () =>
    Effect.gen(function* () {
      const root = fresh()
      const whole = yield* undisturbed({ steps: 9, before: 20 })
      assert.strictEqual((yield* go(root, { steps: 4, before: 20 })).firstStep, 0)
      const { key, firstStep } = yield* go(root, { steps: 9, before: 20 })
      assert.strictEqual(firstStep, 24)
      assert.deepStrictEqual(resultOf(root, key), whole)
      assert.strictEqual((yield* go(root, { steps: 9, before: 3 })).firstStep, 0)
    })
  )

  it.live("is killed and goes on from its own checkpoint, which is further", () =>
    Effect.gen(function* () {
      const root = fresh()
      const walk = { steps: 60, eager: true }
      const whole = yield* undisturbed(walk)
      yield* go(root, { ...walk, steps: 10 })
      let killed = false
      hold(root, 12)
      const broken = yield* go(root, walk, {}, (event, step) => {
        if (killed || step < 20) return
        killed = true
        process.kill(event?.pid ?? -1, "SIGKILL")
      })
      assert.deepInclude(broken, { firstStep: 10, failed: 1 })
      release(root)
      const { key, firstStep } = yield* go(root, walk)
      assert.isAbove(firstStep ?? 0, 10)
      assert.deepStrictEqual(resultOf(root, key), whole)
    })
  )

  it.live("starts again where anything else differs, or the number of steps matters from the first on", () =>
    Effect.gen(function* () {
      const root = fresh()
      yield* go(root, { steps: 4 })
      assert.strictEqual((yield* go(root, { steps: 9 }, { digests: { walk: "edited" } })).firstStep, 0)
      assert.strictEqual((yield* go(root, { steps: 9 }, { seeds: [1] })).firstStep, 0)
      assert.strictEqual((yield* go(root, { steps: 9, eager: true })).firstStep, 0)
      yield* go(root, { steps: 4, grow: false })
      assert.strictEqual((yield* go(root, { steps: 9, grow: false })).firstStep, 0)
    })
  )

  it.live("passes over a checkpoint that is gone, and over one that is damaged", () =>
    Effect.gen(function* () {
      const root = fresh()
      const whole = yield* undisturbed({ steps: 9 })
      const checkpoints = new Map<number, string>()
      for (const steps of [3, 5, 7]) {
        const { key } = yield* go(root, { steps })
        const { outputs } = resultOf(root, key) as { outputs: { checkpoint: { sha256: string } } }
        checkpoints.set(steps, join(root, "artifacts", outputs.checkpoint.sha256))
      }
      rmSync(checkpoints.get(7)!, { recursive: true })
      const damaged = join(checkpoints.get(5)!, "weights.bin")
      chmodSync(damaged, 0o644)
      appendFileSync(damaged, "x")
      const { key, firstStep } = yield* go(root, { steps: 9 })
      assert.strictEqual(firstStep, 3)
      assert.deepStrictEqual(resultOf(root, key), whole)
      assert.isFalse(existsSync(checkpoints.get(5)!))
    })
  )

  it.live("is announced to a plan by files alone; a family's file that is lost costs time only", () =>
    Effect.gen(function* () {
      const root = fresh()
      yield* go(root, { steps: 4 })
      const [family] = readdirSync(join(root, "families"))
      const digest = "c0de"
      const lookup = warehouseLookup(root, "counting")
      assert.strictEqual(lookup.shorter(family!, digest, 9), 4)
      assert.isUndefined(lookup.shorter(family!, digest, 4))
      assert.isUndefined(lookup.shorter(family!, "other", 9))
      assert.isUndefined(warehouseLookup(join(root, "none"), "counting").shorter(family!, digest, 9))
      const file = join(root, "families", family!, digest, "4.json")
      const { checkpoint } = JSON.parse(readFileSync(file, "utf8")) as { checkpoint: string }
      assert.isTrue(lookup.artifact(checkpoint))
      rmSync(join(root, "families"), { recursive: true })
      assert.strictEqual((yield* go(root, { steps: 9 })).firstStep, 0)
    })
  )
})

describe("the warehouse", () => {
  it.live("has every row of the longer task once, those of the shorter run too, and the shorter task its own", () =>
    Effect.gen(function* () {
      const root = fresh()
      for (const steps of [4, 9]) {
        const { plan, wanted } = walkPlan({ steps })
        yield* run(plan, optionsOf(root, { wanted })).pipe(Effect.provide(layer))
      }
      const keys = [4, 9].map((steps) => walkPlan({ steps }).key)
      const of = (query: string) => rows(root, query)
      for (const [i, steps] of [4, 9].entries()) {
        assert.deepStrictEqual(
          yield* of(
            `select step, count(*) as n from metrics where task_key = '${keys[i]}' and name = 'loss' group by step order by step`
          ),
          Array.from({ length: steps }, (_, step) => ({ step, n: 1 }))
        )
        assert.deepStrictEqual(
          yield* of(`select step, value from metrics where task_key = '${keys[i]}' and name = 'end'`),
          [{ step: steps - 1, value: steps }]
        )
        assert.deepStrictEqual(
          yield* of(
            `select count(*) as n, count(distinct sample_id) as ids from samples where task_key = '${keys[i]}'`
          ),
          [{ n: steps, ids: steps }]
        )
      }
      assert.deepStrictEqual(
        yield* of(
          `select first_step, last_step, state from attempts where task_key in ('${keys.join("', '")}') order by attempt_id`
        ),
        [
          { first_step: 0, last_step: 3, state: "done" },
          { first_step: 4, last_step: 8, state: "done" }
        ]
      )
      // The curve up to there is the same, value by value.
      assert.deepStrictEqual(
        yield* of(
          `select count(*) as n from metrics a join metrics b using (step, name, value) where a.task_key = '${keys[0]}' and b.task_key = '${keys[1]}' and name = 'loss'`
        ),
        [{ n: 4 }]
      )
    })
  )
})
