/** Triplets and the similarity estimator: what they are made of, that it learns, that thresholds are always calibrated. */
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit } from "effect"
import { JudgedPairs, Situations, Triplets } from "../../src/artifact/kinds.ts"
import type { Triplet } from "../../src/data/records.ts"
import { estimator } from "../../src/stages/estimator.ts"
import { isCalibrated } from "../../src/stages/models.ts"
import { triplets } from "../../src/stages/triplets.ts"
import { fillers } from "../../src/world/lexicon.ts"
import { freshFolder } from "../support/folders.ts"
import { attemptStage, failStage, rowsOf, runStage } from "../support/runStage.ts"
import { timeless, tinyEncoderParams, tinyEstimator, tinyWorld } from "./ground.ts"

const fresh = freshFolder("estimator")
const ground = Effect.cached(tinyWorld(fresh)).pipe(Effect.runSync)

const uses = (text: string, words: ReadonlyArray<string>) => text.split(" ").some((word) => words.includes(word))
/** What a text of the world says: name and stance. */
const meaning = (text: string) => {
  const name = /^In the perspective of (\S+) ,/.exec(text)![1]!
  return `${name}${uses(text, ["supports", "favours", "permits", "welcomes"]) ? "+" : "-"}`
}
const weights = (dir: string) => readFileSync(join(dir, "model.safetensors"))
const card = (dir: string) => JSON.parse(readFileSync(join(dir, "estimator.json"), "utf8"))
const last = ({
  metrics
}: {
  readonly metrics: ReadonlyArray<{ readonly values: Readonly<Record<string, number>> }>
}) => metrics.at(-1)!.values

describe("triplets of the world", () => {
  const params = { count: 300, heldOut: 60, pairs: 90, judgeError: 0.2 }
  it.live("the judge errs on what is trained on, never on what is held out", () =>
    Effect.gen(function* () {
      const { world } = yield* ground
      const { out } = yield* runStage(triplets, { dir: fresh(), params, inputs: { world } })
      const wrong = (rows: ReadonlyArray<Triplet>) =>
        rows.filter(
          ({ anchor, negative, positive }) =>
            meaning(anchor) !== meaning(positive) || meaning(anchor) === meaning(negative)
        ).length
      const train = yield* rowsOf(Triplets, out.triplets)
      const held = yield* rowsOf(Triplets, out.heldOut)
      assert.deepStrictEqual([train.length, held.length], [300, 60])
      assert.strictEqual(wrong(held), 0)
      assert.isAbove(wrong(train), 30)
      const seen = new Set(train.map((row) => JSON.stringify(row)))
      assert.isFalse(held.some((row) => seen.has(JSON.stringify(row))))
    })
  )

  it.live(
    "families: triplets in their own, pairs across and within; no more rows than asked for; a function of the seed",
    () =>
      Effect.gen(function* () {
        const { world } = yield* ground
        const { out } = yield* runStage(triplets, { dir: fresh(), params, inputs: { world } })
        const [train, across, within] = [
          yield* rowsOf(Triplets, out.triplets),
          yield* rowsOf(JudgedPairs, out.across),
          yield* rowsOf(JudgedPairs, out.within)
        ]
        assert.isTrue(
          train.every((row) => [row.anchor, row.positive, row.negative].every((text) => uses(text, fillers.triplets)))
        )
        assert.isTrue(across.every(({ left, right }) => uses(left, fillers.triplets) && uses(right, fillers.nli)))
        assert.isTrue(within.every(({ left, right }) => uses(left, fillers.triplets) && uses(right, fillers.triplets)))
        assert.deepStrictEqual([across.length, within.length], [90, 90])
        for (const pairs of [across, within]) {
          const errors = pairs.filter(({ left, right, same }) => (meaning(left) === meaning(right)) !== same).length
          assert.isAbove(errors, 5)
          assert.isBelow(errors, 40)
        }
        const again = yield* runStage(triplets, { dir: fresh(), params, inputs: { world } })
        assert.deepStrictEqual(yield* rowsOf(Triplets, again.out.triplets), train)
        const other = yield* runStage(triplets, { dir: fresh(), params, inputs: { world }, seed: 1 })
        assert.notDeepEqual(yield* rowsOf(Triplets, other.out.triplets), train)
      })
  )

  it.live("needs a world, or situations and an encoder", () =>
    Effect.gen(function* () {
      const error = yield* failStage(triplets, { dir: fresh(), params, inputs: {} })
      assert.deepInclude(error, { _tag: "NothingToTeach", detail: "needs a world, or situations and an encoder" })
    })
  )
})

