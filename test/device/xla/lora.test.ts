/** A policy with an adapter on XLA and on onnxruntime: losses, samples, what is merged; the model's weights stay as they are. */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { FileSystem } from "effect/FileSystem"
import { Device } from "../../../src/device/Device.ts"
import { parseMesh } from "../../../src/device/mesh.ts"
import { OnnxCpu } from "../../../src/device/onnx/OnnxCpu.ts"
import { cpuPlugin } from "../../../src/device/xla/plugins.ts"
import { XlaDevice } from "../../../src/device/xla/XlaDevice.ts"
import * as Policy from "../../../src/models/Policy.ts"
import { samplingDifference } from "../../../src/models/samplingDifference.ts"
import { grpo } from "../../../src/objectives/grpo.ts"
import { sft } from "../../../src/objectives/sft.ts"
import { tinyPolicy } from "../../models/tinyPolicy.ts"
import { absent, titled, xlaCpu } from "./support.ts"

const rows = [
  ["The farmer", "sells well"],
  ["farmer sells well because", "In the perspective of Duty, because of Care\n"],
  ["Duty", "Care"],
  ["sells of", "<summary>Justice</summary>"]
] as const

const flat = (scores: ReadonlyArray<Policy.TokenScores>) => scores.flatMap(({ logprobs }) => [...logprobs])

const run = Effect.gen(function* () {
  const device = yield* Device
  const fs = yield* FileSystem
  const folder = yield* fs.makeTempDirectoryScoped()
  yield* (yield* tinyPolicy(1, {}, { layers: 1 })).save(folder)
  const lora = { rank: 4, alpha: 8, rslora: false, seed: 3 }
  const policy = yield* Policy.load(folder, { lora: { ...lora, dropout: 0.1, targets: "all-linear" } })
  const sequences = yield* Effect.forEach(rows, ([prompt, answer]) => policy.sequence(prompt, answer))
  const before = flat(yield* policy.logprobs(sequences))
  const bits = yield* Effect.forEach([...policy.weights.values()], (tensor) => device.read(tensor))
  const trainer = yield* policy.trainer(sft(), { learningRate: 1e-2 }, { microBatchTokens: 40, dropoutSeed: 5 })
  const losses: Array<number> = []
  for (let i = 0; i < 5; i++) losses.push((yield* trainer.update({ sequences })).metrics["loss"]!)
  assert.deepStrictEqual(yield* Effect.forEach([...policy.weights.values()], (tensor) => device.read(tensor)), bits)
  assert.deepStrictEqual(flat(yield* policy.logprobs(sequences, { adapter: null })), before)
  const found = yield* policy.generate(
    rows.map(([prompt], i) => ({ promptId: String(i), prompt })),
    { seed: 0, purpose: "test", maxNewTokens: 12, samples: 2 }
  )
  const answers = found.map(({ ids, prompt }) => ({ prompt, completion: ids }))
  const { max } = samplingDifference(
    found.map(({ logprobs }) => logprobs),
    (yield* policy.logprobs(answers)).map(({ logprobs }) => logprobs)
  )
  const learner = yield* policy.trainer(grpo(), { learningRate: 1e-3 })
  const { metrics } = yield* learner.update({
    sequences: answers,
    inputs: { advantages: answers.map((_, i) => (i % 2) - 0.5) }
  })
  const scores = flat(yield* policy.logprobs(sequences))
  const out = yield* fs.makeTempDirectoryScoped()
  yield* policy.save(out)
  const merged = flat(yield* (yield* Policy.load(out, { lora: null })).logprobs(sequences))
  const other = yield* Policy.load(out, { lora: { ...lora, rank: 2, dropout: 0, targets: ["q_proj", "v_proj"] } })
  const partial = yield* (yield* other.trainer(sft(), { learningRate: 1e-2 })).update({ sequences })
  return {
    losses,
    max,
    ids: found.map(({ ids }) => [...ids]),
    norm: metrics["grad_norm"]!,
    scores,
    merged,
    partial: partial.metrics["grad_norm"]!
  }
}).pipe(Effect.scoped)

const near = (a: ReadonlyArray<number>, b: ReadonlyArray<number>, tolerance: number, what: string) => {
  assert.strictEqual(a.length, b.length)
  a.forEach((x, i) => {
    assert.isAtMost(Math.abs(x - b[i]!), tolerance * Math.max(1, Math.abs(x)), `${what} ${i}: ${x} and ${b[i]}`)
  })
}

