/** What the published views show, and what is asked of them: the contract's columns, the ablation, the ready-made questions. */
import { readdirSync, readFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { experimentText } from "../../src/report/experiment.ts"
import type { JsonRow } from "../../src/warehouse/json.ts"
import { rows } from "../../src/warehouse/sql.ts"
import * as j from "./journals.ts"
import { columns, opened, story } from "./story.ts"

describe("a warehouse made from journals", () => {
  it.live("has the views of the contract, column by column", () =>
    Effect.gen(function* () {
      const dir = yield* j.folder
      yield* opened(dir)
      for (const [view, names] of Object.entries(columns)) {
        const found = yield* rows(dir, `select column_name as name from (describe ${view})`)
        assert.deepStrictEqual(
          found.map((row) => row["name"]),
          names,
          view
        )
      }
    })
  )

  it.live("shows tasks, attempts, artifacts and cells as they stand", () =>
    Effect.gen(function* () {
      const dir = yield* j.folder
      story(dir)
      yield* opened(dir)
      assert.deepStrictEqual(yield* rows(dir, "select cell_id, state, params from cells order by all"), [
        { cell_id: "demo/base/seed=0", state: "done", params: { arm: "base", steps: 3 } },
        { cell_id: "demo/method/seed=0", state: "done", params: { arm: "method", steps: 3 } }
      ])
      assert.deepStrictEqual(yield* rows(dir, "from tasks order by all limit 2"), [
        { task_key: "k-eval-b", stage: "evaluate", state: "done" },
        { task_key: "k-eval-m", stage: "evaluate", state: "done" }
      ])
      assert.deepStrictEqual(yield* rows(dir, "from attempts where task_key = 'k-grpo' order by all"), [
        {
          attempt_id: "a2",
          task_key: "k-grpo",
          code_digest: "d0",
          provider: "cpu",
          adapter: "Test CPU",
          fallback_nodes: 0,
          first_step: 0,
          last_step: 2,
          state: "killed",
          signal: "SIGKILL",
          started_at: "2023-11-14T22:13:21.000Z",
          ended_at: "2023-11-14T22:13:22.500Z"
        },
        {
          attempt_id: "a3",
          task_key: "k-grpo",
          code_digest: "d0",
          provider: "none",
          adapter: null,
          fallback_nodes: null,
          first_step: 2,
          last_step: 2,
          state: "done",
          signal: null,
          started_at: "2023-11-14T22:13:21.000Z",
          ended_at: "2023-11-14T22:13:22.500Z"
        }
      ])
      assert.deepStrictEqual(yield* rows(dir, "from artifacts where task_key = 'k-grpo'"), [
        { task_key: "k-grpo", output: "policy", kind: "policy", sha256: "f00d", bytes: 12 }
      ])
    })
  )

  it.live("compares arms in the ablation", () =>
    Effect.gen(function* () {
      const dir = yield* j.folder
      story(dir)
      yield* opened(dir)
      const [row] = yield* rows(dir, "from ablation")
      assert.deepInclude(row, {
        experiment: "demo",
        metric: "eval/coverage/exact",
        arm: "method",
        baseline: "base",
        n_seeds: 1,
        n_prompts: 3,
        baseline_value: 0.25,
        value: 0.375,
        difference: 0.125,
        low: 0.125,
        high: 0.125
      })
      assert.match(String(row!["method"]), /prompts only/)
    })
  )

  it.live("answers the ready-made questions", () =>
    Effect.gen(function* () {
      const dir = yield* j.folder
      story(dir)
      j.put(dir, "runs/r2.ndjson", [
        j.run("r2", { partial: true }),
        j.task("k-pre", "sft"),
        j.attempt("a9", "k-pre"),
        j.ended("a9", "failed"),
        j.state("k-pre", "failed"),
        j.runEnd
      ])
      j.put(dir, "attempts/a9/journal.ndjson", [
        j.head("a9", "k-pre"),
        { t: "end", error: { tag: "NonFinite", message: "loss is NaN" } }
      ])
      yield* opened(dir)
      const folder = new URL("../../warehouse/queries/", import.meta.url)
      const answers = new Map<string, ReadonlyArray<JsonRow>>()
      for (const file of readdirSync(folder)) {
        answers.set(file, yield* rows(dir, readFileSync(new URL(file, folder), "utf8")))
      }
      assert.deepInclude(answers.get("failed-tasks.sql")![0], {
        stage: "sft",
        cells: 2,
        error: "NonFinite",
        message: "loss is NaN",
        log: "attempts/a9/log.txt"
      })
      assert.deepInclude(answers.get("shared-tasks.sql")![0], {
        stage: "sft",
        tasks: 1,
        unshared: 2,
        cells_per_task: 2
      })
      assert.strictEqual(answers.get("ablation.sql")!.length, 1)
      assert.deepStrictEqual(
        answers.get("completions.sql")!.map((row) => [row["prompt_id"], row["part"], row["adds"]]),
        [
          ["p2", "coverage", 1],
          ["p2", "uniqueness", 0.5]
        ]
      )
      assert.deepStrictEqual(
        answers.get("learning-curves.sql")!.map((row) => [row["step"], row["mean"]]),
        [
          [0, 0.25],
          [1, null],
          [2, 0.75]
        ]
      )
      assert.match(yield* experimentText(dir, "demo"), /^demo: against base\n[\s\S]*method +0\.375 +0\.250 +\+0\.125/)
    })
  )

  it.live("answers the questions of its page", () =>
    Effect.gen(function* () {
      const dir = yield* j.folder
      story(dir)
      yield* opened(dir)
      const page = readFileSync(new URL("../../docs/warehouse.md", import.meta.url), "utf8")
      const fenced = [...page.matchAll(/```sql\n([\s\S]*?)```/g)].map((match) => match[1]!)
      assert.isAtLeast(fenced.length, 2)
      for (const question of fenced) yield* rows(dir, question)
      for (const [view, names] of Object.entries(columns)) assert.include(page, `| \`${view}\` |`, names.join(", "))
      for (const names of Object.values(columns)) assert.include(page, `\`${names.join(", ")}\``)
    })
  )
})
