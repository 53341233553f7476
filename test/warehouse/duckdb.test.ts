import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { SqlClient } from "effect/sql"
import { classify, DuckDb } from "../../src/warehouse/DuckDb.ts"
import { migrate, migrations, recreateViews } from "../../src/warehouse/Migrations.ts"
import { columns } from "../../src/warehouse/tables.ts"
import { folder } from "./journals.ts"

const memory = DuckDb.layer({ path: ":memory:" })
const withMemory = <A, E>(effect: Effect.Effect<A, E, SqlClient.SqlClient | DuckDb>) => Effect.provide(effect, memory)

const reasonOf = (statement: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const error = yield* Effect.flip(sql.unsafe(statement))
    return error.reason._tag
  })

describe("client", () => {
  it.live("binds and reads values of every kind", () =>
    withMemory(
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* sql`create table t (i integer, d double, s varchar, b blob, moment timestamp, j json, n varchar, ok boolean)`
        const at = new Date("2026-01-02T03:04:05.678Z")
        yield* sql`insert into t ${sql.insert([{ i: 1, d: 0.5, s: 'it\'s "so" 🌓', b: new Uint8Array([0, 255]), moment: at, j: '{"a":[1]}', n: null, ok: true }])}`
        const [row] =
          yield* sql`select * from t where s = ${'it\'s "so" 🌓'} and moment = ${at} and i in ${sql.in([1, 2])}`
        assert.deepStrictEqual(row, {
          i: 1,
          d: 0.5,
          s: 'it\'s "so" 🌓',
          b: new Uint8Array([0, 255]),
          moment: at,
          j: '{"a":[1]}',
          n: null,
          ok: true
        })
        assert.deepStrictEqual(yield* sql`select ${2n ** 40n}::bigint as b, [1, 2] as l`.values, [[2n ** 40n, [1, 2]]])
      })
    )
  )
})

describe("transactions", () => {
  it.live("roll back on failure and leave the connection usable", () =>
    withMemory(
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* sql`create table t (i integer primary key)`
        const failing = sql.withTransaction(
          Effect.andThen(sql`insert into t values (1)`, sql`insert into t values (2), (2)`)
        )
        const error = yield* Effect.flip(failing)
        assert.strictEqual(error.reason._tag, "UniqueViolation")
        assert.deepStrictEqual(yield* sql`select * from t`, [])
        yield* sql.withTransaction(sql`insert into t values (3)`)
        assert.deepStrictEqual(yield* sql`select * from t`, [{ i: 3 }])
      })
    )
  )

  it.live("of several fibers follow each other; other statements wait", () =>
    withMemory(
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* sql`create table t (i integer)`
        const add = (n: number) =>
          sql.withTransaction(
            Effect.gen(function* () {
              const [row] = yield* sql<{ n: number }>`select count(*)::integer as n from t`
              yield* Effect.sleep("5 millis")
              yield* sql`insert into t values (${row!.n})`
              if (n === 2) return yield* Effect.fail("no")
            })
          )
        const outside = yield* Effect.forkChild(Effect.delay(sql`insert into t values (100)`, "7 millis"))
        yield* Effect.forEach([0, 1, 2, 3], (n) => Effect.exit(add(n)), { concurrency: "unbounded" })
        yield* Fiber.join(outside)
        const rows = yield* sql<{ i: number }>`select i from t order by i`
        assert.strictEqual(rows.length, 4)
        assert.strictEqual(new Set(rows.map((row) => row.i)).size, 4)
      })
    )
  )

  it.live("do not nest: DuckDB has no savepoints, and says so", () =>
    withMemory(
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* sql`create table t (i integer)`
        const nested = sql.withTransaction(
          Effect.andThen(sql`insert into t values (1)`, sql.withTransaction(sql`insert into t values (2)`))
        )
        assert.strictEqual((yield* Effect.flip(nested))._tag, "SqlError")
        assert.deepStrictEqual(yield* sql`select * from t`, [])
      })
    )
  )
})

