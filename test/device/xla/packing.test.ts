/** Sequences that share rows on XLA: a step is that of the same rows unpacked, on one device, on a mesh, and in bf16. */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { parseMesh } from "../../../src/device/mesh.ts"
import { OnnxCpu } from "../../../src/device/onnx/OnnxCpu.ts"
import { writeFor } from "../../../src/device/xla/aot/compileFor.ts"
import { cpuPlugin } from "../../../src/device/xla/plugins.ts"
import { XlaDevice } from "../../../src/device/xla/XlaDevice.ts"
import { decoderParameters } from "../../../src/models/decoder.ts"
import { policyLoss } from "../../../src/models/score.ts"
import { backwardProgram } from "../../../src/models/Trainer.ts"
import { sft } from "../../../src/objectives/sft.ts"
import { differenceOf, someSequences, stepOf } from "../../models/packedStep.ts"
import { tinyConfig, tinyPolicy } from "../../models/tinyPolicy.ts"
import { absent, titled, xlaCpu } from "./support.ts"

/** A decoder whose heads cuDNN takes. */
const config = { ...tinyConfig, hiddenSize: 64, headSize: 16, maxPositions: 2048 }

describe("packed rows for a card", () => {
  it("in bf16 go by cuDNN's attention with a bias, forward and backward, padded to a bucket", () => {
    const training = backwardProgram({
      name: "packed",
      table: decoderParameters(config),
      build: (inputs) => policyLoss(config, inputs, sft(), { rowLength: 1024 })
    })
    const { text } = writeFor(training, { time: 189, groups: 3, tokens: 100 }, { dtype: "bf16" })
    const calls = [...text.matchAll(/custom_call @(\S+?)\(/g)].map(([, target]) => target!)
    const counted = Object.fromEntries(
      [...new Set(calls)].map((name) => [name, calls.filter((x) => x === name).length])
    )
    assert.deepStrictEqual(counted, { __cudnn$fmhaScaleBiasSoftmax: 2, __cudnn$fmhaScaleBiasSoftmaxBackward: 2 })
  })
})

const sequences = someSequences(20)
const step = (rowLength: number | undefined, rematerialise = false) =>
  Effect.gen(function* () {
    const policy = yield* tinyPolicy(3, {}, { layers: 1 })
    return yield* stepOf(policy, sequences, { rowLength, rematerialise })
  }).pipe(Effect.scoped)

describe.skipIf(absent !== undefined)(titled("packed rows on XLA"), () => {
  it.effect("are the unpacked ones within 1e-5, and onnxruntime's", () =>
    Effect.gen(function* () {
      const found = yield* Effect.all([step(undefined), step(64), step(600, true)]).pipe(
        Effect.provide(Layer.mergeAll(xlaCpu, NodeServices.layer))
      )
      const [alone, ...packed] = found
      const [reference] = yield* Effect.all([step(64)]).pipe(
        Effect.provide(Layer.mergeAll(OnnxCpu.layer({ threads: 1 }), NodeServices.layer))
      )
      for (const one of packed) assert.isBelow(differenceOf(one, alone), 1e-5)
      assert.isBelow(differenceOf(packed[0], reference), 1e-5)
      assert.isBelow(packed[0].padding, alone.padding)
    })
  )

  it.effect("are the same on a mesh of four devices", () =>
    Effect.gen(function* () {
      const mesh = parseMesh(undefined, "fsdp=2,model=2")
      const spread = XlaDevice.layer({ plugin: cpuPlugin, executables: null, quick: true, mesh })
      const [one, four] = yield* Effect.forEach([xlaCpu, spread], (device) =>
        step(64).pipe(Effect.provide(Layer.mergeAll(device, NodeServices.layer)))
      )
      assert.isBelow(differenceOf(four!, one!), 1e-5)
    })
  )

  it.effect("in bf16 are as near to float32 as unpacked ones", () =>
    Effect.gen(function* () {
      const half = XlaDevice.layer({ plugin: cpuPlugin, dtype: "bf16", executables: null, quick: true })
      const [exact, packed, alone] = yield* Effect.all([
        step(undefined).pipe(Effect.provide(Layer.mergeAll(xlaCpu, NodeServices.layer))),
        step(64).pipe(Effect.provide(Layer.mergeAll(half, NodeServices.layer))),
        step(undefined).pipe(Effect.provide(Layer.mergeAll(half, NodeServices.layer)))
      ])
      assert.isBelow(Math.abs(packed.metrics["loss"]! / exact.metrics["loss"]! - 1), 5e-3)
      assert.isBelow(differenceOf(packed, exact), 2 * differenceOf(alone, exact))
    })
  )
})
