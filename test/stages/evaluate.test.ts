/** The evaluation on answers made by hand: exact metrics as the world says, controls, estimator and NLI beside them. */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Completions, Situations } from "../../src/artifact/kinds.ts"
import type { Completion } from "../../src/data/records.ts"
import { parseAnswer } from "../../src/rewards/grammar.ts"
import { evaluate } from "../../src/stages/evaluate.ts"
import { nli } from "../../src/stages/nli.ts"
import { score } from "../../src/stages/score.ts"
import { readWorld } from "../../src/stages/world.ts"
import { bestConstant, coverageOf } from "../../src/world/constant.ts"
import { draws } from "../../src/world/draws.ts"
import { makeChecker, shuffledIndex } from "../../src/world/exact.ts"
import { say, writeWorldAnswer } from "../../src/world/language.ts"
import { freshFolder } from "../support/folders.ts"
import { failStage, rowsOf, runStage } from "../support/runStage.ts"
import { tinyEncoderParams, tinyEstimator, tinyWorld } from "./ground.ts"

const fresh = freshFolder("evaluate")

const ground = Effect.cached(
  Effect.gen(function* () {
    const made = yield* tinyWorld(fresh)
    const { dir: estimator } = yield* tinyEstimator(fresh, made.world, 40)
    const classifier = yield* runStage(nli, {
      dir: fresh(),
      params: { ...tinyEncoderParams, steps: 2 },
      inputs: { pairs: made.nliPairs }
    })
    const world = yield* readWorld(made.world)
    return {
      ...made,
      estimator,
      nli: classifier.out.classifier,
      made: world,
      situations: yield* rowsOf(Situations, made.test)
    }
  })
).pipe(Effect.runSync)

/** Lines as a policy would write them, of some of a situation's window. */
const answer = (made: Effect.Success<typeof ground>["made"], id: string, which: ReadonlyArray<number>) => {
  const situation = made.splits.test.find((one) => one.id === id)!
  const random = draws(0, "test", id)
  return writeWorldAnswer(which.map((k) => say(made, "demonstrations", situation.window[k]!, random)))
}

const write = (rows: ReadonlyArray<Completion>) => {
  const dir = fresh()
  return Effect.as(Completions.write(dir).write(rows), dir)
}

const byPrompt = (
  items: ReadonlyArray<{ readonly promptId: string; readonly name: string; readonly value: number }>
) => {
  const found = new Map<string, Record<string, number>>()
  for (const { name, promptId, value } of items) {
    const row = found.get(promptId) ?? {}
    assert.isUndefined(row[name], `${promptId} has ${name} twice`)
    row[name] = value
    found.set(promptId, row)
  }
  return found
}