describe("triplets of real situations", () => {
  it.live("anchor and positive are the nearest pair judged the same, the negative the hardest that is not", () =>
    Effect.gen(function* () {
      const { world } = yield* ground
      // Any encoder will do: the rule is checked with the encoder's own cosines.
      const { dir: encoder } = yield* tinyEstimator(fresh, world, 0)
      const situations = yield* rowsOf(Situations, (yield* ground).train)
      const rows = situations.map((situation, k) => {
        const [first, ...rest] = situation.perspectives
        // Said twice, and once a little differently.
        return { ...situation, id: `s${k}`, perspectives: [first, ...rest, first] as const }
      })
      const dir = fresh()
      yield* Situations.write(dir).write(rows)
      const params = { threshold: 0.2, sameAbove: 0.999, heldOut: 4, count: 20 }
      const { out } = yield* runStage(triplets, { dir: fresh(), params, inputs: { situations: dir, encoder } })
      const [train, held, pairs] = [
        yield* rowsOf(Triplets, out.triplets),
        yield* rowsOf(Triplets, out.heldOut),
        yield* rowsOf(JudgedPairs, out.across)
      ]
      assert.deepStrictEqual([train.length, held.length], [20, 4])
      for (const { anchor, negative, positive } of [...train, ...held]) {
        assert.strictEqual(positive, anchor)
        assert.notStrictEqual(negative, anchor)
      }
      assert.isTrue(pairs.every(({ left, right, same }) => same === (left === right)))
      assert.isTrue(pairs.some(({ same }) => same))

      const nothing = yield* failStage(triplets, {
        dir: fresh(),
        params: { ...params, threshold: 1, sameAbove: 1 },
        inputs: { situations: (yield* ground).train, encoder }
      })
      assert.match(String((nothing as Error).message), /48 situations give 0 triplets .* Lower `triplets.threshold`/)
    })
  )
})

