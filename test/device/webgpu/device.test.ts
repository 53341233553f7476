/** What lives on a WebGPU device between runs, and what goes to and fro. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, layer } from "@effect/vitest"
import { Effect, Exit, Scope } from "effect"
import { Device } from "../../../src/device/Device.ts"
import { f32, hostTensor, i32 } from "../../../src/device/HostTensor.ts"
import { OnnxWebGpu } from "../../../src/device/onnx/OnnxWebGpu.ts"
import { adamw } from "../../../src/tensor/composites/adamw.ts"
import { cachedAttention } from "../../../src/tensor/composites/cachedAttention.ts"
import { linear } from "../../../src/tensor/composites/linear.ts"
import { gradient } from "../../../src/tensor/gradient.ts"
import { interpret } from "../../../src/tensor/interpret.ts"
import { loop } from "../../../src/tensor/ops/control.ts"
import { add, mul, round, square, sub } from "../../../src/tensor/ops/elementwise.ts"
import { reduceMean } from "../../../src/tensor/ops/reduce.ts"
import { program } from "../../../src/tensor/Program.ts"
import { input } from "../../../src/tensor/Tensor.ts"
import { generator } from "../../tensor/cases.ts"
import { absent, titled } from "./support.ts"

const folder = mkdtempSync(join(tmpdir(), "overtone-webgpu-"))
const numbers = (x: { readonly data: ArrayLike<number | bigint> }) => Array.from(x.data, Number)
const random = (count: number, seed = 1) => {
  const next = generator(seed)
  return Float32Array.from({ length: count }, () => next() - 0.5)
}
const near = (actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance = 1e-5) => {
  assert.strictEqual(actual.length, expected.length)
  const scale = Array.from(expected).reduce((most, v) => Math.max(most, Math.abs(v)), 1e-3)
  Array.from(expected).forEach((v, i) => {
    assert.isAtMost(Math.abs(v - actual[i]!), tolerance * scale, `element ${i}`)
  })
}

/** One step of gradient descent on mean((x w^T - y)^2), the weight [64, 48] in place. */
const descent = () => {
  const [x, y] = [input("x", "f32", ["batch", 48]), input("y", "f32", ["batch", 64])]
  const w = input("w", "f32", [64, 48])
  const loss = reduceMean(square(sub(linear(x, w), y)))
  const [dw] = gradient(loss, [w])
  return program("descent", { outputs: { loss, w: sub(w, mul(dw!, 0.5)) }, donate: { w: "w" } })
}

interface Event {
  readonly name: string
  readonly cat: string
  readonly args: { readonly op_name?: string; readonly output_size?: string }
}

/** Each `round` runs on the CPU. */
const rounds = (count: number) => {
  const x = input("x", "f32", [3])
  const y = Array.from({ length: count }, (_, i) => round(mul(x, i + 1))).reduce((a, b) => add(a, b))
  return program("rounds", { outputs: { y } })
}

