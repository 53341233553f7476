/** Programs compiled for an H100 that is not here, by NVIDIA's plugin; what XLA says of them. Nothing is executed. */

import { Effect, Layer } from "effect"
import * as fc from "fast-check"
import { describe, expect, it } from "vitest"
import { parseMesh } from "../../../src/device/mesh.ts"
import { compileFor } from "../../../src/device/xla/aot/compileFor.ts"
import { Topology } from "../../../src/device/xla/aot/Topology.ts"
import { h100 } from "../../../src/device/xla/aot/targets.ts"
import { compileOptions, deterministicFlags } from "../../../src/device/xla/compileOptions.ts"
import { accountOf } from "../../../src/device/xla/hlo/account.ts"
import { type Computation, readModule } from "../../../src/device/xla/hlo/Hlo.ts"
import { fields, Message, varints } from "../../../src/device/xla/hlo/wire.ts"
import { openClient, openPlugin } from "../../../src/device/xla/openClient.ts"
import { PjrtFailure } from "../../../src/device/xla/pjrt.ts"
import { cudaCompiler, locateCompiler } from "../../../src/device/xla/plugins.ts"
import { XlaDevice } from "../../../src/device/xla/XlaDevice.ts"
import { decoderParameters } from "../../../src/models/decoder.ts"
import type { DecoderConfig } from "../../../src/models/decoderConfig.ts"
import { embed, encoderParameters } from "../../../src/models/encoder.ts"
import type { EncoderConfig } from "../../../src/models/encoderConfig.ts"
import { decodeFlops, trainingFlops } from "../../../src/models/flops.ts"
import { parameterInputs, residentSpec } from "../../../src/models/parameters.ts"
import { policyLoss } from "../../../src/models/score.ts"
import { segmentProgram } from "../../../src/models/segment.ts"
import { backwardProgram } from "../../../src/models/Trainer.ts"
import { sft } from "../../../src/objectives/sft.ts"
import { sample } from "../../../src/tensor/composites/sample.ts"
import { segmentSum } from "../../../src/tensor/ops/indexing.ts"
import { program } from "../../../src/tensor/Program.ts"
import { input } from "../../../src/tensor/Tensor.ts"
import { titledBy } from "../support.ts"
import { decoderOf } from "./support.ts"

const located = locateCompiler()
const absent = "missing" in located ? located.missing : undefined
const titled = titledBy(absent)

describe("protocol buffers", () => {
  it("are read as the format's own examples have them", () => {
    // field 1 varint 150; field 2 "testing"; field 4 packed 3, 270, 86942 (protobuf.dev/programming-guides/encoding)
    const bytes = Uint8Array.from([8, 0x96, 1, 0x12, 7, ...Buffer.from("testing"), 0x22, 6, 3, 0x8e, 2, 0x9e, 0xa7, 5])
    const message = new Message(bytes)
    expect([message.number(1), message.text(2), message.numbers(4)]).toEqual([150, "testing", [3, 270, 86942]])
    expect([message.number(9), message.text(9), message.message(9)]).toEqual([0, "", undefined])
    expect(varints(Uint8Array.from([...Array(9).fill(0xff), 1]))).toEqual([-1])
  })

  it("that are none throw and never hang", () => {
    expect(() => fields(Uint8Array.of(0x12, 7, 1))).toThrow(/field 2 .* is no field/)
    expect(() => varints(Uint8Array.of(0x80))).toThrow(RangeError)
    expect(() => readModule(new Uint8Array(0))).toThrow(/no entry/)
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
        try {
          readModule(bytes)
        } catch (error) {
          expect(error).toBeInstanceOf(RangeError)
        }
      })
    )
  })
})

/** A decoder of one layer, and its training: forward and backward pass, gradients added up in place. */
const config = decoderOf({
  vocabularySize: 512,
  hiddenSize: 128,
  intermediateSize: 256,
  layers: 1,
  heads: 4,
  keyValueHeads: 2,
  headSize: 32,
  maxPositions: 1024
})
const table = decoderParameters(config)
const trainingOf = (own: DecoderConfig, loop = false) =>
  backwardProgram({
    name: "small",
    table: decoderParameters(own),
    build: (inputs) => policyLoss(own, inputs, sft(), { recompute: true, loop })
  })
const training = trainingOf(config)