describe("errors", () => {
  it.live("have the kind that DuckDB says", () =>
    withMemory(
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* sql`create table t (i integer primary key, j integer not null check (j > 0))`
        yield* sql`insert into t values (1, 1)`
        assert.strictEqual(yield* reasonOf("selec 1"), "SqlSyntaxError")
        assert.strictEqual(yield* reasonOf("select * from nope"), "SqlSyntaxError")
        assert.strictEqual(yield* reasonOf("select nope from t"), "SqlSyntaxError")
        assert.strictEqual(yield* reasonOf("insert into t values (1, 1)"), "UniqueViolation")
        assert.strictEqual(yield* reasonOf("insert into t values (2, null)"), "ConstraintError")
        assert.strictEqual(yield* reasonOf("insert into t values (2, -1)"), "ConstraintError")
        assert.strictEqual(yield* reasonOf("select 'a'::integer"), "UnknownError")
        yield* sql`set enable_external_access = false`
        assert.strictEqual(yield* reasonOf("select * from read_text('/etc/hostname')"), "AuthorizationError")
      })
    )
  )

  it("are told apart by message where no statement provokes them here", () => {
    const kind = (message: string, operation = "execute") => classify(new Error(message), operation)._tag
    assert.strictEqual(
      kind('IO Error: Could not set lock on file "x": Conflicting lock is held', "open"),
      "LockTimeoutError"
    )
    assert.strictEqual(kind('IO Error: Cannot open file "/nope/x": No such file', "open"), "ConnectionError")
    assert.strictEqual(kind("IO Error: Could not write all bytes: No space left on device"), "UnknownError")
    assert.strictEqual(kind("TransactionContext Error: Conflict on update!"), "SerializationError")
    assert.strictEqual(kind("INTERRUPT Error: Interrupted!"), "StatementTimeoutError")
    assert.strictEqual(
      kind(
        'Invalid Input Error: Cannot execute statement of type "CREATE" on database "o" which is attached in read-only mode!'
      ),
      "AuthorizationError"
    )
  })

  it.live("a path that cannot be opened is a ConnectionError of the layer", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(
        Effect.provide(SqlClient.SqlClient, DuckDb.layer({ path: "/no/such/folder/x.duckdb" }))
      )
      assert.strictEqual(error.reason._tag, "ConnectionError")
    })
  )
})

describe("migrations", () => {
  it.live("run once, in order, and make the tables that ingestion fills", () =>
    withMemory(
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        assert.strictEqual(yield* migrate(), migrations().length)
        assert.strictEqual(yield* migrate(), 0)
        yield* recreateViews()
        yield* recreateViews()
        const names = {
          text: "VARCHAR",
          bigint: "BIGINT",
          integer: "INTEGER",
          double: "DOUBLE",
          json: "JSON",
          boolean: "BOOLEAN",
          time: "TIMESTAMP"
        }
        for (const [table, wanted] of Object.entries(columns)) {
          const found = yield* sql<{ name: string; type: string }>`
            select column_name as name, data_type as type from duckdb_columns()
            where schema_name = 'raw' and table_name = ${table} order by column_index`
          assert.deepStrictEqual(
            found.map(({ name, type }) => [name, type]),
            Object.entries(wanted).map(([name, type]) => [name, names[type]]),
            table
          )
        }
      })
    )
  )

  it.live("that fail leave nothing of themselves, and those before stay", () =>
    withMemory(
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const files = [
          { name: "0001_a.sql", text: "create table a (i integer)" },
          { name: "0002_b.sql", text: "create table b (i integer); create table a (i integer)" }
        ]
        const error = yield* Effect.flip(migrate(files))
        assert.include(error.message, "0002_b.sql")
        assert.deepStrictEqual(yield* sql`select table_name as t from duckdb_tables() where schema_name = 'main'`, [
          { t: "a" }
        ])
        assert.strictEqual(yield* migrate([files[0]!, { name: "0002_b.sql", text: "create table b (i integer)" }]), 1)
      })
    )
  )

  it.live("of another version are refused with the remedy; misnumbered ones too", () =>
    Effect.gen(function* () {
      const dir = yield* folder
      const on = <A, E>(effect: Effect.Effect<A, E, SqlClient.SqlClient | DuckDb>) =>
        Effect.provide(effect, DuckDb.layer({ path: `${dir}/live.duckdb` }))
      yield* on(migrate([{ name: "0001_a.sql", text: "create table a (i integer)" }]))
      const edited = yield* Effect.flip(on(migrate([{ name: "0001_a.sql", text: "create table a (i bigint)" }])))
      assert.match(edited.message, /live\.duckdb.*exp rebuild/)
      const newer = yield* Effect.flip(on(migrate([])))
      assert.strictEqual(newer._tag, "WarehouseError")
      const gap = yield* Effect.flip(withMemory(migrate([{ name: "0002_b.sql", text: "select 1" }])))
      assert.match(gap.message, /should begin with 0001_/)
    })
  )
})
