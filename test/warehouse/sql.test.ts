import { spawn } from "node:child_process"
import { writeFileSync } from "node:fs"
import { setTimeout } from "node:timers/promises"
import { assert, describe, it, layer } from "@effect/vitest"
import { Context, Effect, Fiber, Layer } from "effect"
import { DuckDb } from "../../src/warehouse/DuckDb.ts"
import { open } from "../../src/warehouse/live.ts"
import { query, rows, written } from "../../src/warehouse/sql.ts"
import * as j from "./journals.ts"

class Store extends Context.Service<Store, string>()("test/Store") {
  static readonly layer = Layer.effect(
    Store,
    Effect.gen(function* () {
      const dir = yield* j.folder
      j.put(dir, "runs/r1.ndjson", [
        j.run("r1"),
        j.cell("base", 0, { grpo: "k" }),
        j.task("k", "grpo"),
        j.attempt("a", "k"),
        j.bind("k", "a")
      ])
      j.put(dir, "attempts/a/journal.ndjson", [
        j.head("a", "k"),
        ...Array.from({ length: 40 }, (_, step) => j.metrics(step, { loss: step / 4 }))
      ])
      yield* Effect.scoped(Effect.flatMap(open(dir), (live) => live.publish))
      return dir
    })
  )
}

const refusal = (text: string) =>
  Effect.gen(function* () {
    const error = yield* Effect.flip(query(yield* Store, text, "json"))
    return error.reason
  })

const one = (expression: string) =>
  Effect.gen(function* () {
    const [row] = yield* rows(yield* Store, `select ${expression} as x`)
    return row!["x"]
  })

