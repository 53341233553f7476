/** The live database between journals and views: resumed attempts, runs that go on, journals cut back, all of it remade. */
import { rmSync, statSync, truncateSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { connect } from "../../src/warehouse/DuckDb.ts"
import { jsonRows } from "../../src/warehouse/json.ts"
import { open } from "../../src/warehouse/live.ts"
import { rebuild } from "../../src/warehouse/rebuild.ts"
import { rows } from "../../src/warehouse/sql.ts"
import * as j from "./journals.ts"
import { columns, opened, story } from "./story.ts"

describe("a warehouse made from journals", () => {
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
