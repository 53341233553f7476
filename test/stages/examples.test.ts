/** Data for preference training as stages give it: from files, from the world's judge, from votes. */
import { mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import {
  Demonstrations,
  LoggedSlates,
  Preferences,
  RankedLists,
  UnpairedPreferences
} from "../../src/artifact/kinds.ts"
import type { LoggedSlate } from "../../src/data/records.ts"
import { examples } from "../../src/stages/examples.ts"
import { preferences } from "../../src/stages/preferences.ts"
import { fileRef } from "../pipelines/published.ts"
import { freshFolder } from "../support/folders.ts"
import { failStage, rowsOf, runStage } from "../support/runStage.ts"
import { tinyWorld } from "./ground.ts"

const fresh = freshFolder("examples")
const file = (name: string, rows: ReadonlyArray<object>) => {
  const dir = fresh()
  mkdirSync(dir, { recursive: true })
  const path = join(dir, name)
  writeFileSync(path, rows.map((row) => JSON.stringify(row)).join("\n"))
  return fileRef(path)
}
const plain = { type: "preference", columns: {}, heldOut: 0, splitSeed: 0 } as const
const pairs = Array.from({ length: 10 }, (_, k) => ({
  question: `q${k}`,
  good: `g${k}`,
  bad: `b${k}`,
  split: k < 8 ? "a" : "b"
}))
const columns = { prompt: "question", chosen: "good", rejected: "bad" }

describe("examples from a file", () => {
  it.effect("pairs with columns called otherwise, some held out; every way to learn from them", () =>
    Effect.gen(function* () {
      const { out, said } = yield* runStage(examples, {
        dir: fresh(),
        decoded: { ...plain, path: file("p.jsonl", pairs), columns, heldOut: 3 }
      })
      const [train, held] = [yield* rowsOf(Preferences, out.pairs), yield* rowsOf(Preferences, out.heldOut)]
      assert.deepStrictEqual([train.length, held.length], [7, 3])
      assert.sameMembers(
        [...train, ...held].map(({ prompt }) => prompt),
        pairs.map(({ question }) => question)
      )
      assert.lengthOf(yield* rowsOf(RankedLists, out.ranked), 7)
      assert.lengthOf(yield* rowsOf(UnpairedPreferences, out.unpaired), 14)
      const [[top], [bottom]] = [yield* rowsOf(Demonstrations, out.top), yield* rowsOf(Demonstrations, out.bottom)]
      assert.deepStrictEqual([top!.completion, bottom!.completion], [train[0]!.chosen, train[0]!.rejected])
      assert.deepStrictEqual(said.metrics[0]!.values, { "examples/rows": 7, "examples/held_out": 3 })
    })
  )

  it.effect("a query picks a split", () =>
    Effect.gen(function* () {
      const { out } = yield* runStage(examples, {
        dir: fresh(),
        decoded: {
          ...plain,
          path: file("p.jsonl", pairs),
          query: "select question as prompt, good as chosen, bad as rejected from data where split = 'b'"
        }
      })
      assert.deepStrictEqual(
        (yield* rowsOf(Preferences, out.pairs)).map(({ chosen }) => chosen),
        ["g8", "g9"]
      )
    })
  )

  it.effect("single judgements and supervised types give what they hold, and nothing else", () =>
    Effect.gen(function* () {
      const judged = yield* runStage(examples, {
        dir: fresh(),
        decoded: {
          ...plain,
          type: "unpaired-preference",
          path: file("u.jsonl", [
            { prompt: "a", completion: "b", label: true },
            { prompt: "a", completion: "c", label: false }
          ])
        }
      })
      assert.lengthOf(yield* rowsOf(UnpairedPreferences, judged.out.unpaired), 2)
      assert.deepStrictEqual(
        (yield* rowsOf(Demonstrations, judged.out.top)).map(({ completion }) => completion),
        ["b"]
      )
      assert.lengthOf(yield* rowsOf(Preferences, judged.out.pairs), 0)
      const texts = yield* runStage(examples, {
        dir: fresh(),
        decoded: { ...plain, type: "language-modelling", prompt: "Say.", path: file("t.jsonl", [{ text: "x" }]) }
      })
      assert.deepStrictEqual(yield* rowsOf(Demonstrations, texts.out.top), [
        { id: "t/0", prompt: "Say.", completion: "x" }
      ])
    })
  )

  it.effect("holding out everything is an error that says so", () =>
    Effect.gen(function* () {
      const error = yield* failStage(examples, {
        dir: fresh(),
        decoded: { ...plain, path: file("p.jsonl", pairs), columns, heldOut: 10 }
      })
      assert.match((error as Error).message, /has 10 examples; with 10 held out none is left to train on/)
    })
  )
})

describe("preferences", () => {
  it.effect(
    "of the world's judge: the better answer is chosen, but for its errors; equal worlds give equal bytes",
    () =>
      Effect.gen(function* () {
        const { world } = yield* tinyWorld(fresh)
        const run = (errorRate: number) =>
          runStage(preferences, { dir: fresh(), params: { from: "world", pairs: 200, errorRate }, inputs: { world } })
        const [right, wrong] = [yield* run(0), yield* run(1)]
        const [a, b] = [yield* rowsOf(Preferences, right.out.pairs), yield* rowsOf(Preferences, wrong.out.pairs)]
        assert.isTrue(a.every(({ margin }) => margin! > 0))
        assert.deepStrictEqual(
          b.map(({ margin }) => margin),
          a.map(({ margin }) => margin)
        )
        assert.deepStrictEqual(
          a.map(({ chosen }) => chosen),
          b.map(({ rejected }) => rejected)
        )
      })
  )

  const slate = (id: string, ...votes: ReadonlyArray<number>): LoggedSlate => ({
    id,
    promptId: id,
    prompt: `ask ${id}`,
    responses: votes.map((count, k) => ({ text: `${id}${k}`, votes: count })) as never
  })
  const logged = Effect.fnUntraced(function* (...slates: ReadonlyArray<LoggedSlate>) {
    const dir = fresh()
    yield* LoggedSlates.write(dir).write(slates)
    return dir
  })

  it.effect("of votes: top against bottom, silent slates left out and counted", () =>
    Effect.gen(function* () {
      const slates = yield* logged(slate("a", 1, 4, 0), slate("b", 2), slate("c", 3, 3), slate("d", 5, 6))
      const { out, said } = yield* runStage(preferences, {
        dir: fresh(),
        params: { from: "slates" },
        inputs: { slates }
      })
      assert.deepStrictEqual(
        (yield* rowsOf(Preferences, out.pairs)).map(({ chosen, margin, rejected }) => [chosen, rejected, margin]),
        [
          ["a1", "a2", 4],
          ["d1", "d0", 1]
        ]
      )
      assert.deepStrictEqual(
        (yield* rowsOf(Demonstrations, out.top)).map(({ completion }) => completion),
        ["a1", "d1"]
      )
      assert.deepInclude(said.metrics[0]!.values, {
        "preferences/pairs": 2,
        "preferences/margin": 2.5,
        "preferences/alone": 1,
        "preferences/undecided": 1
      })
    })
  )

  it.effect("a log whose votes are all equal has nothing to prefer, and says what to change", () =>
    Effect.gen(function* () {
      const slates = yield* logged(slate("a", 1, 1), slate("b", 0, 0))
      const error = yield* failStage(preferences, { dir: fresh(), params: { from: "slates" }, inputs: { slates } })
      assert.match((error as Error).message, /none of 2 slates says which response is better by votes: .* in 2 all are/)
      const missing = yield* failStage(preferences, { dir: fresh(), params: { from: "slates" } })
      assert.match((missing as Error).message, /`from: slates` needs logged slates as input/)
    })
  )
})
