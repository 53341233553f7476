import { spawn } from "node:child_process"
import { appendFileSync, existsSync, readFileSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import type { DuckDBConnection } from "@duckdb/node-api"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Layer } from "effect"
import { SqlClient } from "effect/sql"
import fc from "fast-check"
import { DuckDb } from "../../src/warehouse/DuckDb.ts"
import { ingestJournal, journals } from "../../src/warehouse/ingest.ts"
import { open } from "../../src/warehouse/live.ts"
import { migrate } from "../../src/warehouse/Migrations.ts"
import { rows } from "../../src/warehouse/sql.ts"
import { columns } from "../../src/warehouse/tables.ts"
import * as j from "./journals.ts"

const file = "attempts/a1/journal.ndjson"

/** Every row of every private table. */
const dump = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const all = yield* Effect.forEach(
    ["journals", ...Object.keys(columns)],
    (table) => sql.unsafe(`select * from raw.${table} order by all`).values
  )
  return JSON.stringify(all, (_, value: unknown) => (typeof value === "bigint" ? String(value) : value))
})

const withDatabase = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.provide(Effect.andThen(migrate(), effect), DuckDb.layer({ path: ":memory:" }))

/** The database of a connection whose n-th appender breaks, once: a fault in the middle of a transaction. */
const failingAt = (n: number): Layer.Layer<DuckDb, never, DuckDb> =>
  Layer.effect(
    DuckDb,
    Effect.map(DuckDb, ({ connection, path }) => {
      let made = 0
      const flaky: DuckDBConnection = Object.create(connection, {
        createAppender: {
          value: async (table: string, schema: string) => {
            if (++made === n) throw new Error("injected")
            return connection.createAppender(table, schema)
          }
        }
      })
      return { connection: flaky, path }
    })
  )

const full = j.text([
  j.head("a1", "k"),
  j.metrics(0, { loss: 1, "rewards/coverage/mean": null }),
  { t: "samples", rows: [j.sample(0, "p1", 0, { coverage: 1, format: 0 }), j.sample(0, "ü🌓", 1, { coverage: 2 })] },
  { t: "unknown", of: "a later version" },
  j.items("eval/x", { p1: 0.1, p2: null }),
  { t: "event", name: "note", detail: { a: [1, null, "ü"] } },
  { t: "checkpoint", step: 1, state: null, sha256: "00", offset: 10 },
  { t: "progress", step: 1, of: 2 },
  j.metrics(1, { loss: 0.5 }),
  j.outputs
])

