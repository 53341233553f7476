/** The NLI classifier as a stage: it learns the relation from scratch, resumes in both of its phases, passes through. */
import { readdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit } from "effect"
import { NliPairs } from "../../src/artifact/kinds.ts"
import type { NliPair } from "../../src/data/records.ts"
import { nli } from "../../src/stages/nli.ts"
import { world } from "../../src/stages/world.ts"
import { freshFolder } from "../support/folders.ts"
import { attemptStage, failStage, rowsOf, runStage } from "../support/runStage.ts"
import { timeless, tinyEncoderParams } from "./ground.ts"

const fresh = freshFolder("nli")
const weights = (dir: string) => readFileSync(join(dir, "model.safetensors"))

const pairs = Effect.cached(
  Effect.map(
    runStage(world, {
      dir: fresh(),
      params: {
        ...{ train: 24, development: 4, test: 4, perspectives: 10, clusters: 2, leastWindow: 2 },
        ...{ nliPairs: 2000, judgeError: 0 }
      }
    }),
    ({ out }) => out.nliPairs
  )
).pipe(Effect.runSync)

const few = { ...tinyEncoderParams, layers: 2, alignSteps: 3, steps: 3, batchSize: 16, heldOut: 0.02 }

describe("nli", () => {
  it.live("learns what entails what", () =>
    Effect.gen(function* () {
      const { said } = yield* runStage(nli, {
        dir: fresh(),
        params: { hiddenSize: 48, alignSteps: 80, steps: 220, batchSize: 32, wordDropout: 0 },
        inputs: { pairs: yield* pairs }
      })
      const { step, values } = said.metrics.at(-1)!
      assert.strictEqual(step, 300)
      // A third by chance, two thirds by stance alone.
      assert.isAbove(values["nli/accuracy"]!, 0.8)
      assert.isAbove(values["nli/f1"]!, 0.8)
      // The truth is known here, and the labels never err.
      assert.strictEqual(values["nli/ceiling"], 1)
      assert.strictEqual(values["nli/accuracy_true"], values["nli/accuracy"])
    })
  )

  it.live("says what labels that err leave to be had, and nothing where the truth is not known", () =>
    Effect.gen(function* () {
      const rows = yield* rowsOf(NliPairs, yield* pairs)
      const measured = (write: (row: NliPair, k: number) => NliPair) =>
        Effect.gen(function* () {
          const dir = fresh()
          yield* NliPairs.write(dir).write(rows.slice(0, 100).map(write))
          const { said } = yield* runStage(nli, {
            dir: fresh(),
            params: { ...few, steps: 0, heldOut: 0.2 },
            inputs: { pairs: dir }
          })
          return said.metrics.at(-1)!.values
        })
      const other = { entailment: "neutral", neutral: "contradiction", contradiction: "entailment" } as const
      // Of the first 20, which are held out, 3 have a label that is not the truth.
      const erring = yield* measured((row, k) => ({ ...row, label: k % 7 === 0 ? other[row.label] : row.label }))
      assert.strictEqual(erring["nli/ceiling"], 17 / 20)
      const plain = yield* measured(({ hypothesis, label, premise }) => ({ hypothesis, label, premise }))
      assert.doesNotHaveAnyKeys(plain, ["nli/ceiling", "nli/accuracy_true"])
      // One that is right of the truth where the label errs is wrong of the label.
      assert.isAtMost(Math.abs(erring["nli/accuracy_true"]! - erring["nli/accuracy"]!), 3 / 20 + 1e-12)
      assert.strictEqual(erring["nli/accuracy_true"], plain["nli/accuracy"])
    })
  )

  it.live("is resumed to the last bit, in either phase and between them", () =>
    Effect.gen(function* () {
      const all = { params: few, inputs: { pairs: yield* pairs }, seed: 1 }
      const whole = yield* runStage(nli, { dir: fresh(), ...all })
      assert.deepStrictEqual(
        whole.said.metrics.map(({ step, values }) => [
          step,
          values["updates"],
          "align/loss" in values,
          "loss" in values
        ]),
        [
          [0, 1, true, false],
          [1, 2, true, false],
          [2, 3, true, false],
          [3, 4, false, true],
          [4, 5, false, true],
          [5, 6, false, true],
          [6, undefined, false, false]
        ]
      )
      for (const breakAt of [2, 3, 4]) {
        const first = yield* attemptStage(nli, { dir: fresh(), ...all, checkpointEvery: 1, breakAt })
        assert.isTrue(Exit.hasInterrupts(first.exit))
        const rest = yield* runStage(nli, { dir: fresh(), ...all, resume: first.said.checkpoints.at(-1)! })
        assert.deepStrictEqual([...timeless(first.said), ...timeless(rest.said)], timeless(whole.said))
        assert.deepStrictEqual(weights(rest.out.classifier), weights(whole.out.classifier))
      }
    })
  )

  it.live(
    "goes on from a shorter run to the last bit, from scratch and from a base, unless the schedule spans all steps",
    () =>
      Effect.gen(function* () {
        const inputs = { pairs: yield* pairs }
        const base = (yield* runStage(nli, { dir: fresh(), params: { ...few, steps: 0 }, inputs })).out.classifier
        const more = { ...few, schedule: "constant", steps: 5 }
        for (const from of [inputs, { ...inputs, base }]) {
          const all = { inputs: from, seed: 1 }
          // Alignment comes first, and is no part of what a family differs in.
          const aligned = "base" in from ? 0 : few.alignSteps
          const less = yield* runStage(nli, { dir: fresh(), params: { ...more, steps: 2 }, ...all })
          assert.deepStrictEqual(
            less.said.handedOver.map(({ metrics, step }) => [step, metrics]),
            [[aligned + 2, aligned + 2]]
          )
          const whole = yield* runStage(nli, { dir: fresh(), params: more, ...all })
          const resume = { step: aligned + 2, dir: less.out.checkpoint, state: less.said.handedOver[0]!.state }
          const rest = yield* runStage(nli, { dir: fresh(), params: more, ...all, resume })
          assert.deepStrictEqual(
            [...timeless(less.said).slice(0, aligned + 2), ...timeless(rest.said)],
            timeless(whole.said)
          )
          assert.deepStrictEqual(weights(rest.out.classifier), weights(whole.out.classifier))
        }
        const linear = yield* runStage(nli, { dir: fresh(), params: few, inputs })
        assert.deepStrictEqual([linear.said.handedOver, readdirSync(linear.out.checkpoint)], [[], []])
      })
  )

  it.live(
    "0 steps pass a base through as it is and measure it; a base is trained without word dropout or alignment",
    () =>
      Effect.gen(function* () {
        const inputs = { pairs: yield* pairs }
        const base = (yield* runStage(nli, { dir: fresh(), params: { ...few, steps: 0 }, inputs })).out.classifier
        const same = yield* runStage(nli, { dir: fresh(), params: { ...few, steps: 0 }, inputs: { ...inputs, base } })
        assert.deepStrictEqual(weights(same.out.classifier), weights(base))
        assert.deepStrictEqual(
          same.said.metrics.map(({ step }) => step),
          [0]
        )
        const trained = yield* runStage(nli, { dir: fresh(), params: few, inputs: { ...inputs, base } })
        assert.deepStrictEqual(
          trained.said.metrics.map(({ step }) => step),
          [0, 1, 2, 3]
        )
        assert.notDeepEqual(weights(trained.out.classifier), weights(base))
      })
  )

  it.live("what is measured is held out", () =>
    Effect.gen(function* () {
      const rows = yield* rowsOf(NliPairs, yield* pairs)
      const dir = fresh()
      // What is held out carries words that nothing else has: they must not be in the vocabulary.
      const marked = rows.slice(0, 400).map((row, k) => (k < 40 ? { ...row, premise: `unheard ${row.premise}` } : row))
      yield* NliPairs.write(dir).write(marked)
      const { out } = yield* runStage(nli, { dir: fresh(), params: { ...few, heldOut: 0.1 }, inputs: { pairs: dir } })
      assert.notInclude(readFileSync(join(out.classifier, "tokenizer.json"), "utf8"), '"unheard"')
    })
  )

  it.live("a base with other classes is refused by their names, unless nothing is to be learnt", () =>
    Effect.gen(function* () {
      const inputs = { pairs: yield* pairs }
      const base = (yield* runStage(nli, { dir: fresh(), params: { ...few, steps: 0 }, inputs })).out.classifier
      const file = join(base, "config.json")
      writeFileSync(file, readFileSync(file, "utf8").replaceAll("neutral", "LABEL_1"))
      const error = yield* failStage(nli, { dir: fresh(), params: few, inputs: { ...inputs, base } })
      assert.deepInclude(error, { _tag: "OtherClasses" })
      assert.match(String((error as Error).message), /classes are \(entailment, LABEL_1, contradiction\); .* id2label/)
    })
  )
})
