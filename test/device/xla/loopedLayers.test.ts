/**
 * A model's layers as a loop over their weights laid on one another: loss and gradients are those of the same layers one after the
 * other, of the weights or of an adapter, packed, in bf16, on layouts of four devices.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { parseMesh } from "../../../src/device/mesh.ts"
import { cardLoopBytes } from "../../../src/device/microBatch.ts"
import { writeFor } from "../../../src/device/xla/aot/compileFor.ts"
import { cpuPlugin } from "../../../src/device/xla/plugins.ts"
import { XlaDevice, type XlaOptions } from "../../../src/device/xla/XlaDevice.ts"
import { decoderParameters, loopBytes } from "../../../src/models/decoder.ts"
import { adapterParameters, type LoraSettings } from "../../../src/models/lora.ts"
import * as Policy from "../../../src/models/Policy.ts"
import { policyLoss } from "../../../src/models/score.ts"
import { backwardProgram } from "../../../src/models/Trainer.ts"
import { wordLevelFiles } from "../../../src/models/wordLevel.ts"
import { sft } from "../../../src/objectives/sft.ts"
import { interpret } from "../../../src/tensor/interpret.ts"
import { countOps } from "../../../src/tensor/Program.ts"
import { differenceOf, someSequences, stepOf } from "../../models/packedStep.ts"
import { tinyConfig } from "../../models/tinyPolicy.ts"
import { worldSpec } from "../../models/world.ts"
import { absent, titled } from "./support.ts"

const config = { ...tinyConfig, layers: 3, qkvBias: true }
const lora = { rank: 2, alpha: 4, dropout: 0.2, rslora: false, targets: "all-linear" } as const satisfies LoraSettings

/** Forward and backward pass with recomputed layers, as training builds it. */
const backward = (adapter: LoraSettings | undefined, loop: boolean, recompute = true) => {
  const base = decoderParameters(config)
  return backwardProgram({
    name: "looped",
    table: adapter === undefined ? base : adapterParameters(config, adapter),
    ...(adapter === undefined ? {} : { frozen: { table: base, weights: new Map() } }),
    build: (inputs) => policyLoss(config, inputs, sft(), { recompute, loop, lora: adapter })
  })
}

describe("layers as a loop", () => {
  const sizes: Readonly<Record<string, number>> = { groups: 3, time: 7, tokens: 5 }

  it.each([
    ["weights", undefined, true],
    ["weights, all kept", undefined, false],
    ["an adapter with dropout", lora, true],
    ["an adapter of one layer's query", { ...lora, dropout: 0, targets: ["layers.1.self_attn.q_proj"] }, true]
  ] as const)("%s: loss and every gradient are those of the layers one after the other", (_, adapter, recompute) => {
    const [looped, plain] = [true, false].map((loop) => backward(adapter, loop, recompute))
    // layers of which one has an adapter are not alike
    assert.strictEqual(countOps(looped!.nodes)["loop"], adapter?.targets.length === 1 ? undefined : 2)
    const feeds = Object.fromEntries(
      [...plain!.inputs].map(([name, { dtype, shape }], n) => {
        const own = shape.map((dim) => (typeof dim === "number" ? dim : sizes[dim.text]!))
        const size = own.reduce((a, b) => a * b, 1)
        const wave = (i: number) =>
          dtype === "i32" ? (i * 5 + n) % 11 : name === "temperature" || name === "mask" ? 1 : Math.sin(n + 0.7 * i) / 3
        return [name, { shape: own, data: Float64Array.from({ length: size }, (_, i) => wave(i)) }]
      })
    )
    const [found, wanted] = [looped!, plain!].map((program) => interpret(program, feeds).outputs)
    for (const [name, { data }] of Object.entries(wanted!)) {
      const error = data.reduce((most, x, i) => Math.max(most, Math.abs(x - found![name]!.data[i]!)), 0)
      assert.isBelow(error, 1e-12 * Math.max(1, ...data.map(Math.abs)), name)
    }
  })

  it("for a card: attention is called at one place forward, one again and one backward, in bf16 with rounded weights", () => {
    const wide = { ...config, hiddenSize: 64, headSize: 16, maxPositions: 2048 }
    const written = (loop: boolean) => {
      const training = backwardProgram({
        name: "looped",
        table: decoderParameters(wide),
        build: (inputs) => policyLoss(wide, inputs, sft(), { recompute: true, loop })
      })
      return writeFor(training, { time: 189, groups: 3, tokens: 100 }, { dtype: "bf16" }).text
    }
    const calls = (text: string) => [...text.matchAll(/custom_call @__cudnn/g)].length
    assert.deepStrictEqual([calls(written(true)), calls(written(false))], [3, 3 * config.layers])
    // what each trip takes its slice of is bfloat16: gate and up of each layer, [layers, 2 x 64, hidden]
    const slices =
      written(true)
        .match(/dynamic_slice .*/g)
        ?.filter((line) => line.includes("tensor<3x128x64x")) ?? []
    assert.isNotEmpty(slices)
    assert.isEmpty(slices.filter((line) => !line.includes("tensor<3x128x64xbf16>")))
  })

  it("are taken where what is laid on one another has room on 80 GB: 0.5B, 3B over four, not 3B on one", () => {
    const qwen = (sizes: Partial<typeof tinyConfig>) => ({
      weights: loopBytes({ ...config, ...sizes }, { bf16: true, frozen: false }),
      adapter: loopBytes({ ...config, ...sizes }, { bf16: true, frozen: true })
    })
    const half = qwen({
      hiddenSize: 896,
      intermediateSize: 4864,
      layers: 24,
      heads: 14,
      keyValueHeads: 2,
      headSize: 64
    })
    const three = qwen({
      hiddenSize: 2048,
      intermediateSize: 11_008,
      layers: 36,
      heads: 16,
      keyValueHeads: 2,
      headSize: 128
    })
    // Qwen2.5's published counts without embeddings: 0.36B and 2.77B; gradients in float32, a base in bfloat16
    assert.closeTo(half.weights / 4e9, 0.36, 0.005)
    assert.closeTo(three.adapter / 2e9, 2.77, 0.01)
    const [one, four] = [cardLoopBytes(84.9e9), cardLoopBytes(84.9e9, 4)]
    assert.deepStrictEqual(
      [half.weights <= one, half.adapter <= one, three.weights <= one, three.adapter <= one, three.weights <= four],
      [true, true, false, false, true]
    )
  })
})

