/** Situations from a file: the split, the demonstrations, and the rows that are refused. */
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Demonstrations, Situations } from "../../src/artifact/kinds.ts"
import { parseAnswer } from "../../src/rewards/grammar.ts"
import { dataset } from "../../src/stages/dataset.ts"
import { freshFolder } from "../support/folders.ts"
import { failStage, rowsOf, runStage } from "../support/runStage.ts"

const fresh = freshFolder("dataset")

const row = (prompt: string, id?: string) => ({
  prompt,
  perspectives: [
    { name: "Duty", explanation: `one owes it to ${prompt}.` },
    { name: "Life", explanation: "it is dear." }
  ],
  ...(id === undefined ? {} : { id })
})

const from = (rows: ReadonlyArray<unknown>, more: Readonly<Record<string, unknown>> = {}) => {
  const dir = fresh()
  const path = join(dir, "rows.jsonl")
  writeFileSync(path, rows.map((one) => `${JSON.stringify(one)}\n`).join(""))
  return { dir: fresh(), params: { path: { _tag: "File", path, sha256: "" }, test: 2, development: 1, ...more } }
}
const six = Array.from({ length: 6 }, (_, k) => row(`s${k}`))

describe("the split", () => {
  it.effect("holds every row once, by its own seed; prompts are put into words", () =>
    Effect.gen(function* () {
      const { out } = yield* runStage(dataset, from(six, { prompt: "What of {situation}?" }))
      const parts = yield* Effect.all([
        rowsOf(Situations, out.test),
        rowsOf(Situations, out.development),
        rowsOf(Situations, out.train)
      ])
      assert.deepStrictEqual(
        parts.map((rows) => rows.length),
        [2, 1, 3]
      )
      const all = parts.flat()
      assert.deepStrictEqual(all.map(({ situation }) => situation).sort(), ["s0", "s1", "s2", "s3", "s4", "s5"])
      for (const { prompt, situation } of all) assert.strictEqual(prompt, `What of ${situation}?`)
      const other = yield* runStage(dataset, from(six, { splitSeed: 1 }))
      const train = (yield* rowsOf(Situations, other.out.train)).map(({ situation }) => situation)
      assert.notDeepEqual(
        train,
        parts[2].map(({ situation }) => situation)
      )
    })
  )

  it.effect("keeps what a file says the situation by itself is, where its prompt says more", () =>
    Effect.gen(function* () {
      const told = six.map((one, k) => ({ ...one, prompt: `Weigh up ${one.prompt}.`, situation: `s${k}` }))
      const { out } = yield* runStage(dataset, from(told))
      for (const { prompt, situation } of yield* rowsOf(Situations, out.train))
        assert.strictEqual(prompt, `Weigh up ${situation}.`)
    })
  )

  it.effect("shows demonstrations of training situations only, in the strict form", () =>
    Effect.gen(function* () {
      const { out } = yield* runStage(dataset, from(six))
      const train = yield* rowsOf(Situations, out.train)
      const demonstrations = yield* rowsOf(Demonstrations, out.demonstrations)
      assert.deepStrictEqual(
        demonstrations.map(({ id }) => id),
        train.map(({ id }) => id)
      )
      for (const [k, { completion }] of demonstrations.entries()) {
        const answer = parseAnswer(completion, { tagsOnce: true })
        assert.isTrue(answer.strict)
        assert.deepStrictEqual(
          answer.candidates,
          train[k]!.perspectives.map(({ text }) => text)
        )
      }
    })
  )
})

describe("a query over the file", () => {
  const ids = (query: string) =>
    Effect.gen(function* () {
      const rows = six.map((one, k) => ({ ...one, id: 10 + k }))
      const { out } = yield* runStage(dataset, from(rows, { query, test: 1, development: 0 }))
      const all = [...(yield* rowsOf(Situations, out.test)), ...(yield* rowsOf(Situations, out.train))]
      return all.map(({ id }) => id).sort()
    })

  it.effect("may begin with `with` or `from`, may end with a comment; numbers are ids as text", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* ids("select * from data where id < 13"), ["10", "11", "12"])
      assert.deepStrictEqual(yield* ids("with few as (from data where id > 12) select * from few -- the last"), [
        "13",
        "14",
        "15"
      ])
      assert.deepStrictEqual(yield* ids("from data order by id desc limit 2;"), ["14", "15"])
    })
  )

  it.effect("that DuckDB refuses is told with the file it is over", () =>
    Effect.map(failStage(dataset, from(six, { query: "select nothing from data" })), (error) =>
      assert.match(error.message, /^query over .*rows\.jsonl: .*"nothing" not found/)
    )
  )
})

describe("refused", () => {
  const message = (rows: ReadonlyArray<unknown>, more?: Readonly<Record<string, unknown>>) =>
    Effect.map(failStage(dataset, from(rows, more)), (error) => error.message)

  it.effect("one id or one situation twice, as it could be trained on and evaluated", () =>
    Effect.gen(function* () {
      assert.match(yield* message([...six, row("new", "a"), row("other", "a")]), /two situations have the id "a"/)
      assert.match(yield* message([...six, row(" s3 ")]), /rows\.jsonl: the situation "s3" is there twice; .*evaluated/)
    })
  )

  it.effect("fewer rows than are held out", () =>
    Effect.map(message(six, { limit: 3 }), (said) => assert.match(said, /has 3 situations; 3 are held out/))
  )
})
