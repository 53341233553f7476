/** The loop of all training stages, without a model: what it journals, where it stops, what it takes up. */
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, it } from "@effect/vitest"
import { Cause, Effect, Exit } from "effect"
import { Device } from "../../src/device/Device.ts"
import { OnnxCpu } from "../../src/device/onnx/OnnxCpu.ts"
import { Task } from "../../src/dsl/Task.ts"
import { BadRequest, fail, type ModelError, NonFinite } from "../../src/models/ModelError.ts"
import { runSteps, type Steps } from "../../src/stages/steps.ts"
import { freshFolder } from "../support/folders.ts"
import { memoryTask } from "../support/memoryTask.ts"

const fresh = freshFolder("steps")

/** A "model" of one number: step k doubles it and adds k. The file beside a checkpoint is all that is left of it. */
const model = () => {
  let value = 1
  const told: Array<unknown> = []
  const steps: Omit<Steps<never, never>, "total"> = {
    restore: (dir, state) =>
      Effect.sync(() => {
        told.push(state)
        value = Number(readFileSync(join(dir, "value"), "utf8"))
      }),
    save: (dir) => Effect.sync(() => writeFileSync(join(dir, "value"), String(value))),
    step: (k) => Effect.sync(() => ({ loss: (value = 2 * value + k), tokens: 10 }))
  }
  return { steps, told, value: () => value }
}

/** The error that a run failed with. */
const errorOf = <E>(exit: Exit.Exit<void, E>): E | undefined =>
  Exit.isFailure(exit) ? exit.cause.reasons.find(Cause.isFailReason)?.error : undefined

const run = <E>(options: Steps<E, Task>, more: Omit<Parameters<typeof memoryTask>[0], "dir"> = {}) => {
  const { said, task } = memoryTask({ dir: fresh(), stage: "toy", ...more })
  return Effect.map(Effect.exit(Effect.provideService(runSteps(options), Task, task)), (exit) => ({ exit, said }))
}

it.live("N steps are k steps, an interruption and the rest, whatever k", () =>
  Effect.gen(function* () {
    const whole = model()
    yield* run({ ...whole.steps, total: 9 })
    for (const breakAt of [1, 4, 8]) {
      const before = model()
      const first = yield* run(
        { ...before.steps, total: 9, state: () => ({ breakAt }) },
        { checkpointEvery: 1, breakAt }
      )
      assert.isTrue(Exit.hasInterrupts(first.exit))
      const after = model()
      const rest = yield* run({ ...after.steps, total: 9 }, { resume: first.said.checkpoints.at(-1)! })
      assert.isTrue(Exit.isSuccess(rest.exit))
      assert.strictEqual(after.value(), whole.value())
      assert.deepStrictEqual(after.told, [{ breakAt }])
      const steps = [...first.said.metrics, ...rest.said.metrics].map(({ step }) => step)
      assert.deepStrictEqual(steps, [0, 1, 2, 3, 4, 5, 6, 7, 8])
    }
  })
)

it.live("says of each step what only filled up, on a device that compiles for sizes", () =>
  Effect.gen(function* () {
    const device = yield* Device
    let wanted = 100
    let computed = 100
    const counting = {
      ...device,
      stats: Effect.map(device.stats, (stats) => ({ ...stats, tokenElements: { wanted, computed } }))
    }
    // 5 of 10 more elements are asked for, 5 of 20, and none
    const step = (k: number) =>
      Effect.sync(() => {
        if (k < 2) [wanted, computed] = [wanted + 5, computed + 10 * (k + 1)]
        return { loss: 1 }
      })
    const { said } = yield* run({ ...model().steps, total: 3, step }).pipe(Effect.provideService(Device, counting))
    assert.deepStrictEqual(
      said.metrics.map(({ values }) => values["perf/bucket_padding/tokens"]),
      [0.5, 0.75, undefined]
    )
  }).pipe(Effect.provide(OnnxCpu.layer({ threads: 1 })), Effect.scoped)
)

it.live("journals every step's metrics with its rates, and says how far it is", () =>
  Effect.gen(function* () {
    const { said } = yield* run({ ...model().steps, total: 3 }, { checkpointEvery: 1 })
    // 2 * 1 + 0, 2 * 2 + 1, 2 * 5 + 2
    assert.deepStrictEqual(
      said.metrics.map(({ values }) => values["loss"]),
      [2, 5, 12]
    )
    for (const { values } of said.metrics) {
      assert.hasAllKeys(values, ["loss", "perf/tokens_per_second", "perf/step_seconds"])
    }
    assert.deepStrictEqual(
      said.progress.map(({ of, step }) => [step, of]),
      [
        [0, 3],
        [1, 3],
        [2, 3],
        [3, 3]
      ]
    )
    // After the last step there is nothing to go on with.
    assert.deepStrictEqual(
      said.checkpoints.map(({ step }) => step),
      [1, 2]
    )
  })
)