describe.skipIf(absent !== undefined)(titled("LoRA on XLA and on onnxruntime"), () => {
  it.effect("trains, samples, scores and merges alike", () =>
    Effect.gen(function* () {
      const [one, two] = yield* Effect.forEach([OnnxCpu.layer({ threads: 1 }), xlaCpu] as const, (device) =>
        run.pipe(Effect.provide(Layer.mergeAll(device, NodeServices.layer)))
      )
      near(one!.losses, two!.losses, 1e-4, "loss")
      assert.deepStrictEqual(two!.ids, one!.ids)
      assert.isBelow(two!.max, 5e-5)
      near([one!.norm, one!.partial], [two!.norm, two!.partial], 1e-3, "gradient norm")
      near(one!.scores, two!.scores, 1e-3, "log-probability")
      for (const { merged, scores } of [one!, two!]) near(scores, merged, 5e-5, "merged log-probability")
    })
  )

  it.effect("on a mesh of four devices, parameters in parts and projections shared out: as on one", () =>
    Effect.gen(function* () {
      const steps = Effect.gen(function* () {
        const fs = yield* FileSystem
        const folder = yield* fs.makeTempDirectoryScoped()
        yield* (yield* tinyPolicy(1, {}, { layers: 1 })).save(folder)
        const policy = yield* Policy.load(folder, {
          lora: { rank: 4, alpha: 8, rslora: false, dropout: 0, targets: "all-linear", seed: 3 }
        })
        const sequences = yield* Effect.forEach(rows, ([prompt, answer]) => policy.sequence(prompt, answer))
        const trainer = yield* policy.trainer(sft(), { learningRate: 1e-3 })
        const losses: Array<number> = []
        for (let i = 0; i < 6; i++) losses.push((yield* trainer.update({ sequences })).metrics["loss"]!)
        const [answer] = yield* policy.generate([{ promptId: "p", prompt: "Duty" }], {
          seed: 0,
          purpose: "test",
          maxNewTokens: 8
        })
        return { losses, ids: [...answer!.ids] }
      }).pipe(Effect.scoped)
      const mesh = parseMesh(undefined, "fsdp=2,model=2")
      const spread = XlaDevice.layer({ plugin: cpuPlugin, executables: null, quick: true, mesh })
      const [one, four] = yield* Effect.forEach([xlaCpu, spread], (device) =>
        steps.pipe(Effect.provide(Layer.mergeAll(device, NodeServices.layer)))
      )
      near(one!.losses, four!.losses, 1e-5, "loss")
      assert.deepStrictEqual(four!.ids, one!.ids)
    })
  )

  it.effect("in the class bf16 the model below is kept in bfloat16, adapters and their moments in float32", () =>
    Effect.gen(function* () {
      const steps = Effect.gen(function* () {
        const fs = yield* FileSystem
        const folder = yield* fs.makeTempDirectoryScoped()
        yield* (yield* tinyPolicy(1, {}, { layers: 1 })).save(folder)
        const lora = { rank: 4, alpha: 8, rslora: false, dropout: 0, targets: "all-linear" as const, seed: 3 }
        const policy = yield* Policy.load(folder, { lora })
        const sequences = yield* Effect.forEach(rows, ([prompt, answer]) => policy.sequence(prompt, answer))
        const trainer = yield* policy.trainer(sft(), { learningRate: 1e-2 })
        const losses: Array<number> = []
        for (let i = 0; i < 6; i++) losses.push((yield* trainer.update({ sequences })).metrics["loss"]!)
        const found = yield* policy.generate(
          rows.map(([prompt], i) => ({ promptId: String(i), prompt })),
          { seed: 0, purpose: "test", maxNewTokens: 8 }
        )
        const scored = yield* policy.logprobs(found.map(({ ids, prompt }) => ({ prompt, completion: ids })))
        const { mean } = samplingDifference(
          found.map(({ logprobs }) => logprobs),
          scored.map(({ logprobs }) => logprobs)
        )
        const out = yield* fs.makeTempDirectoryScoped()
        yield* policy.save(out)
        const again = yield* Policy.load(out)
        const same = flat(yield* again.logprobs(sequences))
        assert.deepStrictEqual(same, flat(yield* policy.logprobs(sequences)))
        // What is saved below the adapter are the bytes that came in, not what the device made of them.
        assert.deepStrictEqual(
          yield* fs.readFile(`${out}/base/model.safetensors`),
          yield* fs.readFile(`${folder}/model.safetensors`)
        )
        const dtypes = (tensors: Policy.Policy["weights"]) =>
          [...new Set([...tensors.values()].map(({ dtype, shape }) => `${dtype} ${shape.length}`))].toSorted()
        const merged = yield* Policy.load(out, { lora: null })
        return {
          losses,
          mean,
          kept: dtypes(policy.weights),
          adapters: dtypes(policy.adapter!.weights),
          merged: dtypes(merged.weights)
        }
      }).pipe(Effect.scoped)
      const narrow = XlaDevice.layer({ plugin: cpuPlugin, dtype: "bf16", executables: null, quick: true })
      const [one, two] = yield* Effect.forEach([xlaCpu, narrow], (device) =>
        steps.pipe(Effect.provide(Layer.mergeAll(device, NodeServices.layer)))
      )
      assert.deepStrictEqual(
        [one!.kept, two!.kept],
        [
          ["f32 1", "f32 2"],
          ["bf16 2", "f32 1"]
        ]
      )
      assert.deepStrictEqual([two!.adapters, two!.merged], [["f32 2"], ["f32 1", "f32 2"]])
      near(one!.losses, two!.losses, 0.02, "loss")
      assert.isBelow(two!.mean, 0.01)
      assert.isBelow(two!.losses.at(-1)!, two!.losses[0]! - 0.2)
    })
  )
})
