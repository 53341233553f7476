/** Preference training measured on held-out pairs: what it measures, which policy is kept, and what it cannot measure by. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Preferences } from "../../src/artifact/kinds.ts"
import { preference } from "../../src/stages/preference.ts"
import { preferences } from "../../src/stages/preferences.ts"
import { freshFolder } from "../support/folders.ts"
import { attemptStage, failStage, rowsOf, runStage } from "../support/runStage.ts"
import { timeless, tinyPolicy, tinyWorld, warmPolicy } from "./ground.ts"
import { keepsBest, measured, weights } from "./keepsBest.ts"

const fresh = freshFolder("preference-keeping")

const ground = Effect.cached(
  Effect.gen(function* () {
    const { demonstrations, world } = yield* tinyWorld(fresh)
    const base = yield* tinyPolicy(fresh, world)
    const policy = yield* warmPolicy(fresh, base, demonstrations)
    const made = (params: object) =>
      Effect.map(
        runStage(preferences, { dir: fresh(), params: { from: "world", errorRate: 0, ...params }, inputs: { world } }),
        ({ out }) => out
      )
    const { pairs, ranked, unpaired } = yield* made({ pairs: 96 })
    const { pairs: fair } = yield* made({ pairs: 24, split: "development" })
    // Held-out pairs the wrong way round: the more is learnt, the worse.
    const contrary = fresh()
    const rows = yield* rowsOf(Preferences, pairs)
    yield* Preferences.write(contrary).write(
      rows.slice(0, 24).map((row) => ({ ...row, chosen: row.rejected, rejected: row.chosen }))
    )
    return { inputs: { policy, pairs, ranked, unpaired, positive: policy, negative: base }, contrary, fair }
  })
).pipe(Effect.runSync)

const params = { steps: 9, batchSize: 16, learningRate: 1e-3, evaluateEvery: 2 }
const best = { ...params, keepBest: "eval_rewards/margins" }

describe("preference, measured in training", () => {
  it.live("pairs of development situations are others than those of training", () =>
    Effect.gen(function* () {
      const { fair, inputs } = yield* ground
      const [train, held] = yield* Effect.all([rowsOf(Preferences, inputs.pairs), rowsOf(Preferences, fair)])
      const prompts = new Set(train.map(({ prompt }) => JSON.stringify(prompt)))
      assert.lengthOf(new Set(held.map(({ prompt }) => JSON.stringify(prompt))), 12)
      assert.isFalse(held.some(({ prompt }) => prompts.has(JSON.stringify(prompt))))
      assert.isFalse(held.some(({ id }) => train.some((row) => row.id === id)))
    })
  )

  it.live("every n steps and at the end, and training is the same without it", () =>
    Effect.gen(function* () {
      const { fair, inputs } = yield* ground
      const { out, said } = yield* runStage(preference, {
        dir: fresh(),
        inputs: { ...inputs, heldOut: fair },
        params,
        seed: 1
      })
      for (const name of ["eval_loss", "eval_rewards/accuracies", "eval_rewards/margins"]) {
        assert.deepStrictEqual(
          measured(said, name).map(([step]) => step),
          [1, 3, 5, 7, 8],
          name
        )
      }
      const without = { ...params, evaluateEvery: 0 }
      const plain = yield* runStage(preference, { dir: fresh(), inputs, params: without, seed: 1 })
      assert.deepStrictEqual(weights(out.policy), weights(plain.out.policy))
      const trained = timeless(said).filter(([, values]) => !Object.hasOwn(values as object, "eval_loss"))
      assert.deepStrictEqual(trained, timeless(plain.said))
      // Judged at its end alone it says the same of its end, and no loss.
      const { said: once } = yield* runStage(preference, {
        dir: fresh(),
        inputs: { ...inputs, heldOut: fair },
        params: without,
        seed: 1
      })
      assert.deepStrictEqual(measured(once, "eval_rewards/margins"), measured(said, "eval_rewards/margins").slice(-1))
      assert.lengthOf(measured(once, "eval_loss"), 0)
    })
  )

  it.live.each(["dpo", "simpo", "orpo", "tis-dpo"] as const)(
    "%s: the held-out loss is the loss of a step on the same pairs",
    (kind) =>
      Effect.gen(function* () {
        const { inputs } = yield* ground
        // One batch of all pairs, which nothing moves: the loss of the step and of the evaluation after it.
        const { said } = yield* runStage(preference, {
          dir: fresh(),
          inputs: { ...inputs, heldOut: inputs.pairs },
          params: { steps: 1, batchSize: 96, learningRate: 0, evaluateEvery: 1, loss: { kind } }
        })
        const [[, loss]] = measured(said, "loss") as [readonly [number, number]]
        assert.closeTo(measured(said, "eval_loss")[0]![1], loss, 1e-4)
      })
  )

  it.live("keeps the best policy of a run that gets worse, through an interruption and a longer run, bit for bit", () =>
    Effect.flatMap(ground, ({ contrary, inputs }) =>
      keepsBest(
        ({ held, ...how }) => {
          const given = { ...inputs, heldOut: held ? contrary : undefined }
          return attemptStage(preference, { dir: fresh(), inputs: given, seed: 1, ...how })
        },
        best,
        (value, than) => value > than
      )
    )
  )

  it.live("says before training what it cannot be measured on", () =>
    Effect.gen(function* () {
      const { fair, inputs } = yield* ground
      const fail = (asked: object, heldOut?: string) =>
        Effect.map(
          failStage(preference, { dir: fresh(), inputs: { ...inputs, heldOut }, params: asked }),
          (error) => (error as Error).message
        )
      assert.match(yield* fail(params), /^preference: `evaluateEvery: 2` asks for development data, and the pipeline/)
      const empty = fresh()
      yield* Preferences.write(empty).write([])
      assert.match(yield* fail(params, empty), /no rows; hold some out \(`heldOut`\)/)
      assert.match(
        yield* fail({ ...best, evaluateEvery: 0 }, fair),
        /^preference: preference\.keepBest: the best policy by eval_rewards\/margins is asked for, and nothing is measured/
      )
      assert.match(
        yield* fail({ ...params, keepBest: "eval_loss", loss: { kind: "kto" } }, fair),
        /^preference: preference\.keepBest: the loss `kto` learns from single judgements, and what is held out are pairs/
      )
      const same = fresh()
      const rows = yield* rowsOf(Preferences, fair)
      yield* Preferences.write(same).write(rows.map((row) => ({ ...row, rejected: row.chosen })))
      assert.match(yield* fail(params, same), /none of the pairs that are held out prefers a text to another/)
    })
  )
})