it.live("leaves its last state to a longer run, measures every so many steps, and at the end for itself alone", () =>
  Effect.gen(function* () {
    const final = fresh()
    const one = model()
    const measured: Array<number> = []
    const evaluate = {
      every: 2,
      measure: (k: number) => Effect.sync(() => ({ "eval/value": measured.push(k) && one.value() }))
    }
    const state = () => ({ seen: measured.length })
    const { said } = yield* run({ ...one.steps, total: 5, final, state, evaluate }, { checkpointEvery: 1 })
    const rows = said.metrics.flatMap(({ step, values }) => (Object.keys(values)[0] === "eval/value" ? [step] : []))
    assert.deepStrictEqual(
      [rows, measured],
      [
        [1, 3, 4],
        [1, 3, 4]
      ]
    )
    // Five rows of steps and two evaluations go with it; that of the end does not.
    assert.deepStrictEqual(said.handedOver, [{ step: 5, state: { seen: 2 }, metrics: 7 }])
    assert.strictEqual(readFileSync(join(final, "value"), "utf8"), String(one.value()))
    // A checkpoint after step 2 knows the evaluation of that step.
    assert.deepStrictEqual(said.checkpoints[1]?.state, { seen: 1 })
    const even = model()
    measured.length = 0
    yield* run({ ...even.steps, total: 4, evaluate })
    assert.deepStrictEqual(measured, [1, 3])
  })
)

it.live("0 steps do nothing but say so", () =>
  Effect.gen(function* () {
    const { exit, said } = yield* run({ ...model().steps, total: 0 })
    assert.isTrue(Exit.isSuccess(exit))
    assert.deepStrictEqual(said.metrics, [])
    assert.deepStrictEqual(said.progress, [{ step: 0, of: 0 }])
  })
)

it.live(
  "a loss that is no number fails with the step, the value and the last good checkpoint, and is not journaled",
  () =>
    Effect.gen(function* () {
      const broken: Steps<never, never> = {
        ...model().steps,
        total: 9,
        step: (k) => Effect.succeed({ loss: k === 5 ? Number.NaN : 1, grad_norm: 1 })
      }
      const { exit, said } = yield* run(broken, { checkpointEvery: 2 })
      const found = errorOf(exit)!
      assert.deepInclude(found, {
        _tag: "NotFinite",
        stage: "toy",
        step: 5,
        metric: "loss",
        value: "NaN",
        checkpoint: 4
      })
      assert.match(found.message, /^toy: loss is NaN at step 5; the last good checkpoint is at step 4\. Lower the/)
      assert.strictEqual(said.metrics.at(-1)!.step, 4)
      assert.deepStrictEqual(said.events, [{ name: "not-finite", detail: { step: 5, metric: "loss", value: "NaN" } }])

      const early = yield* run({
        ...broken,
        finite: ["grad_norm"],
        step: () => Effect.succeed({ grad_norm: Infinity })
      })
      const first = errorOf(early.exit)!
      assert.deepInclude(first, { step: 0, metric: "grad_norm", value: "Infinity", checkpoint: null })
      assert.match(first.message, /there is no checkpoint yet/)
    })
)

it.live("what a model itself finds not to be finite fails alike; its other errors pass as they are", () =>
  Effect.gen(function* () {
    const failing = (error: ModelError): Steps<ModelError, never> => ({
      ...model().steps,
      total: 9,
      step: (k) => (k === 3 ? Effect.fail(error) : Effect.succeed({ loss: 1 }))
    })
    const what = "the gradient norm of policy.sft"
    const nan = yield* run(failing(fail(new NonFinite({ what, value: "NaN", where: "update 7" }))), {
      checkpointEvery: 1
    })
    assert.deepInclude(errorOf(nan.exit), { _tag: "NotFinite", stage: "toy", step: 3, metric: what, checkpoint: 3 })
    assert.strictEqual(nan.said.events[0]?.name, "not-finite")

    const other = fail(new BadRequest({ detail: "an empty batch" }))
    const { exit } = yield* run(failing(other))
    assert.strictEqual(errorOf(exit), other)
  })
)