describe.skipIf(absent !== undefined)(titled("WebGPU's device"), () => {
  layer(OnnxWebGpu.layer({ inspect: { folder, profile: true } }))((it) => {
    it.effect(
      "weights stay there: 20 updates in place copy what was fed and the loss, and are what arithmetic says",
      () =>
        Effect.gen(function* () {
          const device = yield* Device
          const step = descent()
          const start = random(64 * 48)
          const [x, y] = [f32([5, 48], random(5 * 48, 2)), f32([5, 64], random(5 * 64, 3))]
          const weight = yield* device.tensor({ name: "w", dtype: "f32", shape: [64, 48] }, start)
          const before = yield* device.stats
          const scope = yield* Scope.make()
          const loaded = yield* Scope.provide(device.load(step), scope)
          assert.deepStrictEqual(loaded.inPlace, [])
          const reference: { w: Float64Array; loss: number } = { w: Float64Array.from(start), loss: 0 }
          for (let i = 0; i < 20; i++) {
            const { loss } = yield* device.run(loaded, { x, y, w: weight }, { w: weight })
            const feeds = {
              x: { shape: [5, 48], data: Float64Array.from(x.data) },
              y: { shape: [5, 64], data: Float64Array.from(y.data) }
            }
            const { outputs } = interpret(step, { ...feeds, w: { shape: [64, 48], data: reference.w } })
            reference.w = Float64Array.from(outputs["w"]!.data)
            near(numbers(loss!), [outputs["loss"]!.data[0]!], 1e-4)
          }
          const after = yield* device.stats
          assert.strictEqual(after.copiedIn! - before.copiedIn!, 20 * 4 * (5 * 48 + 5 * 64))
          assert.strictEqual(after.copiedOut! - before.copiedOut!, 20 * 4)
          near(numbers(yield* device.read(weight)), reference.w)
          assert.deepStrictEqual(device.info.fallbacks, [])
          // and inside the library: its profile names every copy between device and host, which are of sizes only
          yield* Scope.close(scope, Exit.void)
          const profile = readdirSync(folder).find((file) => file.startsWith("descent"))!
          const events: ReadonlyArray<Event> = JSON.parse(readFileSync(join(folder, profile), "utf8"))
          const nodes = events.filter(({ cat, name }) => cat === "Node" && name.endsWith("_kernel_time"))
          assert.isAbove(nodes.filter(({ args }) => args.op_name === "Gemm").length, 19)
          for (const { args, name } of nodes.filter((event) => event.name.includes("Memcpy"))) {
            assert.isAtMost(Number(args.output_size), 8, name)
          }
        }).pipe(Effect.scoped)
    )

    it.effect("AdamW's state stays there, and another program sees the updated weights", () =>
      Effect.gen(function* () {
        const device = yield* Device
        const of = (name: string) => input(name, "f32", [6, 4])
        const scalars = { rate: 0.01, c1: 0.1, c2: 0.001 }
        const scalar = (name: keyof typeof scalars) => input(name, "f32", [])
        const options = {
          learningRate: scalar("rate"),
          correction1: scalar("c1"),
          correction2: scalar("c2"),
          weightDecay: 0.1
        }
        const next = adamw({ param: of("p"), grad: of("g"), m: of("m"), v: of("v") }, options)
        const update = program("adamw", {
          outputs: { p: next.param, m: next.m, v: next.v },
          donate: { p: "p", m: "m", v: "v" }
        })
        const again = of("p")
        const double = program("double", { outputs: { y: add(again, again) } })
        const [loaded, reader] = [yield* device.load(update), yield* device.load(double)]
        const start = random(24)
        const [p, m, v] = [
          yield* device.tensor({ name: "p", dtype: "f32", shape: [6, 4] }, start),
          yield* device.tensor({ name: "m", dtype: "f32", shape: [6, 4] }),
          yield* device.tensor({ name: "v", dtype: "f32", shape: [6, 4] })
        ]
        let state = { p: Float64Array.from(start), m: new Float64Array(24), v: new Float64Array(24) }
        for (let i = 1; i <= 3; i++) {
          const g = random(24, i)
          const fed = Object.entries(scalars).map(([name, value]) => [name, f32([], [value])] as const)
          yield* device.run(loaded, { p, m, v, g: f32([6, 4], g), ...Object.fromEntries(fed) }, { p, m, v })
          const array = (data: Float64Array) => ({ shape: [6, 4], data })
          const { outputs } = interpret(update, {
            p: array(state.p),
            m: array(state.m),
            v: array(state.v),
            g: array(Float64Array.from(g)),
            ...Object.fromEntries(fed.map(([name, { data }]) => [name, { shape: [], data: Float64Array.from(data) }]))
          })
          const data = (name: string) => Float64Array.from(outputs[name]!.data)
          state = { p: data("p"), m: data("m"), v: data("v") }
          const { y } = yield* device.run(reader, { p })
          near(
            numbers(y!),
            state.p.map((x) => 2 * x)
          )
        }
        near(numbers(yield* device.read(v)), state.v)
      }).pipe(Effect.scoped)
    )

    it.effect("a cache is written in place, whatever the lengths of its rows", () =>
      Effect.gen(function* () {
        const device = yield* Device
        // 2 rows of 3 and 1 positions, 4 heads over 2 of the cache, width 8, room for 5
        const sizes = { q: [2, 1, 4, 8], k: [2, 1, 2, 8], v: [2, 1, 2, 8], ck: [2, 2, 5, 8], cv: [2, 2, 5, 8] }
        const of = (name: keyof typeof sizes) => input(name, "f32", ["batch", ...sizes[name].slice(1)])
        const made = cachedAttention(
          of("q"),
          of("k"),
          of("v"),
          { k: of("ck"), v: of("cv") },
          input("lengths", "i32", ["batch"])
        )
        const decode = program("decode", {
          outputs: { out: made.out, ck: made.cache.k, cv: made.cache.v },
          donate: { ck: "ck", cv: "cv" }
        })
        const loaded = yield* device.load(decode)
        assert.deepStrictEqual(loaded.inPlace.toSorted(), ["ck", "cv"])
        const lengths = [3, 1]
        const data = Object.fromEntries(
          Object.entries(sizes).map(([name, shape], i) => [
            name,
            random(
              shape.reduce((n, d) => n * d),
              i + 4
            )
          ])
        )
        // what lies behind a row's length means nothing: the definition sees it only as what is overwritten
        const tensor = (name: "ck" | "cv") => device.tensor({ name, dtype: "f32", shape: sizes[name] }, data[name]!)
        const [ck, cv] = [yield* tensor("ck"), yield* tensor("cv")]
        const before = yield* device.stats
        const feed = (name: "q" | "k" | "v") => f32(sizes[name], data[name]!)
        const { out } = yield* device.run(
          loaded,
          { q: feed("q"), k: feed("k"), v: feed("v"), ck, cv, lengths: i32([2], lengths) },
          { ck, cv }
        )
        const after = yield* device.stats
        assert.strictEqual(after.copiedIn! - before.copiedIn!, 4 * (64 + 32 + 32 + 2))
        assert.strictEqual(after.bytes, before.bytes)
        const feeds = Object.fromEntries(
          Object.entries(sizes).map(([name, shape]) => [name, { shape, data: Float64Array.from(data[name]!) }])
        )
        const { outputs } = interpret(decode, { ...feeds, lengths: { shape: [2], data: Float64Array.from(lengths) } })
        near(numbers(out!), outputs["out"]!.data)
        near(numbers(yield* device.read(ck)), outputs["ck"]!.data)
        near(numbers(yield* device.read(cv)), outputs["cv"]!.data)
      }).pipe(Effect.scoped)
    )

    it.effect("loops are unrolled, for each number of trips that comes up", () =>
      Effect.gen(function* () {
        const device = yield* Device
        // state' = state + slice; stacked 2 state: prefix sums
        const { carried, stacked } = loop(
          { trips: "n", carried: [input("zero", "f32", [2])], scanned: [input("x", "f32", ["n", 2])] },
          ({ carried: [sum], scanned: [row] }) => ({ carried: [add(sum!, row!)], stacked: [mul(sum!, 2)] })
        )
        const loaded = yield* device.load(program("prefix", { outputs: { sum: carried[0]!, twice: stacked[0]! } }))
        for (const n of [1, 3, 2, 3]) {
          const rows = Array.from({ length: 2 * n }, (_, i) => i + 1)
          const { sum, twice } = yield* device.run(loaded, { zero: f32([2], [0, 0]), x: f32([n, 2], rows) })
          // columns 1, 3, 5, ... and 2, 4, 6, ...: sums n^2 and n (n + 1)
          assert.deepStrictEqual(numbers(sum!), [n * n, n * (n + 1)])
          assert.deepStrictEqual(
            numbers(twice!),
            Array.from({ length: n }, (_, i) => [2 * i * i, 2 * i * (i + 1)]).flat()
          )
        }
        assert.deepStrictEqual(device.info.fallbacks, [])
      }).pipe(Effect.scoped)
    )

    it.effect("tensors of zeros are zeros in memory that was used before; constants are read where they lie", () =>
      Effect.gen(function* () {
        const device = yield* Device
        const scope = yield* Scope.make()
        yield* Scope.provide(device.tensor({ name: "old", dtype: "f32", shape: [7, 9] }, random(63)), scope)
        yield* Scope.close(scope, Exit.void)
        const fresh = yield* device.tensor({ name: "fresh", dtype: "f32", shape: [7, 9] })
        assert.isTrue(numbers(yield* device.read(fresh)).every((x) => x === 0))
        const flags = yield* device.tensor({ name: "flags", dtype: "bool", shape: [5] }, Uint8Array.of(1, 0, 0, 1, 1))
        assert.deepStrictEqual(yield* device.read(flags), hostTensor("bool", [5], Uint8Array.of(1, 0, 0, 1, 1)))
        const w = yield* device.tensor({ name: "w", dtype: "f32", shape: [1, 2] }, Float32Array.of(3, 4))
        const dots = program("dots", { outputs: { y: linear(input("x", "f32", ["n", 2]), input("w", "f32", [1, 2])) } })
        const loading = yield* Scope.make()
        const loaded = yield* Scope.provide(device.load(dots, { constants: { w } }), loading)
        const { y } = yield* device.run(loaded, { x: f32([2, 2], [1, 1, 0, 2]) })
        assert.deepStrictEqual(numbers(y!), [7, 8])
        const refused = yield* Effect.flip(device.write(w, Float32Array.of(0, 0)))
        assert.match(refused.message, /w is a constant of a loaded program/)
        yield* Scope.close(loading, Exit.void)
        yield* device.write(w, Float32Array.of(0, 1))
      }).pipe(Effect.scoped)
    )

    it.effect("nodes that run on the CPU are counted and named", () =>
      Effect.gen(function* () {
        const device = yield* Device
        const before = device.info.fallbackNodes
        const loaded = yield* device.load(rounds(8))
        const { y } = yield* device.run(loaded, { x: f32([3], [0.6, -0.6, 2]) })
        // round(0.6 i) for i = 1..8 is 1 1 2 2 3 4 4 5, in all 22
        assert.deepStrictEqual(numbers(y!), [22, -22, 72])
        assert.strictEqual(device.info.fallbackNodes - before, 8)
        assert.deepInclude(device.info.fallbacks!.at(-1)!, { program: "rounds", operator: "Round" })
      }).pipe(Effect.scoped)
    )

    it.effect("a program with more than may be is refused with their names, unless it is allowed", () =>
      Effect.gen(function* () {
        const device = yield* Device
        const held = (yield* device.stats).bytes
        const refused = yield* Effect.flip(device.load(rounds(9)))
        assert.match(
          refused.message,
          /^Program rounds cannot be loaded: 9 of its nodes .*, more than 8, .*round.*Round#\d+.*OVERTONE_WEBGPU_FALLBACKS=any$/
        )
        assert.strictEqual((yield* device.stats).bytes, held)
        const allowed = yield* Device.pipe(Effect.provide(OnnxWebGpu.layer({ fallbacks: 9 })))
        yield* allowed.load(rounds(9))
      }).pipe(Effect.scoped)
    )

    it.effect("wrong feeds are named; memory is flat over 200 runs and over programs given up", () =>
      Effect.gen(function* () {
        const device = yield* Device
        const step = descent()
        const loaded = yield* device.load(step)
        const weight = yield* device.tensor({ name: "w", dtype: "f32", shape: [64, 48] })
        const wrong = yield* Effect.flip(
          device.run(loaded, { x: f32([1, 2], [1, 2]), y: f32([1, 64], random(64)), w: weight })
        )
        assert.strictEqual(wrong.reason._tag, "ShapeMismatch")
        const feeds = { x: f32([1, 48], random(48)), y: f32([1, 64], random(64)), w: weight }
        yield* device.run(loaded, feeds, { w: weight })
        const { bytes } = yield* device.stats
        for (let i = 0; i < 200; i++) yield* device.run(loaded, feeds, { w: weight })
        assert.strictEqual((yield* device.stats).bytes, bytes)
        assert.match(`${device.info.adapter}`, /\w/)
        assert.strictEqual(device.info.provider, "webgpu")
        rmSync(folder, { recursive: true, force: true })
      }).pipe(Effect.scoped)
    )
  })
})
