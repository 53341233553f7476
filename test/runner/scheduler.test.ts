import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { chainCosts, startable } from "../../src/runner/scheduler.ts"

const task = (key: string, ...inputs: ReadonlyArray<string>) => ({
  key,
  inputs: Object.fromEntries(inputs.map((task, i) => [`in${i}`, { task }]))
})

describe("the longest chain", () => {
  it("is counted from each task to the end of the run", () => {
    // world -> pretrain -> warm -> grpo -> evaluate; world -> estimator -> grpo; warm -> evaluate2
    const tasks = [
      task("world"),
      task("pretrain", "world"),
      task("estimator", "world"),
      task("warm", "pretrain"),
      task("grpo", "warm", "estimator"),
      task("evaluate", "grpo"),
      task("evaluate2", "warm")
    ]
    const cost = ({ key }: { readonly key: string }) => (key === "world" || key.startsWith("evaluate") ? 1 : 10)
    // grpo 10 + 1 = 11; warm 21; estimator 21; pretrain 31; world 32.
    assert.deepStrictEqual(Object.fromEntries(chainCosts(tasks, cost)), {
      world: 32,
      pretrain: 31,
      estimator: 21,
      warm: 21,
      grpo: 11,
      evaluate: 1,
      evaluate2: 1
    })
  })
})

describe("starting", () => {
  const t = (threads: number) => ({ threads })

  it("is bounded by cores and by jobs", () => {
    assert.lengthOf(startable([t(1), t(1), t(1)], [], { cores: 2, jobs: 9 }), 2)
    assert.lengthOf(startable([t(1), t(1), t(1)], [], { cores: 8, jobs: 2 }), 2)
    assert.lengthOf(startable([t(2), t(2)], [t(2)], { cores: 4, jobs: 9 }), 1)
    assert.lengthOf(startable([t(1)], [t(2)], { cores: 2, jobs: 9 }), 0)
  })

  it("lets a task that is wider than the machine run alone, and nobody overtake it", () => {
    assert.lengthOf(startable([t(8), t(1)], [], { cores: 2, jobs: 9 }), 1)
    assert.lengthOf(startable([t(8), t(1)], [t(1)], { cores: 2, jobs: 9 }), 0)
  })

  it("never overfills and never stands still while something could run", () => {
    const loads = fc.array(fc.integer({ min: 1, max: 6 }).map(t), { maxLength: 6 })
    fc.assert(
      fc.property(loads, fc.integer({ min: 1, max: 8 }), fc.integer({ min: 1, max: 4 }), (ready, cores, jobs) => {
        const started = startable(ready, [], { cores, jobs })
        assert.isAtMost(started.length, jobs)
        assert.isAtMost(
          started.reduce((sum, { threads }) => sum + Math.min(threads, cores), 0),
          cores
        )
        assert.deepStrictEqual(started, ready.slice(0, started.length))
        if (ready.length > 0) assert.isNotEmpty(started)
      })
    )
  })
})