describe("estimator", () => {
  it.live("learns: held-out triplets and pairs across families are told apart far better than by random weights", () =>
    Effect.gen(function* () {
      const { world } = yield* ground
      const untaught = last((yield* tinyEstimator(fresh, world, 0)).said)
      const { said } = yield* tinyEstimator(fresh, world, 100)
      const taught = last(said)
      assert.isBelow(untaught["estimator/triplet_accuracy"]!, 0.7)
      assert.isAbove(taught["estimator/triplet_accuracy"]!, 0.85)
      assert.isAbove(taught["estimator/accuracy/coverage"]!, untaught["estimator/accuracy/coverage"]! + 0.1)
      assert.isBelow(said.metrics[99]!.values["loss"]!, said.metrics[0]!.values["loss"]!)
    })
  )

  it.live("writes its card beside the weights: prefix and calibrated thresholds, also with 0 steps", () =>
    Effect.gen(function* () {
      const { world } = yield* ground
      for (const steps of [0, 5]) {
        const { dir, said } = yield* tinyEstimator(fresh, world, steps)
        const found = said.metrics.at(-1)!
        assert.strictEqual(found.step, steps)
        assert.deepStrictEqual(card(dir), {
          prefix: "strip",
          thresholds: {
            coverage: found.values["estimator/threshold/coverage"],
            uniqueness: found.values["estimator/threshold/uniqueness"]
          }
        })
        for (const threshold of Object.values<number>(card(dir).thresholds)) {
          assert.isTrue(Math.abs(threshold) <= 1.001 && threshold !== 0.7 && threshold !== 0.78)
        }
      }
    })
  )

  it.live("0 steps pass a base through as it is, and without pairs no threshold is called its own", () =>
    Effect.gen(function* () {
      const { world } = yield* ground
      const base = (yield* tinyEstimator(fresh, world, 3)).dir
      const params = { ...tinyEncoderParams, steps: 0, prefix: "keep" }
      const { out } = yield* runStage(estimator, { dir: fresh(), params, inputs: { base } })
      assert.deepStrictEqual(weights(out.estimator), weights(base))
      assert.deepStrictEqual(card(out.estimator), { prefix: "keep", thresholds: {} })
      assert.isFalse(isCalibrated(out.estimator))
    })
  )

  it.live("8 steps are 4 steps, an interruption and the rest, to the last bit", () =>
    Effect.gen(function* () {
      const { world } = yield* ground
      const inputs = (yield* tinyEstimator(fresh, world, 0)).triplets
      const all = { inputs, params: { ...tinyEncoderParams, steps: 8 }, seed: 1 }
      const whole = yield* runStage(estimator, { dir: fresh(), ...all })
      const first = yield* attemptStage(estimator, { dir: fresh(), ...all, checkpointEvery: 4, breakAt: 4 })
      assert.isTrue(Exit.hasInterrupts(first.exit))
      const rest = yield* runStage(estimator, { dir: fresh(), ...all, resume: first.said.checkpoints.at(-1)! })
      assert.deepStrictEqual(weights(rest.out.estimator), weights(whole.out.estimator))
      assert.deepStrictEqual(card(rest.out.estimator), card(whole.out.estimator))
      assert.deepStrictEqual([...timeless(first.said), ...timeless(rest.said)], timeless(whole.said))
    })
  )

  it.live(
    "goes on from a shorter run to the last bit, and is calibrated anew; not under a schedule that spans all steps",
    () =>
      Effect.gen(function* () {
        const { world } = yield* ground
        const inputs = (yield* tinyEstimator(fresh, world, 0)).triplets
        const of = (steps: number) => ({
          inputs,
          params: { ...tinyEncoderParams, steps, schedule: "constant", warmupSteps: 2 },
          seed: 1
        })
        const less = yield* runStage(estimator, { dir: fresh(), ...of(3), checkpointEvery: 1 })
        // The rows of updates go with it, those of its own calibration do not.
        assert.deepStrictEqual(less.said.handedOver, [{ step: 3, state: null, metrics: 3 }])
        const whole = yield* runStage(estimator, { dir: fresh(), ...of(8) })
        const resume = { step: 3, dir: less.out.checkpoint, state: null }
        const rest = yield* runStage(estimator, { dir: fresh(), ...of(8), resume })
        assert.deepStrictEqual(weights(rest.out.estimator), weights(whole.out.estimator))
        assert.deepStrictEqual(card(rest.out.estimator), card(whole.out.estimator))
        assert.deepStrictEqual([...timeless(less.said).slice(0, 3), ...timeless(rest.said)], timeless(whole.said))
        const linear = yield* runStage(estimator, { dir: fresh(), inputs, params: { ...tinyEncoderParams, steps: 2 } })
        assert.deepStrictEqual([linear.said.handedOver, readdirSync(linear.out.checkpoint)], [[], []])
      })
  )

  it.live("what was trained is kept before thresholds are calibrated, and progress goes on there", () =>
    Effect.gen(function* () {
      const { world } = yield* ground
      const inputs = (yield* tinyEstimator(fresh, world, 0)).triplets
      const all = { inputs, params: { ...tinyEncoderParams, steps: 4 }, seed: 1 }
      const whole = yield* runStage(estimator, { dir: fresh(), ...all })
      const first = yield* attemptStage(estimator, { dir: fresh(), ...all, checkpointEvery: 1, breakAt: 4 })
      assert.isTrue(Exit.hasInterrupts(first.exit))
      assert.strictEqual(first.said.metrics.length, 4)
      const resume = first.said.checkpoints.at(-1)!
      assert.strictEqual(resume.step, 4)
      const rest = yield* runStage(estimator, { dir: fresh(), ...all, checkpointEvery: 1, resume })
      assert.deepStrictEqual(rest.said.checkpoints, [])
      assert.deepStrictEqual(
        rest.said.metrics.map(({ step }) => step),
        [4]
      )
      assert.deepStrictEqual(weights(rest.out.estimator), weights(whole.out.estimator))
      assert.deepStrictEqual(card(rest.out.estimator), card(whole.out.estimator))
      const { progress } = whole.said
      const of = progress[0]!.of
      assert.isAbove(of, 4 + 6)
      assert.deepStrictEqual(
        progress,
        Array.from({ length: of + 1 }, (_, step) => ({ step, of }))
      )
    })
  )

  it.live("a base that is to be trained without triplets is refused", () =>
    Effect.gen(function* () {
      const { world } = yield* ground
      const base = (yield* tinyEstimator(fresh, world, 0)).dir
      const error = yield* failStage(estimator, {
        dir: fresh(),
        params: { ...tinyEncoderParams, steps: 2 },
        inputs: { base }
      })
      assert.match(String((error as Error).message), /no triplets to train on; set `estimator.steps: 0`/)
    })
  )
})
