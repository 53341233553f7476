/** Supervised fine-tuning as a stage: resumption to the last bit, 0 steps, a learning rate of 0, learning. */
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Schema } from "effect"
import { Demonstrations } from "../../src/artifact/kinds.ts"
import type { PromptCompletion } from "../../src/data/records.ts"
import { encodeParams } from "../../src/dsl/key.ts"
import { sft } from "../../src/stages/sft.ts"
import { freshFolder } from "../support/folders.ts"
import { attemptStage, failStage, rowsOf, runStage } from "../support/runStage.ts"
import { timeless, tinyPolicy, tinyWorld } from "./ground.ts"

const fresh = freshFolder("sft")
const weights = (dir: string) => readFileSync(join(dir, "model.safetensors"))

const ground = Effect.cached(
  Effect.gen(function* () {
    const { demonstrations, world } = yield* tinyWorld(fresh)
    return { policy: yield* tinyPolicy(fresh, world), data: demonstrations }
  })
).pipe(Effect.runSync)

const params = { steps: 6, batchSize: 16, learningRate: 5e-3, warmupSteps: 2 }

describe("sft", () => {
  it.live("6 steps are 3 steps, an interruption and the rest: weights and rows to the last bit", () =>
    Effect.gen(function* () {
      const inputs = yield* ground
      const whole = yield* runStage(sft, { dir: fresh(), inputs, params, seed: 4 })
      const first = yield* attemptStage(sft, { dir: fresh(), inputs, params, seed: 4, checkpointEvery: 3, breakAt: 3 })
      assert.isTrue(Exit.hasInterrupts(first.exit))
      assert.lengthOf(first.said.metrics, 3)
      const resume = first.said.checkpoints.at(-1)!
      const rest = yield* runStage(sft, { dir: fresh(), inputs, params, seed: 4, resume })
      assert.deepStrictEqual(weights(rest.out.policy), weights(whole.out.policy))
      assert.deepStrictEqual([...timeless(first.said), ...timeless(rest.said)], timeless(whole.said))
    })
  )

  it.live("more steps go on from the checkpoint of fewer, where the schedule is constant: to the last bit", () =>
    Effect.gen(function* () {
      const inputs = yield* ground
      const constant = { ...params, schedule: "constant" }
      const whole = yield* runStage(sft, { dir: fresh(), inputs, params: constant, seed: 4 })
      const less = yield* runStage(sft, { dir: fresh(), inputs, params: { ...constant, steps: 4 }, seed: 4 })
      assert.deepStrictEqual(less.said.handedOver, [{ step: 4, state: null, metrics: 4 }])
      const resume = { step: 4, dir: less.out.checkpoint, state: null }
      const rest = yield* runStage(sft, { dir: fresh(), inputs, params: constant, seed: 4, resume })
      assert.deepStrictEqual(weights(rest.out.policy), weights(whole.out.policy))
      assert.deepStrictEqual([...timeless(less.said), ...timeless(rest.said)], timeless(whole.said))
      // What a still longer run would take up is the same too, optimizer and all.
      const left = (dir: string) => readFileSync(join(dir, "trainer.safetensors"))
      assert.deepStrictEqual(left(rest.out.checkpoint), left(whole.out.checkpoint))
      assert.isNull(sft.grows!.unless(constant as never))
      // A schedule over all steps makes the first ones depend on the last.
      const cosine = yield* runStage(sft, { dir: fresh(), inputs, params: { ...params, steps: 2 }, seed: 4 })
      assert.deepStrictEqual([cosine.said.handedOver, readdirSync(cosine.out.checkpoint)], [[], []])
      assert.strictEqual(sft.grows!.unless({ schedule: "cosine" } as never), "the cosine schedule spans all steps")
    })
  )

  it.live("packed steps learn the same as unpacked ones, with less padding", () =>
    Effect.gen(function* () {
      const inputs = yield* ground
      const long = { ...params, steps: 30, batchSize: 32, learningRate: 1e-2 }
      const alone = yield* runStage(sft, { dir: fresh(), inputs, params: long, seed: 4 })
      const packed = yield* runStage(sft, { dir: fresh(), inputs, params: { ...long, packing: true }, seed: 4 })
      const of = (run: typeof alone, metric: string) => run.said.metrics.map(({ values }) => values[metric]!)
      // One step is the same but for rounding (test/models/packing.test.ts); over thirty of them rounding grows.
      of(packed, "loss").forEach((loss, k) => {
        assert.closeTo(loss, of(alone, "loss")[k]!, k === 0 ? 1e-5 : 1e-2)
      })
      assert.isAbove(of(packed, "loss")[0]!, 4)
      assert.isBelow(of(packed, "loss").at(-1)!, 2.8)
      const padding = (run: typeof alone) => of(run, "perf/padding").reduce((a, b) => a + b, 0) / long.steps
      assert.isBelow(padding(packed), padding(alone))
    })
  )

  it.live("packed steps too are interrupted and resumed to the last bit", () =>
    Effect.gen(function* () {
      const inputs = yield* ground
      const few = { ...params, packing: true }
      const whole = yield* runStage(sft, { dir: fresh(), inputs, params: few, seed: 4 })
      const first = yield* attemptStage(sft, {
        dir: fresh(),
        inputs,
        params: few,
        seed: 4,
        checkpointEvery: 3,
        breakAt: 3
      })
      const resume = first.said.checkpoints.at(-1)!
      const rest = yield* runStage(sft, { dir: fresh(), inputs, params: few, seed: 4, resume })
      assert.deepStrictEqual(weights(rest.out.policy), weights(whole.out.policy))
    })
  )

  it("packing that is off is no part of a task's parameters, so that keys are as they were", () => {
    const encoded = (given: unknown) => encodeParams(sft, Schema.decodeUnknownSync(sft.params)(given))
    assert.notProperty(encoded({}), "packing")
    assert.notProperty(encoded({}), "maxLength")
    assert.deepStrictEqual(encoded({ packing: false }), encoded({}))
    assert.propertyVal(encoded({ packing: true }), "packing", true)
  })

  it.live("0 steps and a learning rate of 0 pass the weights through, bit for bit; other seeds do not", () =>
    Effect.gen(function* () {
      const inputs = yield* ground
      const none = yield* runStage(sft, { dir: fresh(), inputs, params: { ...params, steps: 0 } })
      assert.deepStrictEqual(weights(none.out.policy), weights(inputs.policy))
      assert.lengthOf(none.said.metrics, 0)
      const still = yield* runStage(sft, { dir: fresh(), inputs, params: { ...params, learningRate: 0 } })
      assert.deepStrictEqual(weights(still.out.policy), weights(inputs.policy))
      assert.lengthOf(still.said.metrics, 6)
      const [a, b] = [
        yield* runStage(sft, { dir: fresh(), inputs, params: { ...params, steps: 2 }, seed: 0 }),
        yield* runStage(sft, { dir: fresh(), inputs, params: { ...params, steps: 2 }, seed: 1 })
      ]
      assert.notDeepEqual(weights(a.out.policy), weights(b.out.policy))
    })
  )

  it.live("learns, and counts its updates; every metric is one that the stage declares", () =>
    Effect.gen(function* () {
      const inputs = yield* ground
      const { said } = yield* runStage(sft, {
        dir: fresh(),
        inputs,
        params: { ...params, steps: 40, batchSize: 32, learningRate: 1e-2 }
      })
      const values = said.metrics.map((row) => row.values)
      assert.deepStrictEqual(
        values.map(({ updates }) => updates),
        values.map((_, k) => k + 1)
      )
      // From a guess among 200 words to the form of an answer.
      assert.isAbove(values[0]!["loss"]!, 4)
      assert.isBelow(values.at(-1)!["loss"]!, 2.5)
      // those of evaluations, and of devices that compile for sizes, apart
      const always = (record: object) =>
        Object.keys(record).filter((name) => !/^(eval|perf\/bucket_padding)\//.test(name))
      assert.sameMembers(always(values[0]!), always(sft.metrics))
    })
  )

  it.live("rows that are too long fail, or are skipped and counted; no rows are an error, but for 0 steps", () =>
    Effect.gen(function* () {
      const inputs = yield* ground
      const rows = yield* rowsOf(Demonstrations, inputs.data)
      const written = Effect.fnUntraced(function* (data: ReadonlyArray<PromptCompletion>) {
        const dir = fresh()
        yield* Demonstrations.write(dir).write(data)
        return { ...inputs, data: dir }
      })
      const [first] = rows
      const long = { ...first!, completion: Array.from({ length: 9 }, () => first!.completion).join("\n") }
      const mixed = yield* written([...rows, long])
      const error = yield* failStage(sft, { dir: fresh(), inputs: mixed, params })
      assert.match((error as Error).message, /^a text of \d+ tokens does not fit/)
      const skip = { ...params, tooLong: "skip" }
      const { said } = yield* runStage(sft, { dir: fresh(), inputs: mixed, params: skip })
      assert.strictEqual(said.metrics[0]!.values["sft/skipped"], 1)
      // maxLength is a shorter limit, packing or not; rows are not cut to it
      const lengths = { ...params, steps: 1, maxLength: 40 }
      for (const packing of [false, true]) {
        const over = yield* failStage(sft, { dir: fresh(), inputs, params: { ...lengths, packing } })
        assert.match(
          (over as Error).message,
          /^a text of \d+ tokens does not fit the 40 of maxLength: .*raise maxLength$/
        )
        const left = yield* runStage(sft, { dir: fresh(), inputs, params: { ...lengths, packing, tooLong: "skip" } })
        const skipped = left.said.metrics[0]!.values["sft/skipped"]!
        assert.isTrue(skipped > 0 && skipped < rows.length, `${skipped} of ${rows.length}`)
      }
      const none = yield* failStage(sft, { dir: fresh(), inputs: yield* written([long]), params: skip })
      assert.match((none as Error).message, /^sft: none of 1 rows fits/)
      const empty = yield* written([])
      assert.match(((yield* failStage(sft, { dir: fresh(), inputs: empty, params })) as Error).message, /has no rows/)
      yield* runStage(sft, { dir: fresh(), inputs: empty, params: { ...params, steps: 0 } })
    })
  )

  it.live("a learning rate that is far too large ends in NotFinite with step and checkpoint", () =>
    Effect.gen(function* () {
      const inputs = yield* ground
      const error = yield* failStage(sft, {
        dir: fresh(),
        inputs,
        params: { ...params, steps: 20, learningRate: 1e30, warmupSteps: 0, schedule: "constant" },
        checkpointEvery: 1
      })
      assert.deepInclude(error, { _tag: "NotFinite", stage: "sft" })
      const { checkpoint, message, step } = error as { checkpoint: number; message: string; step: number }
      assert.strictEqual(checkpoint, step)
      assert.match(message, /^sft: the .* of policy\.sft.* is (NaN|Infinity) at step \d+; the last good checkpoint/)
    })
  )
})
