/**
 * Evaluation during training: what it measures, that it disturbs nothing, and which policy is kept; through interruptions
 * and longer runs to the last bit.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Demonstrations } from "../../src/artifact/kinds.ts"
import { sft } from "../../src/stages/sft.ts"
import { freshFolder } from "../support/folders.ts"
import { attemptStage, failStage, rowsOf, runStage } from "../support/runStage.ts"
import { timeless, tinyPolicy, tinyWorld } from "./ground.ts"
import { keepsBest, measured, weights } from "./keepsBest.ts"

const fresh = freshFolder("keeping")

const ground = Effect.cached(
  Effect.gen(function* () {
    const made = yield* tinyWorld(fresh)
    const policy = yield* tinyPolicy(fresh, made.world)
    // Held-out answers that say their prompt again: what is learnt of answers makes them ever less likely.
    const development = fresh()
    const rows = yield* rowsOf(Demonstrations, made.developmentDemonstrations)
    yield* Demonstrations.write(development).write(rows.map((row) => ({ ...row, completion: String(row.prompt) })))
    return { policy, data: made.demonstrations, development, fair: made.developmentDemonstrations }
  })
).pipe(Effect.runSync)

const params = { steps: 9, batchSize: 16, learningRate: 1e-2, schedule: "constant", evaluateEvery: 2 }
const best = { ...params, keepBest: "eval/loss" }

describe("evaluation during training", () => {
  it.live("measures the held-out loss every n steps and at the end, and training is the same without it", () =>
    Effect.gen(function* () {
      const { data, fair, policy } = yield* ground
      const inputs = { policy, data, development: fair }
      const { out, said } = yield* runStage(sft, { dir: fresh(), inputs, params, seed: 1 })
      const losses = measured(said, "eval/loss")
      assert.deepStrictEqual(
        losses.map(([step]) => step),
        [1, 3, 5, 7, 8]
      )
      assert.isBelow(losses.at(-1)![1], losses[0]![1])
      const without = { ...params, evaluateEvery: 0 }
      const plain = yield* runStage(sft, { dir: fresh(), inputs: { policy, data }, params: without, seed: 1 })
      assert.deepStrictEqual(weights(out.policy), weights(plain.out.policy))
      const trained = timeless(said).filter(([, values]) => !Object.hasOwn(values as object, "eval/loss"))
      assert.deepStrictEqual(trained, timeless(plain.said))
      // A step with learning rate 0 on the same rows in one batch has the loss of those rows.
      const again = yield* runStage(sft, {
        dir: fresh(),
        inputs: { policy: out.policy, data: fair },
        params: { steps: 1, batchSize: 1000, learningRate: 0 }
      })
      assert.closeTo(again.said.metrics[0]!.values["loss"]!, losses.at(-1)![1], 1e-5)
    })
  )

  it.live("keeps the best policy of a run that gets worse, through an interruption and a longer run, bit for bit", () =>
    Effect.flatMap(ground, ({ data, development, policy }) =>
      keepsBest(
        ({ held, ...how }) => {
          const inputs = { policy, data, development: held ? development : undefined }
          return attemptStage(sft, { dir: fresh(), inputs, seed: 1, ...how })
        },
        best,
        (value, than) => value < than
      )
    )
  )

  it.live("needs data, and something to go by", () =>
    Effect.gen(function* () {
      const { data, policy } = yield* ground
      const none = yield* failStage(sft, { dir: fresh(), inputs: { policy, data }, params })
      assert.match((none as Error).message, /^sft: `evaluateEvery: 2` asks for development data, and the pipeline/)
      const empty = fresh()
      yield* Demonstrations.write(empty).write([])
      const inputs = { policy, data, development: empty }
      assert.match(
        ((yield* failStage(sft, { dir: fresh(), inputs, params })) as Error).message,
        /no rows; hold some out/
      )
      const blind = { ...best, evaluateEvery: 0 }
      const error = yield* failStage(sft, { dir: fresh(), inputs, params: blind })
      assert.match(
        (error as Error).message,
        /^sft: the best policy by eval\/loss is asked for, and nothing is measured/
      )
    })
  )
})