describe("evaluate", () => {
  it.live("exact metrics by hand: two of five said, one twice; a stranger; nothing", () =>
    Effect.gen(function* () {
      const { estimator, made, situations, test, world } = yield* ground
      const [a, b, c] = [situations[0]!, situations[1]!, situations[2]!]
      const windows = [a, b, c].map(({ perspectives }) => perspectives.length)
      // a: lines 0, 1 and 0 again. b: an answer that fits another situation. c: silence.
      const completions = yield* write([
        { id: a.id, prompt: a.prompt, text: answer(made, a.id, [0, 1, 0]) },
        { id: b.id, prompt: b.prompt, text: "In the perspective of Nobody , of nothing at all" },
        { id: c.id, prompt: c.prompt, text: "" }
      ])
      const { out, said } = yield* runStage(evaluate, {
        dir: fresh(),
        inputs: { completions, situations: test, estimator, world }
      })
      assert.isTrue(said.items.every(({ split }) => split === "test"))
      const items = byPrompt(said.items)
      assert.deepStrictEqual([...items.keys()], [a.id, b.id, c.id])
      const first = items.get(a.id)!
      assert.closeTo(first["eval/coverage/exact"]!, 2 / windows[0]!, 1e-12)
      assert.strictEqual(first["eval/precision/exact"], 1)
      assert.closeTo(first["eval/uniqueness/exact"]!, 2 / 3, 1e-12)
      // 2 (2/M) (2/3) / (2/M + 2/3) = 4 / (M + 3)
      assert.closeTo(first["eval/f1/exact"]!, 4 / (windows[0]! + 3), 1e-12)
      assert.strictEqual(first["eval/lines/mean"], 3)
      assert.strictEqual(first["eval/format/strict"], 1)
      for (const id of [b.id, c.id]) {
        const row = items.get(id)!
        for (const name of ["coverage", "precision", "uniqueness", "f1"])
          assert.strictEqual(row[`eval/${name}/exact`], 0)
        assert.strictEqual(row["eval/format/strict"], 0)
      }
      assert.strictEqual(items.get(b.id)!["eval/lines/mean"], 1)
      assert.strictEqual(items.get(c.id)!["eval/lines/mean"], 0)
      // The summary is the mean over prompts.
      const summary = JSON.parse(readFileSync(join(out.report, "summary.json"), "utf8"))
      assert.closeTo(summary["eval/coverage/exact"], 2 / windows[0]! / 3, 1e-12)
      assert.deepInclude(summary, { split: "test", prompts: 3, answers: 3 })
    })
  )

  it.live("exact metrics are the checker's, shuffled ones of another situation, the constant's of the world", () =>
    Effect.gen(function* () {
      const { estimator, made, situations, test, world } = yield* ground
      const rows = situations.map(({ id, prompt }, k) => ({
        id,
        prompt,
        text: answer(made, id, [0, 1, 2, 3].slice(k % 4))
      }))
      const { said } = yield* runStage(evaluate, {
        dir: fresh(),
        inputs: { completions: yield* write(rows), situations: test, estimator, world }
      })
      const items = byPrompt(said.items)
      const checker = makeChecker(made)
      const constant = bestConstant(made)
      situations.forEach(({ id }, index) => {
        const own = made.splits.test[index]!
        const other = made.splits.test[shuffledIndex(index, situations.length)]!
        assert.notStrictEqual(other.id, own.id)
        const expected = checker.score(rows[index]!.text, own, other)
        const row = items.get(id)!
        assert.strictEqual(row["eval/coverage/exact"], expected.coverage)
        assert.strictEqual(row["eval/coverage/at_m"], expected.atM)
        assert.strictEqual(row["eval/precision/exact"], expected.precision)
        assert.strictEqual(row["eval/uniqueness/exact"], expected.uniqueness)
        assert.strictEqual(row["eval/f1/exact"], expected.f1)
        assert.strictEqual(row["eval/lines/mean"], expected.lines)
        assert.strictEqual(row["eval/coverage/shuffled"], expected.shuffled)
        assert.strictEqual(row["eval/coverage/constant"], coverageOf(constant, own))
      })
      const mean = (name: string) => [...items.values()].reduce((sum, row) => sum + row[name]!, 0) / items.size
      assert.isAbove(mean("eval/coverage/exact"), mean("eval/coverage/shuffled") + 0.1)
      // One line of the constant answer covers no more than all of them; one of an answer's lines no more than the answer.
      for (const row of items.values()) {
        for (const control of ["shuffled", "constant"]) {
          for (const measure of ["pluralistic", "pl_score"])
            assert.isAtMost(row[`eval/${control}/${measure}/mean`]!, row[`eval/${control}/${measure}`]! + 1e-12)
        }
      }
      assert.isAbove(mean("eval/constant/pluralistic/mean"), 0)
    })
  )

  it.live(
    "with a classifier and without a world: items of estimator and NLI, as they are declared, within their ranges",
    () =>
      Effect.gen(function* () {
        const { estimator, made, nli, situations, test, world } = yield* ground
        const completions = yield* write(
          situations.map(({ id, prompt }) => ({ id, prompt, text: answer(made, id, [0, 1, 2]) }))
        )
        const inputs = { completions, situations: test, estimator }
        const namesOf = (items: Parameters<typeof byPrompt>[0]) => new Set(items.map(({ name }) => name))
        const all = yield* runStage(evaluate, { dir: fresh(), inputs: { ...inputs, nli, world } })
        const controls = ["eval/shuffled/nli", "eval/constant/nli"]
        const declared = Object.keys(evaluate.items)
        assert.sameMembers(
          [...namesOf(all.said.items)],
          declared.filter((name) => !controls.includes(name))
        )
        const more = yield* runStage(evaluate, {
          dir: fresh(),
          inputs: { ...inputs, nli, world },
          params: { nliControls: true }
        })
        assert.sameMembers([...namesOf(more.said.items)], declared)
        const few = yield* runStage(evaluate, { dir: fresh(), inputs })
        const judges = /nli|exact|union|strict|coverage\/constant/
        assert.sameMembers(
          [...namesOf(few.said.items)],
          declared.filter((name) => !judges.test(name))
        )
        for (const { name, value } of more.said.items) {
          const counted = /lines|candidates/.test(name)
          const cosine = /pl_score|helpfulness|relevance|diversity/.test(name)
          assert.isTrue(value >= (cosine ? -1 : 0) && (counted || value <= (cosine ? 2 : 1)), `${name} is ${value}`)
          if (name === "eval/nli/accuracy") assert.isTrue(value === 0 || value === 1)
        }
        // What is measured beside it changes nothing of what was measured.
        for (const { name, promptId, value } of all.said.items)
          assert.strictEqual(byPrompt(more.said.items).get(promptId)![name], value, name)
        // A threshold below all cosines covers what one-to-one matching can, one above all nothing.
        const coverage = (threshold: number) =>
          Effect.map(runStage(evaluate, { dir: fresh(), inputs, params: { threshold } }), ({ said }) =>
            [...byPrompt(said.items).values()].map((row) => row["eval/coverage/estimator"]!)
          )
        const most = situations.map(({ perspectives }) => Math.min(3, perspectives.length) / perspectives.length)
        assert.deepStrictEqual(yield* coverage(-1), most)
        assert.deepStrictEqual(
          yield* coverage(1.1),
          most.map(() => 0)
        )
      })
  )

  it.live("an item is the mean over a prompt's answers; the split is the one asked for", () =>
    Effect.gen(function* () {
      const { estimator, made, situations, test, world } = yield* ground
      const { id, perspectives, prompt } = situations[0]!
      const completions = yield* write(
        [[0], [0, 1], [0, 1, 2]].map((which) => ({ id, prompt, text: answer(made, id, which) }))
      )
      const { said } = yield* runStage(evaluate, {
        dir: fresh(),
        params: { split: "development" },
        inputs: { completions, situations: test, estimator, world }
      })
      const row = byPrompt(said.items).get(id)!
      assert.closeTo(row["eval/coverage/exact"]!, 2 / perspectives.length, 1e-12)
      assert.strictEqual(row["eval/lines/mean"], 2)
      assert.isTrue(said.items.every(({ split }) => split === "development"))
    })
  )

  it.live("a prompt's answers as a set: lines or whole answers are candidates; the union is exact; votes weigh", () =>
    Effect.gen(function* () {
      const { estimator, made, situations, test, world } = yield* ground
      const { id, perspectives, prompt } = situations[0]!
      const others = situations.slice(1)
      const completions = yield* write(
        [[0], [0, 1], [0, 1, 2]].map((which) => ({ id, prompt, text: answer(made, id, which) }))
      )
      const items = (of: "answers" | "lines", situations: string = test) =>
        Effect.map(
          runStage(evaluate, {
            dir: fresh(),
            params: { set: { of } },
            inputs: { completions, situations, estimator, world }
          }),
          ({ said }) => byPrompt(said.items).get(id)!
        )
      const [lines, answers] = [yield* items("lines"), yield* items("answers")]
      assert.deepStrictEqual([lines["eval/candidates"], answers["eval/candidates"]], [6, 3])
      for (const row of [lines, answers]) {
        assert.strictEqual(row["eval/union/coverage"], 3 / perspectives.length)
        assert.strictEqual(row["eval/union/uniqueness"], 3 / 6)
        assert.strictEqual(row["eval/union/lines"], 6)
      }
      // Six lines, two of them said three times and twice: 3 of 6 are distinct, word for word.
      assert.isAbove(lines["eval/self_bleu"]!, 0)
      assert.isBelow(lines["eval/distinct_2"]!, 1)
      // All votes on one reference: the PL-score is the cosine of what comes nearest to it.
      const voted = fresh()
      const [first, ...rest] = perspectives
      yield* Situations.write(voted).write([
        { id, prompt, perspectives: [{ ...first, votes: 3 }, ...rest.map((one) => ({ ...one, votes: 0 }))] },
        ...others
      ])
      const alone = yield* items("lines", voted)
      assert.isAbove(Math.abs(alone["eval/pl_score"]! - lines["eval/pl_score"]!), 1e-6)
      assert.strictEqual(alone["eval/coverage/pluralistic"], lines["eval/coverage/pluralistic"])
    })
  )

  it.live("real sentences are cut as the authors cut them for matching, and as sentences for NLI", () =>
    Effect.gen(function* () {
      const { estimator, situations, test } = yield* ground
      const { id, prompt } = situations[0]!
      const completions = yield* write([{ id, prompt, text: "1. Dr. Lee disagrees. Fairness matters!" }])
      const inputs = { completions, situations: test, estimator }
      const lines = yield* runStage(evaluate, { dir: fresh(), inputs })
      assert.strictEqual(byPrompt(lines.said.items).get(id)!["eval/lines/mean"], 1)
      const sentences = yield* runStage(evaluate, { dir: fresh(), inputs, params: { candidates: "sentences" } })
      // "1", "Dr", "Lee disagrees", "Fairness matters"
      assert.strictEqual(byPrompt(sentences.said.items).get(id)!["eval/lines/mean"], 4)
    })
  )

  it.live("answers without a situation, or none at all, are refused; by `score` too", () =>
    Effect.gen(function* () {
      const { estimator, situations, test } = yield* ground
      const stray = yield* write([{ id: "elsewhere/1", prompt: "?", text: "" }])
      const none = yield* write([])
      for (const stage of [evaluate, score] as const) {
        const fails = (completions: string) =>
          Effect.map(
            failStage(stage as typeof evaluate, { dir: fresh(), inputs: { completions, situations: test, estimator } }),
            (error) => (error as Error).message
          )
        assert.match(yield* fails(stray), new RegExp(`^${stage.name}: the answer to elsewhere/1 has no situation`))
        assert.match(yield* fails(none), new RegExp(`^${stage.name}: there are no answers`))
      }
      assert.isAbove(situations.length, 0)
    })
  )
})

describe('the leading "In the perspective of NAME, "', () => {
  it.live("is not read by an estimator that was trained without it, unless one insists", () =>
    Effect.gen(function* () {
      const { estimator, made, situations, test } = yield* ground
      const texts = situations.map(({ id, prompt }) => ({ id, prompt, text: answer(made, id, [0, 1, 2]) }))
      const renamed = texts.map((row) => ({
        ...row,
        text: row.text.replace(/In the perspective of \S+ ,/g, "In the perspective of Zebra ,")
      }))
      assert.isTrue(renamed.every(({ text }) => parseAnswer(text).candidates.length === 3))
      const items = (rows: typeof texts, prefix: "as-trained" | "keep") =>
        Effect.gen(function* () {
          const completions = yield* write(rows)
          const inputs = { completions, situations: test, estimator }
          return (yield* runStage(evaluate, { dir: fresh(), params: { prefix, threshold: 0.8 }, inputs })).said.items
        })
      const read = yield* items(texts, "as-trained")
      assert.deepStrictEqual(yield* items(renamed, "as-trained"), read)
      assert.notDeepEqual(yield* items(texts, "keep"), read)
    })
  )
})