describe("ingestion", () => {
  it.live("any split of a journal into calls, any repetition and faults between give the same tables", () =>
    Effect.gen(function* () {
      const bytes = Buffer.from(full)
      const whole = yield* j.folder
      j.put(whole, file, full)
      const expected = yield* withDatabase(Effect.andThen(ingestJournal(whole, file), dump))
      const inPieces = (cuts: ReadonlyArray<number>, faults: ReadonlyArray<number>) =>
        Effect.gen(function* () {
          const dir = yield* j.folder
          j.put(dir, file, "")
          for (const [i, end] of [...cuts].sort((a, b) => a - b).entries()) {
            writeFileSync(join(dir, file), bytes.subarray(0, end))
            yield* Effect.exit(Effect.provide(ingestJournal(dir, file), failingAt(faults[i]!)))
            if (faults[i] === 7) yield* ingestJournal(dir, file)
          }
          writeFileSync(join(dir, file), bytes)
          yield* ingestJournal(dir, file)
          yield* ingestJournal(dir, file)
          assert.strictEqual(yield* dump, expected)
        })
      const services = yield* Effect.context()
      const cut = fc.integer({ min: 0, max: bytes.length })
      const fault = fc.integer({ min: 0, max: 8 })
      yield* Effect.promise(() =>
        fc.assert(
          fc.asyncProperty(
            fc.array(cut, { maxLength: 5 }),
            fc.array(fault, { minLength: 5, maxLength: 5 }),
            (cuts, faults) => Effect.runPromiseWith(services)(Effect.scoped(withDatabase(inPieces(cuts, faults))))
          ),
          { numRuns: 15 }
        )
      )
    })
  )

  it.live("counts whole lines; a torn one waits for its newline; a journal that is not there yet has none", () =>
    withDatabase(
      Effect.gen(function* () {
        const dir = yield* j.folder
        assert.deepStrictEqual(yield* ingestJournal(dir, file), { lines: 0, rows: 0, offset: 0 })
        const lines = [j.head("a1", "k"), j.metrics(0, { a: 1, b: 2 })]
        j.put(dir, file, `${j.text(lines)}{"t":"metrics","step":1,"values":{"a":3}}`)
        const offset = Buffer.byteLength(j.text(lines))
        assert.deepStrictEqual(yield* ingestJournal(dir, file), { lines: 2, rows: 3, offset })
        assert.deepStrictEqual(yield* ingestJournal(dir, file), { lines: 0, rows: 0, offset })
        appendFileSync(join(dir, file), "\n")
        assert.deepStrictEqual(yield* ingestJournal(dir, file), {
          lines: 1,
          rows: 1,
          offset: statSync(join(dir, file)).size
        })
      })
    )
  )

  it.live("keeps for every row the attempt, the byte offset of its line and its place in the line", () =>
    withDatabase(
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const dir = yield* j.folder
        j.put(dir, file, full)
        yield* ingestJournal(dir, file)
        const found = yield* sql<{ seq: bigint; line_index: number; part_index: number }>`
          select seq, line_index, part_index from raw.reward_parts where attempt_id = 'a1' order by all`
        const line = full.slice(0, full.indexOf('{"t":"samples"'))
        assert.deepStrictEqual(
          found.map((row) => [Number(row.seq), row.line_index, row.part_index]),
          [
            [Buffer.byteLength(line), 0, 0],
            [Buffer.byteLength(line), 0, 1],
            [Buffer.byteLength(line), 1, 0]
          ]
        )
      })
    )
  )

  it.live("takes journals and lines longer than a read at a time", () =>
    withDatabase(
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const dir = yield* j.folder
        const long = { t: "samples", rows: [{ ...j.sample(0, "p", 0), completion: "x".repeat(9_000_000) }] }
        j.put(dir, file, [
          j.head("a1", "k"),
          long,
          ...Array.from({ length: 3 }, (_, i) => j.metrics(i, { a: i })),
          long
        ])
        yield* ingestJournal(dir, file)
        assert.deepStrictEqual(
          yield* sql`select count(*)::integer as n, min(length(completion))::integer as l, (select count(*)::integer from raw.metrics) as m from raw.samples`,
          [{ n: 2, l: 9_000_000, m: 3 }]
        )
      })
    )
  )

  it.live("passes over a line that is no JSON, and refuses one that is not as the format has it, with its place", () =>
    withDatabase(
      Effect.gen(function* () {
        const dir = yield* j.folder
        j.put(dir, file, [j.head("a1", "k")])
        j.put(dir, file, "\0\0\0\0\n[1]\n")
        j.put(dir, file, [j.metrics(0, { a: 1 })])
        assert.strictEqual((yield* ingestJournal(dir, file)).rows, 2)
        const offset = statSync(join(dir, file)).size
        j.put(dir, file, [{ t: "metrics", step: "one", values: {} }])
        const error = yield* Effect.flip(ingestJournal(dir, file))
        assert.strictEqual(error.reason, "journal")
        assert.include(
          error.message,
          `attempts/a1/journal.ndjson: the line at byte ${offset}: \`step\` should be a whole number, found "one"`
        )
      })
    )
  )

  for (const [what, line] of [
    ["of another format", { ...j.head("a1", "k"), format: 2 }],
    ["of another attempt", j.head("a2", "k")]
  ] as const) {
    it.live(`refuses a journal ${what}`, () =>
      withDatabase(
        Effect.gen(function* () {
          const dir = yield* j.folder
          j.put(dir, file, [line])
          assert.isTrue(Exit.isFailure(yield* Effect.exit(ingestJournal(dir, file))))
        })
      )
    )
  }

  it.live("finds every journal of a folder, runs first", () =>
    Effect.gen(function* () {
      const dir = yield* j.folder
      assert.deepStrictEqual(yield* journals(dir), [])
      for (const name of [
        "attempts/b/journal.ndjson",
        "attempts/a/journal.ndjson",
        "runs/2.ndjson",
        "runs/1.ndjson",
        "runs/x.tmp"
      ]) {
        j.put(dir, name, "")
      }
      assert.deepStrictEqual(yield* journals(dir), [
        "runs/1.ndjson",
        "runs/2.ndjson",
        "attempts/a/journal.ndjson",
        "attempts/b/journal.ndjson"
      ])
    })
  )
})