/** y = x w in bf16, three times over by a loop, over a donated x. */
const module = `module {
  func.func public @main(%x: tensor<256x256xbf16> {tf.aliasing_output = 0 : i32}, %w: tensor<256x256xbf16>) -> (tensor<256x256xbf16>) {
    %zero = stablehlo.constant dense<0> : tensor<i32>
    %three = stablehlo.constant dense<3> : tensor<i32>
    %one = stablehlo.constant dense<1> : tensor<i32>
    %r:2 = stablehlo.while(%i = %zero, %y = %x) : tensor<i32>, tensor<256x256xbf16>
    cond {
      %more = stablehlo.compare LT, %i, %three, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
      stablehlo.return %more : tensor<i1>
    } do {
      %p = stablehlo.dot_general %y, %w, contracting_dims = [1] x [0] : (tensor<256x256xbf16>, tensor<256x256xbf16>) -> tensor<256x256xbf16>
      %e = stablehlo.exponential %p : tensor<256x256xbf16>
      %next = stablehlo.add %i, %one : tensor<i32>
      stablehlo.return %next, %e : tensor<i32>, tensor<256x256xbf16>
    }
    return %r#1 : tensor<256x256xbf16>
  }
}`

/** Operations by name, libraries by their targets; those of computations that are called too. */
const opcodesOf = ({ instructions }: Computation): ReadonlyArray<string> =>
  instructions.flatMap(({ calls, opcode, target }) => [opcode, target, ...calls.flatMap(opcodesOf)])

