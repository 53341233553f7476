/** The ready-made questions about methods, on journals whose answers are known. */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { open } from "../../src/warehouse/live.ts"
import { rows } from "../../src/warehouse/sql.ts"
import * as j from "./journals.ts"

const question = (name: string) =>
  readFileSync(join(import.meta.dirname, "../../warehouse/queries", `${name}.sql`), "utf8")

/** A warehouse in which each arm has one cell, a training task and an evaluation with these lines in their journals. */
const warehouse = (
  arms: Readonly<Record<string, { readonly train?: ReadonlyArray<j.Line>; readonly evaluate?: ReadonlyArray<j.Line> }>>
) =>
  Effect.gen(function* () {
    const dir = yield* j.folder
    const lines: Array<j.Line> = [j.run("r1")]
    for (const [arm, { evaluate = [], train = [] }] of Object.entries(arms)) {
      const [t, e] = [`t-${arm}`, `e-${arm}`]
      lines.push(j.cell(arm, 0, { grpo: t, evaluate: e }), j.task(t, "grpo"), j.task(e, "evaluate"))
      for (const [key, content] of [
        [t, train],
        [e, evaluate]
      ] as const) {
        lines.push(j.attempt(`a-${key}`, key), j.ended(`a-${key}`), j.bind(key, `a-${key}`))
        j.put(dir, `attempts/a-${key}/journal.ndjson`, [j.head(`a-${key}`, key), ...content])
      }
    }
    j.put(dir, "runs/r1.ndjson", [...lines, j.runEnd])
    yield* Effect.scoped(Effect.flatMap(open(dir), (live) => live.publish))
    return dir
  })

describe("which arm covers most at equal PL-score", () => {
  it.live(
    "counts bins that both reach, weighted alike: the arm with the higher PL-scores is not ahead for them alone",
    () =>
      Effect.gen(function* () {
        // Bins of .05. low: .51 .52 (coverage .2, .4) and .61 (.6); high: .53 (.3), .62 .63 (.5, .7), .91 (1).
        const evaluated = (pl: Record<string, number>, coverage: Record<string, number>) => ({
          evaluate: [j.items("eval/pl_score", pl), j.items("eval/coverage/pluralistic", coverage)]
        })
        const dir = yield* warehouse({
          low: evaluated({ a: 0.51, b: 0.52, c: 0.61 }, { a: 0.2, b: 0.4, c: 0.6 }),
          high: evaluated({ a: 0.53, b: 0.62, c: 0.63, d: 0.91 }, { a: 0.3, b: 0.5, c: 0.7, d: 1 })
        })
        const found = yield* rows(dir, question("coverage-at-equal-pl-score"))
        // Three results in either shared bin: low (.3 * 3 + .6 * 3) / 6 = .45; high (.3 * 3 + .6 * 3) / 6 = .45; raw .4 and .625
        assert.deepStrictEqual(
          found.map((row) => [row["arm"], row["coverage_at_equal_pl_score"], row["coverage"], row["compared"]]),
          [
            ["high", 0.45, 0.625, 0.75],
            ["low", 0.45, 0.4, 1]
          ]
        )
      })
  )

  it.live("arms that share no bin have no answer", () =>
    Effect.gen(function* () {
      const one = (pl: number) => ({
        evaluate: [j.items("eval/pl_score", { a: pl }), j.items("eval/coverage/pluralistic", { a: 1 })]
      })
      const found = yield* rows(yield* warehouse({ x: one(0.1), y: one(0.9) }), question("coverage-at-equal-pl-score"))
      assert.deepStrictEqual(
        found.map((row) => [row["coverage_at_equal_pl_score"], row["compared"]]),
        [
          [null, 0],
          [null, 0]
        ]
      )
    })
  )
})

it.live("how often the effective sample size fell under 10 %, by arm", () =>
  Effect.gen(function* () {
    const steps = (...shares: ReadonlyArray<number>) => ({
      train: shares.map((share, step) => j.metrics(step, { "ope/ess_share": share }))
    })
    const dir = yield* warehouse({ tame: steps(0.9, 0.5, 0.1, 0.2), wild: steps(0.5, 0.09, 0.3, 0.01), other: {} })
    const found = yield* rows(dir, question("low-effective-sample-size"))
    assert.deepStrictEqual(
      found.map(({ arm, first_low_step, least, low, low_share, times }) => [
        arm,
        times,
        low,
        low_share,
        least,
        first_low_step
      ]),
      [
        ["wild", 4, 2, 0.5, 0.01, 1],
        ["tame", 4, 0, 0, 0.1, null]
      ]
    )
  })
)

it.live("which reward part moved first", () =>
  Effect.gen(function* () {
    // format rises from step 8 on, coverage from step 12, tag falls at 10, uniqueness only shakes.
    const train = Array.from({ length: 20 }, (_, step) =>
      j.metrics(step, {
        "rewards/format/mean": (step % 2) * 0.1 + (step >= 8 ? 2 : 0),
        "rewards/coverage/mean": 1 + (step % 2) * 0.1 + (step >= 12 ? 2 : 0),
        "rewards/tag/mean": step >= 10 ? -0.2 : 0,
        "rewards/uniqueness/mean": (step % 3) * 0.1,
        reward: step
      })
    )
    const found = yield* rows(yield* warehouse({ method: { train } }), question("first-moving-part"))
    assert.deepStrictEqual(
      found.map(({ direction, moved_at, part, place }) => [part, moved_at, direction, place]),
      [
        ["format", 8, "up", 1],
        ["tag", 10, "down", 2],
        ["coverage", 12, "up", 3],
        ["uniqueness", null, null, null]
      ]
    )
  })
)
