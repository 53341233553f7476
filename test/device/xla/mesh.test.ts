/** Several devices of the CPU plugin as one: what lies where, that programs compute the same, that nothing is left behind. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Logger, type Scope } from "effect"
import { Device } from "../../../src/device/Device.ts"
import { f32, i32 } from "../../../src/device/HostTensor.ts"
import { parseMesh } from "../../../src/device/mesh.ts"
import { cpuPlugin } from "../../../src/device/xla/plugins.ts"
import { XlaDevice } from "../../../src/device/xla/XlaDevice.ts"
import { linear } from "../../../src/tensor/composites/linear.ts"
import { linearLogprobs } from "../../../src/tensor/composites/linearLogprobs.ts"
import { softmax } from "../../../src/tensor/composites/softmax.ts"
import { gradient } from "../../../src/tensor/gradient.ts"
import { interpret } from "../../../src/tensor/interpret.ts"
import { add, mul, tanh } from "../../../src/tensor/ops/elementwise.ts"
import { gather } from "../../../src/tensor/ops/indexing.ts"
import { reduceMean, reduceSum } from "../../../src/tensor/ops/reduce.ts"
import { asRows } from "../../../src/tensor/ops/shape.ts"
import { program } from "../../../src/tensor/Program.ts"
import { input } from "../../../src/tensor/Tensor.ts"
import { nativeMemory } from "../../support/nativeMemory.ts"
import { closeTo, normal, numbers } from "../support.ts"
import { absent, titled } from "./support.ts"

const deviceOn = (mesh: string) =>
  XlaDevice.layer({ plugin: cpuPlugin, executables: null, quick: true, mesh: parseMesh(undefined, mesh) })

const on = <A, E>(mesh: string, effect: Effect.Effect<A, E, Device | Scope.Scope>) =>
  effect.pipe(Effect.scoped, Effect.provide(deviceOn(mesh)))

const qkv = {
  name: "model.layers.0.self_attn.qkv.weight",
  dtype: "f32",
  shape: [16, 12],
  stacked: { rows: [8, 4, 4], unit: 2 }
} as const

describe.skipIf(absent !== undefined)(titled("a mesh of the CPU plugin's devices"), () => {
  for (const [mesh, copies] of [
    ["data=4", 4],
    ["fsdp=4", 1],
    ["model=2", 1],
    ["data=2,model=2", 2],
    ["fsdp=2,model=2", 1],
    ["data=2,fsdp=2", 2]
  ] as const) {
    it.effect(`${mesh}: a parameter is read as it was written, and takes ${copies} x its bytes`, () =>
      on(
        mesh,
        Effect.gen(function* () {
          const device = yield* Device
          const { data } = normal("w", qkv.shape)
          const before = (yield* device.stats).bytes
          const held = yield* device.tensor(qkv, data)
          expect((yield* device.stats).bytes - before).toBe(copies * data.byteLength)
          expect((yield* device.read(held)).data).toEqual(data)
          yield* device.write(
            held,
            data.map((x) => 2 * x)
          )
          expect((yield* device.read(held)).data).toEqual(data.map((x) => 2 * x))
          expect(device.info.mesh).toBe(mesh)
        })
      )
    )
  }

  const [ids, table, w] = [
    input("ids", "i32", ["rows", "time"]),
    input("model.embed_tokens.weight", "f32", [24, 8]),
    input("w", "f32", [12, 8])
  ]
  const at = input("at", "i32", ["tokens"])
  const states = tanh(linear(gather(table, ids), w))
  const loss = reduceSum(mul(reduceMean(softmax(gather(asRows(states), at)), 1), input("weight", "f32", ["tokens"])))
  const [byTable, byW] = gradient(loss, [table, w])
  const step = program("step", {
    outputs: {
      loss,
      "model.embed_tokens.weight": add(table, mul(byTable!, -0.1)),
      w: add(w, mul(byW!, -0.1)),
      states
    },
    donate: { w: "w", "model.embed_tokens.weight": "model.embed_tokens.weight" }
  })
  const start = { "model.embed_tokens.weight": normal("table", [24, 8]), w: normal("w", [12, 8]) }
  const feeds = (rows: number, time: number, tokens: number) => ({
    ids: i32(
      [rows, time],
      Array.from({ length: rows * time }, (_, i) => (i * 5) % 24)
    ),
    at: i32(
      [tokens],
      Array.from({ length: tokens }, (_, i) => (i * 7) % (rows * time))
    ),
    weight: normal("weight", [tokens])
  })

  for (const mesh of ["data=4", "fsdp=4", "data=2,fsdp=2", "data=3"]) {
    it.effect(`${mesh}: a loss over rows and flat tokens and its derivatives are those of the interpreter`, () =>
      on(
        mesh,
        Effect.gen(function* () {
          const device = yield* Device
          const loaded = yield* device.load(step)
          const place = (name: keyof typeof start) =>
            device.tensor({ name, dtype: "f32", shape: start[name].shape }, start[name].data)
          const state = { w: yield* place("w"), "model.embed_tokens.weight": yield* place("model.embed_tokens.weight") }
          let want = { ...start }
          // one row, rows that do not divide, many: all in shares
          for (const [rows, time, tokens] of [
            [1, 3, 1],
            [5, 4, 9],
            [18, 5, 41]
          ] as const) {
            const own = feeds(rows, time, tokens)
            const got = yield* device.run(loaded, { ...own, ...state }, state)
            const { outputs } = interpret(step, { ...own, ...want })
            closeTo(numbers(got["loss"]!), outputs["loss"]!.data)
            closeTo(numbers(got["states"]!), outputs["states"]!.data)
            const next = (name: keyof typeof start) => f32(start[name].shape, outputs[name]!.data)
            want = { w: next("w"), "model.embed_tokens.weight": next("model.embed_tokens.weight") }
            for (const name of ["w", "model.embed_tokens.weight"] as const) {
              closeTo(numbers(yield* device.read(state[name])), want[name].data)
            }
          }
        })
      )
    )
  }

  // 20 tokens by 7 are three pieces of seven rows, by 5 four of five: neither comes out even on four devices
  for (const chunk of [4, 5, 7, 64]) {
    it.effect(`data=4: a head in pieces of ${chunk} tokens, with its derivatives, is the interpreter's`, () =>
      on(
        "data=4",
        Effect.gen(function* () {
          const device = yield* Device
          const [hidden, weight] = [input("hidden", "f32", ["tokens", 6]), input("weight", "f32", [11, 6])]
          const { entropy, logprob } = linearLogprobs(hidden, weight, input("targets", "i32", ["tokens"]), { chunk })
          const loss = add(reduceSum(mul(logprob, logprob)), reduceSum(entropy))
          const [byHidden, byWeight] = gradient(loss, [hidden, weight])
          const head = program("head", { outputs: { logprob, entropy, byHidden: byHidden!, byWeight: byWeight! } })
          const own = {
            hidden: normal("hidden", [20, 6]),
            weight: normal("weight", [11, 6]),
            targets: i32(
              [20],
              Array.from({ length: 20 }, (_, i) => (i * 3) % 11)
            )
          }
          const got = yield* device.run(yield* device.load(head), own)
          const { outputs } = interpret(head, own)
          for (const name of ["logprob", "entropy", "byHidden", "byWeight"]) {
            closeTo(numbers(got[name]!), outputs[name]!.data)
          }
        })
      )
    )
  }

  it.effect("the same runs give the same bits; 1,000 steps leave memory as it was", () =>
    on(
      "data=2,fsdp=2",
      Effect.gen(function* () {
        const device = yield* Device
        const loaded = yield* device.load(step)
        const own = feeds(18, 5, 41)
        const all = { ...own, ...start }
        const first = yield* device.run(loaded, all)
        for (let i = 0; i < 5; i++) expect(yield* device.run(loaded, all)).toEqual(first)
        const place = (name: keyof typeof start) =>
          device.tensor({ name, dtype: "f32", shape: start[name].shape }, start[name].data)
        const state = { w: yield* place("w"), "model.embed_tokens.weight": yield* place("model.embed_tokens.weight") }
        yield* device.run(loaded, { ...own, ...state }, state)
        const held = (yield* device.stats).bytes
        expect(held).toBe(2 * (12 * 8 + 24 * 8) * 4)
        const steps = (n: number) =>
          Effect.gen(function* () {
            for (let i = 0; i < n; i++) yield* device.run(loaded, { ...own, ...state }, state)
          })
        yield* steps(200)
        const before = nativeMemory()
        yield* steps(1000)
        expect((yield* device.stats).bytes).toBe(held)
        // 32 KiB a step: what each leaves is buffers, events and argument lists, or nothing
        expect(nativeMemory() - before).toBeLessThan(8 * 2 ** 20)
      })
    )
  )

  it.effect("says what stays whole, and refuses heads that cannot be shared out and devices that are not there", () => {
    const said: Array<string> = []
    const logger = Logger.make(({ message }) => void said.push(String(message)))
    return Effect.gen(function* () {
      const refused = yield* on(
        "model=3",
        Effect.gen(function* () {
          const device = yield* Device
          yield* device.tensor({ name: "lm_head.weight", dtype: "f32", shape: [100, 4] })
          return yield* Effect.flip(device.tensor(qkv))
        })
      )
      expect(refused.reason._tag).toBe("MeshUnfit")
      expect(refused.message).toMatch(/^Mesh model=3: model=3 does not divide the 4 query heads of model\.layers\.0/)
      expect(said).toEqual([
        "xla:cpu: mesh model=3 keeps lm_head.weight [100, 4] on every device: model=3 does not divide axis 0"
      ])
      const many = yield* Effect.flip(Effect.scoped(Layer.build(deviceOn("data=128"))))
      expect(many.message).toMatch(/Mesh data=128: it has 128 devices; xla:cpu shows 64 at most/)
    }).pipe(Effect.provide(Logger.layer([logger])))
  })
})