const sequences = someSequences(12, 24)
interface Training {
  readonly loop: boolean
  readonly mesh?: string
  readonly dtype?: XlaOptions["dtype"]
  readonly adapted?: boolean
  readonly rowLength?: number
}
/** A step of a policy of three layers, all of them computed again. */
const step = ({ adapted = false, dtype = "f32", loop, mesh, rowLength }: Training) =>
  Effect.gen(function* () {
    const policy = yield* Policy.create({
      config: { ...tinyConfig, layers: 3, vocabularySize: 24 },
      tokenizerFiles: wordLevelFiles(worldSpec),
      seed: 3,
      ...(adapted ? { lora: { ...lora, dropout: 0 } } : {})
    })
    return yield* stepOf(policy, sequences, { rowLength, rematerialise: true })
  }).pipe(
    Effect.scoped,
    Effect.provide(
      Layer.mergeAll(
        XlaDevice.layer({
          plugin: cpuPlugin,
          executables: null,
          quick: true,
          dtype,
          ...(mesh === undefined ? {} : { mesh: parseMesh(undefined, mesh) }),
          ...(loop ? { loopBytes: Number.POSITIVE_INFINITY } : {})
        }),
        NodeServices.layer
      )
    )
  )

describe.skipIf(absent !== undefined)(titled("layers as a loop on XLA"), () => {
  const alone = Effect.runSync(Effect.cached(step({ loop: false })))

  it.effect("of the weights, packed or not", () =>
    Effect.gen(function* () {
      const plain = yield* alone
      assert.isBelow(differenceOf(yield* step({ loop: true }), plain), 1e-5)
      assert.isBelow(differenceOf(yield* step({ loop: true, rowLength: 64 }), plain), 1e-5)
    })
  )

  it.effect("of an adapter, one card and four", () =>
    Effect.gen(function* () {
      const plain = yield* step({ loop: false, adapted: true })
      assert.isBelow(differenceOf(yield* step({ loop: true, adapted: true }), plain), 1e-5)
      assert.isBelow(differenceOf(yield* step({ loop: true, adapted: true, mesh: "fsdp=2,model=2" }), plain), 1e-5)
    })
  )

  it.effect("in bf16 are as near to float32 as layers one after the other", () =>
    Effect.gen(function* () {
      const exact = yield* alone
      const [looped, plain] = [yield* step({ loop: true, dtype: "bf16" }), yield* step({ loop: false, dtype: "bf16" })]
      assert.isBelow(differenceOf(looped, exact), 1.5 * differenceOf(plain, exact))
    })
  )

  it.effect.each(["data=4", "fsdp=4", "model=2", "fsdp=2,model=2"])("on a mesh of %s", (mesh) =>
    Effect.gen(function* () {
      assert.isBelow(differenceOf(yield* step({ loop: true, mesh }), yield* alone), 1e-5)
    })
  )
})
