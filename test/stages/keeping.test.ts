/**
 * Evaluation during training: what it measures, that it disturbs nothing, and which policy is kept; through interruptions
 * and longer runs to the last bit.
 */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit } from "effect"
import { Demonstrations } from "../../src/artifact/kinds.ts"
import { sft } from "../../src/stages/sft.ts"
import { freshFolder } from "../support/folders.ts"
import type { Said } from "../support/memoryTask.ts"
import { attemptStage, failStage, rowsOf, runStage } from "../support/runStage.ts"
import { timeless, tinyPolicy, tinyWorld } from "./ground.ts"

const fresh = freshFolder("keeping")
const weights = (dir: string) => readFileSync(join(dir, "model.safetensors"))
const measured = ({ metrics }: Said, name: string) =>
  metrics.flatMap(({ step, values }) => (values[name] === undefined ? [] : [[step, values[name]] as const]))

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

  it.live("keeps the best policy: the one that a run of so many steps ends with", () =>
    Effect.gen(function* () {
      const { data, development, policy } = yield* ground
      const inputs = { policy, data, development }
      const { out, said } = yield* runStage(sft, { dir: fresh(), inputs, params: best, seed: 1 })
      const losses = measured(said, "eval/loss")
      const [step] = losses.reduce((a, b) => (b[1] < a[1] ? b : a))
      assert.isBelow(step, 8)
      assert.deepStrictEqual(measured(said, "eval/kept_step"), [[8, step]])
      const shorter = yield* runStage(sft, {
        dir: fresh(),
        inputs: { policy, data },
        params: { ...params, steps: step + 1, evaluateEvery: 0 },
        seed: 1
      })
      assert.deepStrictEqual(weights(out.policy), weights(shorter.out.policy))
    })
  )

  it.live("keeps it through an interruption and through a longer run, bit for bit", () =>
    Effect.gen(function* () {
      const { data, development, policy } = yield* ground
      const inputs = { policy, data, development }
      const whole = yield* runStage(sft, { dir: fresh(), inputs, params: best, seed: 1 })
      const first = yield* attemptStage(sft, {
        dir: fresh(),
        inputs,
        params: best,
        seed: 1,
        checkpointEvery: 1,
        breakAt: 7
      })
      assert.isTrue(Exit.hasInterrupts(first.exit))
      const resume = first.said.checkpoints.at(-1)!
      const rest = yield* runStage(sft, { dir: fresh(), inputs, params: best, seed: 1, resume })
      assert.deepStrictEqual([...timeless(first.said), ...timeless(rest.said)], timeless(whole.said))
      assert.deepStrictEqual(weights(rest.out.policy), weights(whole.out.policy))

      // 7 is no multiple of 2: the shorter run measures its end and says what it kept, and hands neither on.
      const less = yield* runStage(sft, { dir: fresh(), inputs, params: { ...best, steps: 7 }, seed: 1 })
      const [given] = less.said.handedOver
      assert.strictEqual(less.said.metrics.length - given!.metrics, 2)
      const longer = yield* runStage(sft, {
        dir: fresh(),
        inputs,
        params: best,
        seed: 1,
        resume: { step: 7, dir: less.out.checkpoint, state: given!.state }
      })
      const inherited = timeless(less.said).slice(0, given!.metrics)
      assert.deepStrictEqual([...inherited, ...timeless(longer.said)], timeless(whole.said))
      assert.deepStrictEqual(weights(longer.out.policy), weights(whole.out.policy))
      const left = (dir: string) => weights(join(dir, "best"))
      assert.deepStrictEqual(left(longer.out.checkpoint), left(whole.out.checkpoint))
    })
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