const child = (script: string, ...args: ReadonlyArray<string>) =>
  Effect.acquireRelease(
    Effect.sync(() =>
      spawn(process.execPath, ["--disable-warning=ExperimentalWarning", "--input-type=module", "-e", script, ...args], {
        stdio: ["ignore", "pipe", "inherit"]
      })
    ),
    (process) => Effect.sync(() => process.kill("SIGKILL"))
  )

const supervisor = `
  import { Effect } from "effect"
  import { open } from "${new URL("../../src/warehouse/live.ts", import.meta.url)}"
  const dir = process.argv[1]
  await Effect.runPromise(Effect.scoped(Effect.gen(function* () {
    const live = yield* open(dir)
    console.log("open")
    for (;;) {
      yield* live.ingest(["runs/r1.ndjson", "attempts/a1/journal.ndjson"])
      yield* live.publish
      yield* Effect.sleep("1 millis")
    }
  })))`

const until = (condition: () => boolean) =>
  Effect.gen(function* () {
    while (!condition()) yield* Effect.sleep("5 millis")
  })

describe("one supervisor at a time", () => {
  it.live(
    "a second one is refused with the holder's process; after kill -9 the next takes over, rows exactly once",
    () =>
      Effect.gen(function* () {
        const dir = yield* j.folder
        j.put(dir, "runs/r1.ndjson", [j.run("r1"), j.task("k", "grpo"), j.attempt("a1", "k")])
        j.put(dir, file, [j.head("a1", "k")])
        let written = 0
        for (let kill = 0; kill < 3; kill++) {
          const process = yield* child(supervisor, dir)
          let said = ""
          process.stdout.on("data", (data) => (said += String(data)))
          yield* until(() => said.includes("open"))
          if (kill === 0) {
            const error = yield* Effect.flip(Effect.scoped(open(dir)))
            assert.strictEqual(error._tag, "WarehouseInUse")
            assert.match(error.message, new RegExp(`in use by another run \\(process ${process.pid}\\)`))
          }
          for (let burst = 0; burst < 10 + 7 * kill; burst++) {
            j.put(
              dir,
              file,
              Array.from({ length: 20 }, () => j.metrics(written++, { loss: 1 }))
            )
            yield* Effect.sleep("2 millis")
          }
          const gone = new Promise((done) => process.once("exit", done))
          process.kill("SIGKILL")
          yield* Effect.promise(() => gone)
        }
        yield* Effect.scoped(Effect.flatMap(open(dir), (live) => live.publish))
        assert.deepStrictEqual(
          yield* rows(dir, "select count(*) as n, count(distinct step) as steps, max(step) + 1 as top from metrics"),
          [{ n: written, steps: written, top: written }]
        )
        assert.isFalse(existsSync(join(dir, "publishing.duckdb")))
      })
  )

  it.live("twice in one process is refused as well, and allowed again when the first has closed", () =>
    Effect.gen(function* () {
      const dir = yield* j.folder
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* open(dir)
          assert.strictEqual((yield* Effect.flip(Effect.scoped(open(dir))))._tag, "WarehouseInUse")
        })
      )
      yield* Effect.scoped(open(dir))
    })
  )

  it.live("a live file that is no database: what to do", () =>
    Effect.gen(function* () {
      const dir = yield* j.folder
      j.put(dir, "live.duckdb", "hello")
      const error = yield* Effect.flip(Effect.scoped(open(dir)))
      assert.strictEqual(error._tag, "WarehouseError")
      assert.match(error.message, /live\.duckdb.*exp rebuild/)
      assert.strictEqual(readFileSync(join(dir, "live.duckdb"), "utf8"), "hello")
    })
  )

  it.live("a folder may be moved: nothing in the databases names it", () =>
    Effect.gen(function* () {
      const dir = yield* j.folder
      j.put(dir, "runs/r1.ndjson", [j.run("r1")])
      yield* Effect.scoped(Effect.flatMap(open(dir), (live) => live.publish))
      for (const name of ["live.duckdb", "overtone.duckdb"]) {
        assert.isFalse(readFileSync(join(dir, name)).includes(dir), name)
      }
    })
  )
})