describe("exp sql", () => {
  layer(Store.layer)((it) => {
    for (const text of [
      "select count(*) from metrics",
      "SELECT 1; ",
      "select 1 -- ;",
      "with a as (select 1) from a",
      "from metrics limit 1",
      "values (1), (2)",
      "(select 1)",
      "table tasks",
      "describe metrics",
      "show tables",
      "summarize metrics",
      "explain select 1",
      "pragma table_info('metrics')",
      "select ';' as a, '--' as b, 'drop table x' as c",
      "pivot metrics on name in ('loss') using avg(value)",
      "select a.loss from (pivot metrics on name in ('loss') using avg(value) group by step) a"
    ]) {
      it.effect(`answers ${text}`, () => Effect.flatMap(Store, (dir) => query(dir, text, "json")))
    }

    for (const [text, reason] of [
      ["create table x (i int)", "writes"],
      ["create temp table x (i int)", "writes"],
      ["create or replace view metrics as select 1", "writes"],
      ["insert into ablation (experiment) values ('x')", "writes"],
      ["delete from ablation", "writes"],
      ["update ablation set value = 1", "writes"],
      ["drop table ablation", "writes"],
      ["copy cells to '/tmp/never-made.csv'", "access"],
      ["copy ablation from '/etc/hostname'", "access"],
      ["export database '/tmp/never-made'", "access"],
      ["attach '/tmp/never-made.db'", "writes"],
      ["detach overtone", "writes"],
      ["install spatial", "writes"],
      ["load json", "writes"],
      ["set threads = 1", "writes"],
      ["reset threads", "writes"],
      ["pragma threads = 1", "writes"],
      ["use memory", "writes"],
      ["begin", "writes"],
      ["checkpoint", "writes"],
      ["call pragma_version()", "writes"],
      ["prepare q as select 1", "writes"],
      ["explain analyze delete from ablation", "writes"],
      ["select 1; select 2", "several"],
      ["select 1; drop table ablation", "several"],
      ["select 1; pivot metrics on name in ('loss') using avg(value); drop table ablation", "several"],
      ["drop table ablation; pivot metrics on name in ('loss') using avg(value)", "several"],
      ["pivot metrics on name using avg(value)", "several"],
      ["", "empty"],
      [" ;; -- nothing\n/* at all */", "empty"],
      ["select * from read_csv('/etc/hostname')", "access"],
      ["select * from read_text('/etc/hostname')", "access"],
      ["select * from glob('/etc/*')", "access"],
      ["select * from '/etc/hostname'", "invalid"],
      ["selec 1", "invalid"],
      ["select nope from metrics", "invalid"],
      ["select ?", "invalid"],
      ["select error('asked for')", "invalid"]
    ] as const) {
      it.effect(`refuses ${JSON.stringify(text)}: ${reason}`, () =>
        Effect.gen(function* () {
          assert.strictEqual(yield* refusal(text), reason)
        })
      )
    }

    it.effect("a query that nobody waits for any more ends", () =>
      Effect.gen(function* () {
        const dir = yield* Store
        const long = "select count(*) from range(1000000000) a, range(1000000000) b where a.range * b.range % 7 = 3"
        for (const format of ["table", "json", "csv"] as const) {
          const asked = yield* Effect.forkChild(query(dir, long, format))
          yield* Effect.promise(() => setTimeout(200))
          assert.isUndefined(asked.pollUnsafe())
          yield* Fiber.interrupt(asked)
        }
      })
    )

    it.effect("an answer that no string can hold is refused with another format", () =>
      Effect.gen(function* () {
        const half = "x".repeat(2 ** 28)
        const error = yield* Effect.flip(written(() => [half, half, half].join(",")))
        assert.match(error.message, /too long for one text.*--format parquet/)
      })
    )

    it.effect("json: values as promised", () =>
      Effect.gen(function* () {
        assert.strictEqual(yield* one("9007199254740991"), 9007199254740991)
        assert.strictEqual(yield* one("9007199254740992"), "9007199254740992")
        assert.strictEqual(yield* one("-9007199254740992"), "-9007199254740992")
        assert.strictEqual(
          yield* one("170141183460469231731687303715884105727"),
          "170141183460469231731687303715884105727"
        )
        assert.strictEqual(yield* one("sum(1)"), 1)
        assert.strictEqual(yield* one("count(*)"), 1)
        assert.strictEqual(yield* one("1.25"), 1.25)
        assert.strictEqual(yield* one("0.1::decimal(38, 20)"), 0.1)
        assert.strictEqual(yield* one("0.1::double"), 0.1)
        assert.strictEqual(yield* one("0.1::float"), Math.fround(0.1))
        for (const x of ["nan", "inf", "-inf"]) assert.isNull(yield* one(`'${x}'::double`))
        assert.isNull(yield* one("null"))
        assert.isTrue(yield* one("true"))
        assert.strictEqual(yield* one("'{\"a\":1}'"), '{"a":1}')
        assert.deepStrictEqual(yield* one('\'{"a":[1,null,"b"]}\'::json'), { a: [1, null, "b"] })
        assert.deepStrictEqual(yield* one("['[1]'::json]"), [[1]])
        assert.deepStrictEqual(yield* one("[1, null, 'nan'::double]"), [1, null, null])
        assert.deepStrictEqual(yield* one("[1, 2]::integer[2]"), [1, 2])
        assert.deepStrictEqual(yield* one("[]"), [])
        assert.deepStrictEqual(yield* one("{a: 1, b: ['x'], t: timestamp '2026-01-02'}"), {
          a: 1,
          b: ["x"],
          t: "2026-01-02T00:00:00.000Z"
        })
        assert.deepStrictEqual(yield* one("map {'k': 2.5, 'l': null}"), { k: 2.5, l: null })
        assert.strictEqual(yield* one("timestamp '2026-01-02 03:04:05.6789'"), "2026-01-02T03:04:05.678900Z")
        assert.strictEqual(yield* one("timestamp '1969-12-31 23:59:59.999'"), "1969-12-31T23:59:59.999Z")
        assert.strictEqual(yield* one("timestamptz '2026-01-02 03:04:05+02'"), "2026-01-02T01:04:05.000Z")
        assert.strictEqual(yield* one("timestamp_ns '2026-01-02 03:04:05.123456789'"), "2026-01-02T03:04:05.123456789Z")
        assert.isNull(yield* one("'infinity'::timestamp"))
        assert.strictEqual(yield* one("date '2026-01-02'"), "2026-01-02")
        assert.strictEqual(yield* one("'ab'::blob"), "ab")
      })
    )

    it.effect("json: one object a row, no rows is an empty list, equal names are told apart", () =>
      Effect.gen(function* () {
        const dir = yield* Store
        assert.strictEqual(yield* query(dir, "select 1 as a where false", "json"), "[]")
        assert.deepStrictEqual(
          JSON.parse(String(yield* query(dir, "select 1 as a, 2 as a union all select 3, 4", "json"))),
          [
            { a: 1, "a:1": 2 },
            { a: 3, "a:1": 4 }
          ]
        )
      })
    )

    it.effect("csv and parquet hold the same rows", () =>
      Effect.gen(function* () {
        const dir = yield* Store
        const text =
          "select step, value, 'a,\"b\"' as odd, [1, 2] as l, '{\"a\":1}'::json as j, timestamp '2026-01-02' as t from metrics order by step limit 3 -- end"
        const csv = yield* query(dir, text, "csv")
        assert.deepStrictEqual(String(csv).split("\n").slice(0, 2), [
          "step,value,odd,l,j,t",
          '0,0.0,"a,""b""","[1, 2]","{""a"":1}",2026-01-02 00:00:00'
        ])
        const parquet = yield* query(dir, text, "parquet")
        assert.instanceOf(parquet, Uint8Array)
        const folder = yield* j.folder
        writeFileSync(`${folder}/x.parquet`, parquet as Uint8Array)
        yield* Effect.provide(
          Effect.gen(function* () {
            const { connection } = yield* DuckDb
            const reader = yield* Effect.promise(() => connection.runAndReadAll(`from '${folder}/x.parquet'`))
            assert.deepStrictEqual(
              reader.getRows().map((row) => row.map(String)),
              [0, 1, 2].map((i) => [String(i), String(i / 4), 'a,"b"', "[1, 2]", '{"a":1}', "2026-01-02 00:00:00"])
            )
          }),
          DuckDb.layer({ path: ":memory:" })
        )
        assert.match(String(yield* query(dir, "describe metrics", "csv")), /^column_name,/)
      })
    )

    it.effect("table: aligned, numbers right, within the width", () =>
      Effect.gen(function* () {
        const dir = yield* Store
        const text = yield* query(
          dir,
          "select name, step, value, repeat('x', 99) as long from metrics order by step limit 2",
          "table",
          { width: 40 }
        )
        assert.strictEqual(
          text,
          [
            "name  step  value  long",
            "────  ────  ─────  ─────────────────────",
            "loss     0      0  xxxxxxxxxxxxxxxxxxxx…",
            "loss     1   0.25  xxxxxxxxxxxxxxxxxxxx…",
            "2 rows"
          ].join("\n")
        )
      })
    )

    it.effect("a folder without a database: says what to do", () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(query(yield* j.folder, "select 1", "json"))
        assert.strictEqual(error.reason, "missing")
        assert.match(error.message, /exp run/)
      })
    )
  })

  it.live("a reader that stays open keeps what it opened; the next one sees the new rows", () =>
    Effect.gen(function* () {
      const dir = yield* j.folder
      j.put(dir, "runs/r1.ndjson", [j.run("r1"), j.task("k", "grpo"), j.attempt("a", "k")])
      const live = yield* open(dir)
      yield* live.publish
      const script = `const { DuckDBInstance } = await import("@duckdb/node-api")
          const c = await (await DuckDBInstance.create(process.argv[1], { access_mode: "READ_ONLY" })).connect()
          const n = async () => console.log(String((await c.runAndReadAll("select count(*) from metrics")).getRows()[0][0]))
          await n(); process.stdin.once("data", async () => { await n(); process.exit(0) })`
      const holder = spawn(process.execPath, ["--input-type=module", "-e", script, `${dir}/overtone.duckdb`], {
        stdio: ["pipe", "pipe", "inherit"]
      })
      yield* Effect.addFinalizer(() => Effect.sync(() => holder.kill("SIGKILL")))
      let said = ""
      holder.stdout.on("data", (data) => (said += String(data)))
      const until = (wanted: string) =>
        Effect.gen(function* () {
          while (said !== wanted) yield* Effect.sleep("10 millis")
        })
      yield* until("0\n")
      j.put(dir, "attempts/a/journal.ndjson", [j.head("a", "k"), j.metrics(0, { loss: 1 })])
      yield* live.ingest(["attempts/a/journal.ndjson"])
      yield* live.publish
      assert.deepStrictEqual(yield* rows(dir, "select count(*) as n from metrics"), [{ n: 1 }])
      holder.stdin.write("go\n")
      yield* until("0\n0\n")
    })
  )

  it.live("a database that another program writes to: says what to do there", () =>
    Effect.gen(function* () {
      const dir = yield* j.folder
      yield* Effect.scoped(Effect.flatMap(open(dir), (live) => live.publish))
      const script = `const { DuckDBInstance } = await import("@duckdb/node-api")
        globalThis.held = await DuckDBInstance.create(process.argv[1]); console.log("open"); setInterval(() => {}, 1e6)`
      const writer = spawn(process.execPath, ["--input-type=module", "-e", script, `${dir}/overtone.duckdb`])
      yield* Effect.addFinalizer(() => Effect.sync(() => writer.kill("SIGKILL")))
      yield* Effect.promise(() => new Promise((opened) => writer.stdout.once("data", opened)))
      const error = yield* Effect.flip(query(dir, "select 1", "json"))
      assert.match(error.message, /open for writing in another program/)
      // A run does not mind: it puts a new file in its place.
      yield* Effect.scoped(
        Effect.gen(function* () {
          const live = yield* open(dir)
          j.put(dir, "runs/r1.ndjson", [j.run("r1")])
          yield* live.catchUp
          yield* live.publish
        })
      )
      assert.strictEqual(yield* query(dir, "select count(*) as n from runs", "json"), '[\n{"n":1}\n]')
    })
  )
})