describe.skipIf(absent !== undefined)(titled("compiling for an H100 without one"), () => {
  const pjrt = () => openPlugin(located)

  it("gives memory, the optimised program, and bytes; products are counted with their loops", async () => {
    const topology = new Topology(pjrt(), h100)
    const compiled = await topology.compile(module, compileOptions())
    const one = 256 * 256 * 2
    expect(compiled.memory()).toMatchObject({ arguments: 2 * one, outputs: one, aliased: one })
    expect(compiled.memory().peak).toBeGreaterThanOrEqual(2 * one)
    const hlo = compiled.module()
    expect(hlo.overwritten).toEqual([0])
    const { calls, collectives, products } = accountOf(hlo)
    expect(products.map(({ dtype, flops }) => [dtype, flops])).toEqual([["bf16", 3 * 2 * 256 ** 3]])
    expect([calls, collectives]).toEqual([{}, {}])
    expect(compiled.serialize().length).toBeGreaterThan(1000)
    compiled.destroy()
    topology.destroy()
  })

  it("draws among the likeliest tokens without sorting the vocabulary", async () => {
    const rows = input("logits", "f32", [4, 8192])
    const { logprob, token } = sample(rows, input("uniform", "f32", [4]), { topK: 50, topP: 0.9 })
    const topology = new Topology(pjrt(), h100)
    const drawing = program("draw", { outputs: { token, logprob } })
    const { compiled } = await compileFor(topology, drawing, {}, { dtype: "f32" })
    const all = opcodesOf(compiled.module().entry)
    expect(all).toContain("while")
    expect(all.join()).not.toMatch(/sort|topk/i)
    compiled.destroy()
    topology.destroy()
  })

  it("adds up in one order where that is asked for: updates at equal indices are sorted first", async () => {
    const rows = input("rows", "f32", [512, 64])
    const sums = program("sums", { outputs: { sums: segmentSum(rows, input("ids", "i32", [512]), 1000) } })
    const topology = new Topology(pjrt(), h100)
    const made = async (flags: typeof deterministicFlags) => {
      const { compiled } = await compileFor(topology, sums, {}, { dtype: "f32", flags })
      const all = opcodesOf(compiled.module().entry)
      compiled.destroy()
      return all
    }
    expect(await made({})).not.toContain("sort")
    expect(await made(deterministicFlags)).toContain("sort")
    topology.destroy()
  })

  it("knows several cards, and several hosts", () => {
    for (const [cards, hosts] of [
      [4, 1],
      [8, 2]
    ] as const) {
      const topology = new Topology(pjrt(), h100, cards, hosts)
      expect([topology.devices, topology.processes]).toEqual([cards, hosts])
      topology.destroy()
    }
    expect(() => new Topology(pjrt(), h100, 8, 3)).toThrow(RangeError)
  })

  it("what cannot be compiled, and a card that is none, are failures with a message", async () => {
    expect(() => new Topology(pjrt(), { ...h100, config: "nonsense {" })).toThrow(PjrtFailure)
    const topology = new Topology(pjrt(), h100)
    await expect(topology.compile("module {", compileOptions())).rejects.toThrow(/parse/i)
    topology.destroy()
    await expect(openClient(cudaCompiler)).rejects.toThrow(/No visible GPU devices/)
    const layer = XlaDevice.layer({ plugin: cudaCompiler, executables: null })
    const error = await Effect.runPromise(Effect.flip(Effect.scoped(Layer.build(layer))))
    expect(error.message).toMatch(/xla:cuda gives no device: No visible GPU devices/)
  })

  it.each([
    ["", 1, false],
    [", three layers as a loop", 3, true]
  ] as const)(
    "training in bf16%s: nothing multiplied in float32, attention by cuDNN, every gradient in place, operations as by formula",
    async (_, layers, loop) => {
      const topology = new Topology(pjrt(), h100)
      const own = { ...config, layers }
      const table = decoderParameters(own)
      const training = trainingOf(own, loop)
      // the program is padded, and attention still one call
      const sizes = { time: 189, groups: 4, tokens: 256 }
      const { compiled, written } = await compileFor(topology, training, sizes, { dtype: "bf16" })
      const time = written.inputs.find(({ name }) => name === "ids")!.shape[2]!
      expect(time).toBeGreaterThan(189)
      const hlo = compiled.module()
      const { attentionFlops, calls, products } = accountOf(hlo)
      expect(new Set(products.map(({ dtype }) => dtype))).toEqual(new Set(["bf16"]))
      // forward, and again in the derivative
      expect(calls).toMatchObject({ __cudnn$fmhaSoftmax: 2 * layers, __cudnn$fmhaSoftmaxBackward: layers })
      expect(products.filter(({ shape }) => shape.dims.at(-1) === time)).toEqual([])
      const expected = trainingFlops(own, { rows: 4, time, tokens: 256, rematerialised: true, rank: null })
      // the head has one chunk here, whose logits XLA keeps for the derivative instead of computing them again
      const again = 2 * 256 * own.vocabularySize * own.hiddenSize
      expect(products.reduce((n, { flops }) => n + flops, 0)).toBe(expected.products - again)
      expect(attentionFlops).toBe(expected.attention)
      const gradients = written.inputs.flatMap(({ name }, i) => (name.startsWith("grad:") ? [i] : []))
      expect(gradients.length).toBe(table.length)
      expect(hlo.overwritten).toEqual(gradients)
      // a loop forward and a loop backward
      const loops = hlo.entry.instructions.filter(({ opcode }) => opcode === "while")
      expect(loops.length).toBe(loop ? 2 : 0)
      compiled.destroy()
      topology.destroy()
    },
    60_000
  )

  it("32 steps of decoding in bf16: every cache written over in place, nothing multiplied in float32, operations as by formula", async () => {
    const steps = 32
    const decoding = segmentProgram(
      { ...config, cached: "bf16" },
      { greedy: false, topP: 0.9, banned: false },
      { steps, stops: 1 }
    )
    const caches = [...decoding.donate.values()]
    const topology = new Topology(pjrt(), h100)
    const stored = new Set(table.map(({ name }) => name))
    const sizes = { rows: 8, places: 64 }
    const { compiled, written } = await compileFor(topology, decoding, sizes, { dtype: "bf16", stored })
    const hlo = compiled.module()
    const { products } = accountOf(hlo)
    expect(new Set(products.map(({ dtype }) => dtype))).toEqual(new Set(["bf16"]))
    const places = caches.map((name) => written.inputs.findIndex((port) => port.name === name))
    expect(caches.length).toBe(2 * config.layers)
    expect(hlo.overwritten).toEqual(expect.arrayContaining(places))
    const flops = products.reduce((n, product) => n + product.flops, 0)
    expect(Math.abs(flops / (steps * decodeFlops(config, sizes).products) - 1)).toBeLessThan(0.1)
    compiled.destroy()
    topology.destroy()
  })

  it("an encoder in bf16: attention by cuDNN with the rows' lengths as a bias, nothing multiplied in float32", async () => {
    const own: EncoderConfig = {
      kind: "encoder",
      vocabularySize: 512,
      hiddenSize: 128,
      intermediateSize: 256,
      layers: 2,
      heads: 4,
      maxPositions: 128,
      segments: 2,
      normEpsilon: 1e-12,
      labels: []
    }
    const inputs = {
      ids: input("ids", "i32", ["batch", "time"]),
      segments: input("segments", "i32", ["batch", "time"]),
      lengths: input("lengths", "i32", ["batch"])
    }
    const embeddings = embed(own, parameterInputs(encoderParameters(own)), inputs)
    const topology = new Topology(pjrt(), h100)
    const embedding = program("embed", { outputs: { embeddings } })
    const { compiled } = await compileFor(topology, embedding, { batch: 8, time: 64 }, { dtype: "bf16" })
    const { calls, products } = accountOf(compiled.module())
    expect(calls["__cudnn$fmhaScaleBiasSoftmax"]).toBe(own.layers)
    expect(products.filter(({ dtype }) => dtype !== "bf16")).toEqual([])
    compiled.destroy()
    topology.destroy()
  })

  it("generation writes keys and values where they lie, and widens no table that is stored in bf16", async () => {
    const topology = new Topology(pjrt(), h100)
    const settings = { ...config, vocabularySize: 4096, cached: "bf16" as const }
    const segment = segmentProgram(settings, { greedy: true, banned: false }, { steps: 8, stops: 1 })
    const stored = new Set(decoderParameters(settings).map(({ name }) => name))
    const { compiled, written } = await compileFor(
      topology,
      segment,
      { rows: 30, places: 500 },
      { dtype: "bf16", stored }
    )
    const caches = written.inputs.flatMap(({ name }, i) => (name.startsWith("cache:") ? [i] : []))
    const shape = written.inputs[caches[0]!]!.shape
    expect(written.text.match(/"stablehlo.scatter"/g)?.length).toBe(caches.length)
    const hlo = compiled.module()
    expect(hlo.overwritten).toEqual(caches)
    // a loop's body makes a tensor of the cache's size twice: by the writes of keys and of values, which lie in the cache
    const [loop] = hlo.entry.instructions.filter(
      ({ opcode, shape: { parts } }) => opcode === "while" && parts.length > 0
    )
    const body = loop!.calls.find(({ instructions }) => instructions.length > 3)!
    const made = body.instructions.filter(
      ({ opcode, shape: { dims } }) => dims.join() === shape.join() && opcode !== "get-tuple-element"
    )
    expect(made.map(({ opcode }) => opcode)).toEqual(caches.map(() => "fusion"))
    // the table of words in float32 would be 2 MiB
    const wide = 4096 * config.hiddenSize * 4
    expect(compiled.memory().temporary).toBeLessThan(wide)
    compiled.destroy()
    topology.destroy()
  })

  it.each(["data=4", "fsdp=4", "data=2,model=2"])(
    "shared by four cards (%s): each calls cuDNN for its own rows and heads, and has a quarter of the operations",
    async (text) => {
      const mesh = parseMesh(undefined, text)!
      const residents = new Map(
        table.flatMap((spec) => ["", "grad:"].map((prefix) => [`${prefix}${spec.name}`, residentSpec(spec, prefix)]))
      )
      const topology = new Topology(pjrt(), h100, 4)
      const { compiled, written } = await compileFor(
        topology,
        training,
        { time: 189, groups: 4, tokens: 256 },
        { dtype: "bf16", over: { mesh, residents } }
      )
      const time = written.inputs.find(({ name }) => name === "ids")!.shape[2]!
      const hlo = compiled.module()
      const { attentionFlops, calls, collectives, products } = accountOf(hlo)
      const expected = trainingFlops(config, { rows: 4, time, tokens: 256, rematerialised: true, rank: null })
      expect(calls).toMatchObject({ __cudnn$fmhaSoftmax: 2, __cudnn$fmhaSoftmaxBackward: 1 })
      expect(attentionFlops).toBe(expected.attention / 4)
      const flops = products.reduce((n, product) => n + product.flops, 0)
      expect(flops / expected.products).toBeGreaterThan(0.2)
      expect(flops / expected.products).toBeLessThan(0.27)
      expect(new Set(products.map(({ dtype }) => dtype))).toEqual(new Set(["bf16"]))
      expect(hlo.overwritten.length).toBe(table.length)
      // every gradient is summed once over the cards that share the batch, and little else moves
      const weights = table.reduce((n, { shape }) => n + shape.reduce((a, b) => a * b, 1), 0)
      const moved = Object.values(collectives).reduce((n, bytes) => n + bytes, 0)
      expect(moved).toBeGreaterThan(weights)
      expect(moved).toBeLessThan(10 * weights)
      compiled.destroy()
      topology.destroy()
    }
  )

  it("shared by eight cards of two hosts (data=2,fsdp=4): weights stay within a host, a quarter of each gradient goes between", async () => {
    const mesh = parseMesh(undefined, "data=2,fsdp=4")!
    const residents = new Map(
      table.flatMap((spec) => ["", "grad:"].map((prefix) => [`${prefix}${spec.name}`, residentSpec(spec, prefix)]))
    )
    const topology = new Topology(pjrt(), h100, 8, 2)
    const { compiled } = await compileFor(
      topology,
      training,
      { time: 189, groups: 8, tokens: 512 },
      { dtype: "bf16", over: { mesh, residents } }
    )
    const { betweenHosts, calls, collectives } = accountOf(compiled.module(), 4)
    expect(calls).toMatchObject({ __cudnn$fmhaSoftmax: 2, __cudnn$fmhaSoftmaxBackward: 1 })
    const weights = table.reduce((n, { shape }) => n + shape.reduce((a, b) => a * b, 1), 0)
    const summed = (betweenHosts["all-reduce"] ?? 0) / (4 * weights)
    // in float32; the tied embedding's twice, once for the head
    expect(summed).toBeGreaterThan(0.25)
    expect(summed).toBeLessThan(0.4)
    const all = (bytes: Readonly<Record<string, number>>) => Object.values(bytes).reduce((a, b) => a + b, 0)
    expect(all(betweenHosts)).toBeLessThan(0.6 * all(collectives))
    compiled.destroy()
    topology.destroy()
  })
})
