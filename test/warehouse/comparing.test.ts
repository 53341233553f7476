/** What a comparison reads of metrics that are measured once a step, on journals whose answers are known. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { readEvaluated, readResults } from "../../src/warehouse/comparing.ts"
import { open } from "../../src/warehouse/live.ts"
import { rows } from "../../src/warehouse/sql.ts"
import * as j from "./journals.ts"

/** One arm of two seeds: `pretrain` is one task of both, each has its own `grpo`; the second's values are given. */
const warehouse = (second: ReadonlyArray<number | null>) =>
  Effect.gen(function* () {
    const dir = yield* j.folder
    const lines: Array<j.Line> = [j.run("r1")]
    const made: ReadonlyArray<readonly [key: string, stage: string, values: ReadonlyArray<number | null>]> = [
      ["p", "sft", [7, 9]],
      ["g0", "grpo", [1, 2, 3, 4]],
      ["g1", "grpo", second]
    ]
    for (const seed of [0, 1]) lines.push(j.cell("a", seed, { pretrain: "p", grpo: `g${seed}` }))
    for (const [key, stage, values] of made) {
      lines.push(j.task(key, stage), j.attempt(`a-${key}`, key), j.ended(`a-${key}`), j.bind(key, `a-${key}`))
      j.put(dir, `attempts/a-${key}/journal.ndjson`, [
        j.head(`a-${key}`, key),
        ...values.map((reward, step) => j.metrics(step, { reward }))
      ])
    }
    j.put(dir, "runs/r1.ndjson", [...lines, j.runEnd])
    yield* Effect.scoped(Effect.flatMap(open(dir), (live) => live.publish))
    const [{ experiment }] = (yield* rows(dir, "select distinct experiment from runs")) as [{ experiment: string }]
    return { dir, experiment }
  })

const read = (second: ReadonlyArray<number | null>, steps: ReadonlyArray<string>, last: number) =>
  Effect.gen(function* () {
    const { dir, experiment } = yield* warehouse(second)
    const found = yield* readResults(dir, [experiment], { prompts: [], steps, last })
    return Object.fromEntries(
      [...found].map(([name, cells]) => [name, [...cells.values()].map((items) => items.map(({ value }) => value))])
    )
  })

describe("metrics of steps", () => {
  it.live("are those of tasks that are done, by node and name, of cells that nothing has evaluated", () =>
    Effect.gen(function* () {
      const { dir, experiment } = yield* warehouse([5, 6, 7, 8])
      const { cells, metrics, stepMetrics } = yield* readEvaluated(dir, [experiment])
      assert.deepStrictEqual([metrics, stepMetrics], [[], ["grpo:reward", "pretrain:reward"]])
      assert.deepStrictEqual(
        cells.map(({ evaluation, seed }) => [seed, evaluation]),
        [
          [0, null],
          [1, null]
        ]
      )
    })
  )

  it.live("are means of the last steps, one a seed; of a task that seeds share there is one", () =>
    Effect.gen(function* () {
      const steps = ["grpo:reward", "pretrain:reward"]
      assert.deepStrictEqual(yield* read([5, 6, 7, 8], steps, 2), {
        "grpo:reward": [[3.5], [7.5]],
        "pretrain:reward": [[8]]
      })
      // more than there are
      assert.deepStrictEqual(yield* read([5, 6, 7, 8], ["grpo:reward"], 10), { "grpo:reward": [[2.5], [6.5]] })
    })
  )

  it.live("of a run whose last steps are not all numbers there is none, not the mean of those before", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* read([5, 6, 7, null], ["grpo:reward"], 2), {
        "grpo:reward": [[3.5], [Number.NaN]]
      })
      assert.deepStrictEqual(yield* read([null, 6, 7, 8], ["grpo:reward"], 2), { "grpo:reward": [[3.5], [7.5]] })
    })
  )
})
