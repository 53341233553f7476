/** The world and the first policy as stages: what they write, that seeds share it, what they refuse. */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Demonstrations, NliPairs, OptionQuestions, Situations } from "../../src/artifact/kinds.ts"
import { basePolicy } from "../../src/stages/basePolicy.ts"
import { readWorld, world } from "../../src/stages/world.ts"
import { fillers } from "../../src/world/lexicon.ts"
import { situationRecord } from "../../src/world/records.ts"
import { makeWorld } from "../../src/world/world.ts"
import { freshFolder } from "../support/folders.ts"
import { failStage, rowsOf, runStage } from "../support/runStage.ts"
import { tinyPolicyParams, tinySettings } from "./ground.ts"

const fresh = freshFolder("world")
const made = (params: object = {}) =>
  Effect.map(runStage(world, { dir: fresh(), params: { ...tinySettings, ...params } }), ({ out }) => out)
const weights = (dir: string) => readFileSync(join(dir, "model.safetensors"))

describe("world", () => {
  it.live("writes the situations of every split, and the world from which all of it follows", () =>
    Effect.gen(function* () {
      const out = yield* made()
      const again = makeWorld((yield* readWorld(out.world)).settings)
      for (const split of ["train", "development", "test"] as const) {
        const rows = yield* rowsOf(Situations, out[split])
        assert.lengthOf(rows, tinySettings[split])
        assert.deepStrictEqual(
          rows,
          again.splits[split].map((situation) => situationRecord(again, situation))
        )
      }
      assert.lengthOf(yield* rowsOf(NliPairs, out.nliPairs), tinySettings.nliPairs)
    })
  )

  it.live("writes answers before and after redundancy filtering: repetitions go, by a judge that errs", () =>
    Effect.gen(function* () {
      const out = yield* made({ judgeError: 0 })
      const [before, after] = [yield* rowsOf(Situations, out.redundant), yield* rowsOf(Situations, out.filtered)]
      const windows = yield* rowsOf(Situations, out.train)
      const meanings = ({ perspectives }: (typeof before)[number]) => perspectives.map(({ meaning }) => meaning)
      windows.forEach((window, k) => {
        const distinct = [...new Set(meanings(before[k]!))].toSorted()
        assert.deepStrictEqual(distinct, meanings(window).toSorted())
        assert.deepStrictEqual(meanings(after[k]!).toSorted(), distinct)
      })
      assert.isAbove(before.flatMap(meanings).length, 1.3 * after.flatMap(meanings).length)
      const erring = yield* made({ judgeError: 0.2 })
      const kept = (yield* rowsOf(Situations, erring.filtered)).map(meanings)
      assert.isTrue(kept.some((row) => new Set(row).size < row.length))
    })
  )

  it.live("writes how latent groups choose among options", () =>
    Effect.gen(function* () {
      const out = yield* made({ optionQuestions: 30 })
      const questions = yield* rowsOf(OptionQuestions, out.options)
      assert.lengthOf(questions, 30)
      for (const { goldDistribution, options } of questions) {
        assert.strictEqual(goldDistribution.length, options.length)
        assert.closeTo(
          goldDistribution.reduce((a, b) => a + b, 0),
          1,
          1e-12
        )
      }
      assert.isAbove(new Set(questions.map(({ attribute }) => attribute)).size, 1)
    })
  )

  it.live("the warm start's demonstrations are none that pretraining has seen", () =>
    Effect.gen(function* () {
      const out = yield* made({ pretrainingDraws: 2, demonstrationDraws: 1 })
      const [pretraining, demonstrations] = [
        yield* rowsOf(Demonstrations, out.pretraining),
        yield* rowsOf(Demonstrations, out.demonstrations)
      ]
      assert.deepStrictEqual([pretraining.length, demonstrations.length], [96, 48])
      const seen = new Set(pretraining.map(({ id }) => id))
      assert.strictEqual(seen.size, 96)
      assert.isFalse(demonstrations.some(({ id }) => seen.has(id)))
      assert.isTrue(
        demonstrations.every(({ completion }) => fillers.demonstrations.some((word) => completion.includes(word)))
      )
    })
  )

  it.live("equal settings give equal bytes, another world's seed others; what cannot be is said with its setting", () =>
    Effect.gen(function* () {
      const text = (dir: string) => readFileSync(join(dir, "rows.jsonl"), "utf8")
      const [a, b, c] = [yield* made(), yield* made(), yield* made({ seed: 1 })]
      assert.strictEqual(text(b.train), text(a.train))
      assert.notStrictEqual(text(c.train), text(a.train))
      const error = yield* failStage(world, { dir: fresh(), params: { ...tinySettings, test: 100_000 } })
      assert.match(String((error as Error).message), /cannot be made from `data`: .* situations for "test" and 100000/)
    })
  )
})

describe("policy", () => {
  it.live("from scratch: a function of the seed, with the world's words", () =>
    Effect.gen(function* () {
      const { world: dir } = yield* made()
      const make = (seed: number) =>
        Effect.map(
          runStage(basePolicy, { dir: fresh(), params: tinyPolicyParams, inputs: { world: dir }, seed }),
          ({ out }) => out.policy
        )
      const [a, b, c] = [yield* make(0), yield* make(0), yield* make(1)]
      assert.deepStrictEqual(weights(b), weights(a))
      assert.notDeepEqual(weights(c), weights(a))
      const config = JSON.parse(readFileSync(join(a, "config.json"), "utf8"))
      const { vocabulary } = yield* readWorld(dir)
      assert.strictEqual(config.vocab_size, vocabulary.tokens.length)
      assert.strictEqual(config.eos_token_id, vocabulary.special.end)
    })
  )

  it.live("from a folder: its bytes; from nothing: refused, as is a folder that is no model", () =>
    Effect.gen(function* () {
      const { world: dir } = yield* made()
      const scratch = yield* runStage(basePolicy, { dir: fresh(), params: tinyPolicyParams, inputs: { world: dir } })
      const from = (path: string) => ({
        dir: fresh(),
        decoded: { source: "folder" as const, path: { _tag: "File" as const, path, sha256: "" } },
        inputs: {}
      })
      const copied = yield* runStage(basePolicy, from(scratch.out.policy))
      for (const file of ["model.safetensors", "config.json", "tokenizer.json"]) {
        assert.deepStrictEqual(
          readFileSync(join(copied.out.policy, file)),
          readFileSync(join(scratch.out.policy, file))
        )
      }
      const empty = fresh()
      const broken = yield* failStage(basePolicy, from(empty))
      assert.include(String((broken as Error).message), empty)
      const none = yield* failStage(basePolicy, { dir: fresh(), params: tinyPolicyParams, inputs: {} })
      assert.deepInclude(none, { _tag: "NoTokenizer" })
    })
  )
})
