import { readdirSync, readFileSync, rmSync, statSync, truncateSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { experimentText } from "../../src/report/experiment.ts"
import { connect } from "../../src/warehouse/DuckDb.ts"
import { type JsonRow, jsonRows } from "../../src/warehouse/json.ts"
import { open } from "../../src/warehouse/live.ts"
import { rebuild } from "../../src/warehouse/rebuild.ts"
import { rows } from "../../src/warehouse/sql.ts"
import * as j from "./journals.ts"

const parts = { coverage: 1, uniqueness: 0.5 }

/** One run: `pre` shared by two cells, `method`'s GRPO killed after a checkpoint and resumed, evaluations of both. */
const story = (dir: string) => {
  const keys = { pre: "k-pre", grpo: "k-grpo", evaluateM: "k-eval-m", evaluateB: "k-eval-b" }
  const killed = [
    j.head("a2", keys.grpo),
    { t: "event", name: "device", detail: { provider: "cpu", adapter: "Test CPU", fallbackNodes: 0 } },
    j.metrics(0, { loss: 1, reward: 0.25 }),
    { t: "samples", rows: [j.sample(0, "p1", 0, parts), j.sample(0, "p1", 1, parts)] },
    j.metrics(1, { loss: 0.5, reward: null })
  ]
  const offset = Buffer.byteLength(j.text(killed))
  j.put(dir, "attempts/a2/journal.ndjson", [
    ...killed,
    { t: "checkpoint", step: 2, state: { at: 2 }, sha256: "00", offset },
    j.metrics(2, { loss: 99, reward: 99 })
  ])
  j.put(dir, "attempts/a2/journal.ndjson", '{"t":"metrics","step":3,"val')
  j.put(dir, "attempts/a1/journal.ndjson", [j.head("a1", keys.pre), j.metrics(0, { loss: 2 }), j.outputs])
  j.put(dir, "attempts/a3/journal.ndjson", [
    j.head("a3", keys.grpo, { attempt: "a2", offset, step: 2 }),
    j.metrics(2, { loss: 0.25, reward: 0.75 }),
    { t: "samples", rows: [j.sample(2, "p2", 0, parts)] },
    { t: "progress", step: 3, of: 3 },
    j.outputs
  ])
  const coverage = (shift: number) => j.items("eval/coverage/exact", { p1: 0.25 + shift, p2: 0.5 + shift, p3: shift })
  j.put(dir, "attempts/a4/journal.ndjson", [j.head("a4", keys.evaluateM), coverage(0.125), j.outputs])
  j.put(dir, "attempts/a5/journal.ndjson", [j.head("a5", keys.evaluateB), coverage(0), j.outputs])
  j.put(dir, "runs/r1.ndjson", [
    j.run("r1"),
    j.cell("method", 0, { pretrain: keys.pre, grpo: keys.grpo, evaluate: keys.evaluateM }),
    j.cell("base", 0, { pretrain: keys.pre, evaluate: keys.evaluateB }),
    j.task(keys.pre, "sft"),
    j.task(keys.grpo, "grpo", { class: { provider: "cpu", dtype: "f32" }, seed: 0 }),
    j.task(keys.evaluateM, "evaluate"),
    j.task(keys.evaluateB, "evaluate"),
    ...["a1 k-pre", "a2 k-grpo", "a3 k-grpo", "a4 k-eval-m", "a5 k-eval-b"].flatMap((pair) => {
      const [id, key] = pair.split(" ") as [string, string]
      const start = [j.state(key, "running"), j.attempt(id, key)]
      return id === "a2"
        ? [...start, j.ended(id, "killed", "SIGKILL")]
        : [...start, j.ended(id), j.bind(key, id), j.state(key, "done")]
    }),
    j.runEnd
  ])
}

const columns = {
  cells: ["experiment", "cell_id", "arm", "seed", "params", "state"],
  cell_tasks: ["cell_id", "task_key", "node"],
  tasks: ["task_key", "stage", "state"],
  attempts: [
    "attempt_id",
    "task_key",
    "code_digest",
    "provider",
    "adapter",
    "fallback_nodes",
    "first_step",
    "last_step",
    "state",
    "signal",
    "started_at",
    "ended_at"
  ],
  artifacts: ["task_key", "output", "kind", "sha256", "bytes"],
  metrics: ["task_key", "step", "name", "value"],
  items: ["task_key", "prompt_id", "split", "name", "value"],
  samples: ["sample_id", "task_key", "step", "prompt_id", "idx", "prompt", "completion", "reward", "advantage"],
  reward_parts: ["sample_id", "name", "value", "weight"],
  ablation: [
    "experiment",
    "metric",
    "arm",
    "baseline",
    "n_seeds",
    "n_prompts",
    "value",
    "baseline_value",
    "difference",
    "low",
    "high",
    "method"
  ]
}

const opened = (dir: string) => Effect.scoped(Effect.flatMap(open(dir), (live) => live.publish))

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

  it.live("a resumed attempt's rows are its own and the earlier journal's before the checkpoint", () =>
    Effect.gen(function* () {
      const dir = yield* j.folder
      story(dir)
      yield* opened(dir)
      assert.deepStrictEqual(
        yield* rows(dir, "select step, name, value from metrics where task_key = 'k-grpo' order by all"),
        [
          { step: 0, name: "loss", value: 1 },
          { step: 0, name: "reward", value: 0.25 },
          { step: 1, name: "loss", value: 0.5 },
          { step: 1, name: "reward", value: null },
          { step: 2, name: "loss", value: 0.25 },
          { step: 2, name: "reward", value: 0.75 }
        ]
      )
      // The killed attempt's own view of things is still there.
      assert.deepStrictEqual(
        yield* rows(dir, "select value from all_metrics where attempt_id = 'a2' and step = 2 order by all"),
        [{ value: 99 }, { value: 99 }]
      )
      assert.deepStrictEqual(
        yield* rows(
          dir,
          "select s.step, s.prompt_id, s.idx, s.reward, count(*) as parts, sum(p.value * p.weight) as total from samples s join reward_parts p using (sample_id) group by all order by all"
        ),
        [
          { step: 0, prompt_id: "p1", idx: 0, reward: 1.5, parts: 2, total: 1.5 },
          { step: 0, prompt_id: "p1", idx: 1, reward: 1.5, parts: 2, total: 1.5 },
          { step: 2, prompt_id: "p2", idx: 0, reward: 1.5, parts: 2, total: 1.5 }
        ]
      )
      // md5 of "k-grpo/2/p2/0".
      assert.deepStrictEqual(
        yield* rows(dir, "select sample_id = md5('k-grpo/2/p2/0') as ok from samples where step = 2"),
        [{ ok: true }]
      )
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

  it.live("is the same after `rebuild`, and after both databases were lost", () =>
    Effect.gen(function* () {
      const dir = yield* j.folder
      story(dir)
      yield* opened(dir)
      const everything = Effect.scoped(
        Effect.gen(function* () {
          const connection = yield* connect({
            path: join(dir, "overtone.duckdb"),
            config: { access_mode: "READ_ONLY" }
          })
          return yield* Effect.forEach(Object.keys(columns), (view) =>
            Effect.promise(async () => jsonRows(await connection.runAndReadAll(`from ${view} order by all`)))
          )
        })
      )
      const before = yield* everything
      const counts = yield* rebuild(dir)
      assert.strictEqual(counts["metrics"], 7)
      assert.strictEqual(counts["raw.metrics"], 9)
      assert.deepStrictEqual(yield* everything, before)
      for (const file of ["live.duckdb", "overtone.duckdb"]) rmSync(join(dir, file))
      yield* rebuild(dir)
      assert.deepStrictEqual(yield* everything, before)
      j.put(dir, "live.duckdb", "no database any more")
      yield* rebuild(dir)
      assert.deepStrictEqual(yield* everything, before)
    })
  )

  it.live("an attempt that serves two tasks shows its rows under both, with different sample ids", () =>
    Effect.gen(function* () {
      const dir = yield* j.folder
      story(dir)
      j.put(dir, "runs/r2.ndjson", [
        j.run("r2"),
        j.task("k-other", "grpo"),
        j.bind("k-other", "a3", true),
        j.state("k-other", "done"),
        j.runEnd
      ])
      yield* opened(dir)
      assert.deepStrictEqual(
        yield* rows(
          dir,
          "select task_key, count(*) as n, count(distinct sample_id) as ids from samples group by all order by all"
        ),
        [
          { task_key: "k-grpo", n: 3, ids: 3 },
          { task_key: "k-other", n: 3, ids: 3 }
        ]
      )
      assert.deepStrictEqual(yield* rows(dir, "select count(distinct sample_id) as n from samples"), [{ n: 6 }])
      assert.deepStrictEqual(yield* rows(dir, "select count(*) as n from artifacts where task_key = 'k-other'"), [
        { n: 1 }
      ])
    })
  )

  it.live("an attempt that was asked to resume but began anew has first_step 0", () =>
    Effect.gen(function* () {
      const dir = yield* j.folder
      const resumes = { attempt: "a0", offset: 10, step: 5 }
      j.put(dir, "runs/r1.ndjson", [
        j.run("r1"),
        j.attempt("a1", "k", { resumes }),
        j.attempt("a2", "k", { resumes }),
        j.attempt("a3", "k", { resumes })
      ])
      j.put(dir, "attempts/a1/journal.ndjson", [j.head("a1", "k")])
      j.put(dir, "attempts/a2/journal.ndjson", [j.head("a2", "k", resumes)])
      yield* opened(dir)
      assert.deepStrictEqual(yield* rows(dir, "select attempt_id, first_step from attempts order by all"), [
        { attempt_id: "a1", first_step: 0 },
        { attempt_id: "a2", first_step: 5 },
        { attempt_id: "a3", first_step: 5 }
      ])
    })
  )

  it.live("while a task runs again its running attempt is shown; if that fails, what was bound last", () =>
    Effect.gen(function* () {
      const dir = yield* j.folder
      story(dir)
      const live = yield* open(dir)
      j.put(dir, "runs/r3.ndjson", [
        j.run("r3"),
        j.task("k-grpo", "grpo"),
        j.state("k-grpo", "running"),
        j.attempt("a9", "k-grpo")
      ])
      j.put(dir, "attempts/a9/journal.ndjson", [j.head("a9", "k-grpo"), j.metrics(0, { loss: 7 })])
      yield* live.ingest(["runs/r3.ndjson", "attempts/a9/journal.ndjson"])
      yield* live.publish
      const shown = rows(dir, "select value from metrics where task_key = 'k-grpo' and name = 'loss' order by step")
      const states = rows(
        dir,
        "select (select state from tasks where task_key = 'k-grpo') as task, (select state from attempts where attempt_id = 'a9') as attempt, (select state from cells where arm = 'method') as cell"
      )
      assert.deepStrictEqual(yield* shown, [{ value: 7 }])
      assert.deepStrictEqual(yield* states, [{ task: "running", attempt: "running", cell: "running" }])
      // The supervisor dies: nobody writes an end. The next run is the living one.
      j.put(dir, "runs/r4.ndjson", [j.run("r4")])
      yield* live.ingest(["runs/r4.ndjson"])
      yield* live.publish
      assert.deepStrictEqual(yield* shown, [{ value: 1 }, { value: 0.5 }, { value: 0.25 }])
      assert.deepStrictEqual(yield* states, [{ task: "failed", attempt: "killed", cell: "failed" }])
    })
  )

  it.live("a journal that was cut back is read anew", () =>
    Effect.gen(function* () {
      const dir = yield* j.folder
      story(dir)
      const live = yield* open(dir)
      const file = join(dir, "attempts/a3/journal.ndjson")
      truncateSync(file, statSync(file).size - j.text([j.outputs]).length)
      yield* live.ingest(["attempts/a3/journal.ndjson"])
      yield* live.publish
      assert.deepStrictEqual(yield* rows(dir, "select count(*) as n from artifacts where task_key = 'k-grpo'"), [
        { n: 0 }
      ])
      assert.deepStrictEqual(yield* rows(dir, "select count(*) as n from metrics where task_key = 'k-grpo'"), [
        { n: 6 }
      ])
    })
  )
})
