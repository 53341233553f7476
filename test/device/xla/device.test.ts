/** What a device promises, held on XLA's CPU plugin; and what is XLA's own: padded sizes, the cache of executables, no leaks. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit, Logger, Scope } from "effect"
import { Device } from "../../../src/device/Device.ts"
import { f32, hostTensor, i32 } from "../../../src/device/HostTensor.ts"
import { xlaNumericClass } from "../../../src/device/xla/numericClass.ts"
import { cpuPlugin } from "../../../src/device/xla/plugins.ts"
import { XlaDevice } from "../../../src/device/xla/XlaDevice.ts"
import { adamw } from "../../../src/tensor/composites/adamw.ts"
import { softmax } from "../../../src/tensor/composites/softmax.ts"
import { interpret } from "../../../src/tensor/interpret.ts"
import { dot } from "../../../src/tensor/ops/dot.ts"
import { add, mul, tanh } from "../../../src/tensor/ops/elementwise.ts"
import { gather } from "../../../src/tensor/ops/indexing.ts"
import { reduceMean, reduceSum } from "../../../src/tensor/ops/reduce.ts"
import { reshape } from "../../../src/tensor/ops/shape.ts"
import { program } from "../../../src/tensor/Program.ts"
import { input } from "../../../src/tensor/Tensor.ts"
import { nativeMemory } from "../../support/nativeMemory.ts"
import { affine, closeTo, normal, numbers } from "../support.ts"
import { absent, titled, xlaCpu } from "./support.ts"

const weights = f32([2, 3], [1, 1, 1, 0, 2, -1])

const on = <A, E>(effect: Effect.Effect<A, E, Device | Scope.Scope>, device = xlaCpu) =>
  effect.pipe(Effect.scoped, Effect.provide(device))

describe.skipIf(absent !== undefined)(titled("XLA's CPU plugin as a device"), () => {
  it.effect("gives what arithmetic says at several sizes, 0 among them; results are copies", () =>
    on(
      Effect.gen(function* () {
        const device = yield* Device
        const loaded = yield* device.load(affine)
        const two = yield* device.run(loaded, { x: f32([2, 3], [1, 2, 3, 0, 1, 0]), w: weights })
        const one = yield* device.run(loaded, { x: f32([1, 3], [0, 1, 0]), w: weights })
        const none = yield* device.run(loaded, { x: f32([0, 3], []), w: weights })
        expect(two["y"]).toEqual(f32([2, 2], [7, 2, 2, 3]))
        expect(one["y"]).toEqual(f32([1, 2], [2, 3]))
        expect(none["y"]).toEqual(f32([0, 2], []))
      })
    )
  )

  it.effect("compiles sizes of one bucket once, and what fills it up changes nothing", () =>
    on(
      Effect.gen(function* () {
        const device = yield* Device
        const [a, ids] = [input("a", "f32", ["groups", "time", 4]), input("ids", "i32", ["picks"])]
        // a mean, a maximum's softmax and a look-up by flat index: each would see the padding if it could
        const flat = reshape(softmax(a), [-1, 4])
        const outputs = { mean: reduceMean(tanh(a), [0, 1]), picked: gather(flat, ids) }
        const loaded = yield* device.load(program("padded", { outputs }))
        for (const [rows, time, picks] of [
          [17, 33, 19],
          [18, 36, 20],
          [17, 35, 20]
        ] as const) {
          const feeds = {
            a: normal(`a${rows}`, [rows, time, 4]),
            ids: i32(
              [picks],
              Array.from({ length: picks }, (_, i) => (i * 37) % (rows * time))
            )
          }
          const got = yield* device.run(loaded, feeds)
          const want = interpret(loaded.program, feeds).outputs
          for (const name of ["mean", "picked"]) {
            expect(got[name]!.shape).toEqual(want[name]!.shape)
            closeTo(numbers(got[name]!), want[name]!.data)
          }
        }
        const stats = yield* device.stats
        expect(stats.compiled).toBe(1)
        expect(stats.paddingShare).toBeGreaterThan(0)
        expect(stats.paddingShare).toBeLessThan(0.1)
      })
    )
  )

  it.effect("passes every dtype of host tensors through", () =>
    on(
      Effect.gen(function* () {
        const device = yield* Device
        const [a, b, c] = [input("a", "i64", ["n"]), input("b", "bool", ["n"]), input("c", "u8", ["n"])]
        const loaded = yield* device.load(program("dtypes", { outputs: { a: add(a, a), b, c } }))
        const outputs = yield* device.run(loaded, {
          a: hostTensor("i64", [2], BigInt64Array.of(3n, -(2n ** 40n))),
          b: hostTensor("bool", [2], Uint8Array.of(1, 0)),
          c: hostTensor("u8", [2], Uint8Array.of(255, 7))
        })
        expect(outputs["a"]!.data).toEqual(BigInt64Array.of(6n, -(2n ** 41n)))
        expect([numbers(outputs["b"]!), numbers(outputs["c"]!)]).toEqual([
          [1, 0],
          [255, 7]
        ])
      })
    )
  )

  it.effect("shares one loaded copy of equal programs; refuses one whose scope closed", () =>
    on(
      Effect.gen(function* () {
        const device = yield* Device
        const scope = yield* Scope.make()
        const make = () => program("fixed", { outputs: { y: mul(input("p", "f32", [4]), 2) } })
        const first = yield* device.load(make()).pipe(Scope.provide(scope))
        const second = yield* device.load(make())
        expect([first.loadMs > 0, second.loadMs]).toEqual([true, 0])
        yield* Scope.close(scope, Exit.void)
        const feeds = { p: f32([4], [1, 2, 3, 4]) }
        expect(numbers((yield* device.run(second, feeds))["y"]!)).toEqual([2, 4, 6, 8])
        expect((yield* Effect.flip(device.run(first, feeds))).reason._tag).toBe("Released")
      })
    )
  )

  it.effect("updates tensors where they lie, and only those that it is told to", () =>
    on(
      Effect.gen(function* () {
        const device = yield* Device
        const p = input("p", "f32", [4])
        const late = program("late", {
          outputs: { p: mul(p, 2), other: reduceSum(tanh(p)) },
          donate: { p: "p" }
        })
        const loaded = yield* device.load(late)
        expect(loaded.inPlace).toEqual(["p"])
        const place = yield* device.tensor({ name: "p", dtype: "f32", shape: [4] }, Float32Array.of(1, 2, 3, 4))
        const other = yield* device.tensor({ name: "q", dtype: "f32", shape: [4] })
        yield* device.run(loaded, { p: place }, { p: place })
        expect(numbers(yield* device.read(place))).toEqual([2, 4, 6, 8])
        // to another place, and to the host: the donated input is kept
        yield* device.run(loaded, { p: place }, { p: other })
        const got = yield* device.run(loaded, { p: place })
        expect(numbers(yield* device.read(place))).toEqual([2, 4, 6, 8])
        expect([numbers(yield* device.read(other)), numbers(got["p"]!)]).toEqual([
          [4, 8, 12, 16],
          [4, 8, 12, 16]
        ])
        yield* device.write(place, Float32Array.of(1, 1, 1, 1))
        expect(numbers(yield* device.read(place))).toEqual([1, 1, 1, 1])
      })
    )
  )

  it.effect("constants refuse to change while a program holds them", () =>
    on(
      Effect.gen(function* () {
        const device = yield* Device
        const held = yield* device.tensor({ name: "w", dtype: "f32", shape: [2, 3] }, weights.data)
        const scope = yield* Scope.make()
        const loaded = yield* device.load(affine, { constants: { w: held } }).pipe(Scope.provide(scope))
        const feeds = { x: f32([1, 3], [1, 2, 3]) }
        expect(numbers((yield* device.run(loaded, feeds))["y"]!)).toEqual([7, 2])
        expect((yield* Effect.flip(device.write(held, new Float32Array(6)))).message).toMatch(/w is a constant of/)
        yield* Scope.close(scope, Exit.void)
        yield* device.write(held, Float32Array.of(0, 0, 0, 0, 0, 2))
        const again = yield* device.load(affine, { constants: { w: held } })
        expect(numbers((yield* device.run(again, feeds))["y"]!)).toEqual([1, 7])
      })
    )
  )

  it.effect("the same runs give the same bits", () =>
    on(
      Effect.gen(function* () {
        const device = yield* Device
        const [a, b] = [input("a", "f32", ["n", 96]), input("b", "f32", [96, 64])]
        const loaded = yield* device.load(program("bits", { outputs: { y: softmax(dot(a, b)) } }))
        const feeds = { a: normal("a", [77, 96]), b: normal("b", [96, 64]) }
        const first = yield* device.run(loaded, feeds)
        for (let i = 0; i < 10; i++) expect(yield* device.run(loaded, feeds)).toEqual(first)
      })
    )
  )

  it.effect("errors name the thing", () =>
    on(
      Effect.gen(function* () {
        const device = yield* Device
        const loaded = yield* device.load(affine)
        const fails = (feeds: Parameters<typeof device.run>[1]) =>
          Effect.map(
            Effect.flip(device.run(loaded, { w: weights, ...feeds })),
            ({ message, reason }) => `${reason._tag}: ${message}`
          )
        expect(yield* fails({ x: f32([1, 4], [1, 2, 3, 4]) })).toMatch(
          /^ShapeMismatch: x of affine.*\[1, 4\].*f32\[batch, 3\]/
        )
        expect(yield* fails({ x: i32([1, 3], [1, 2, 3]) })).toMatch(
          /^ShapeMismatch: x of affine.*f32\[batch, 3\], not i32/
        )
        expect(yield* fails({})).toMatch(/^BadFeed: .*input "x" .*has no feed/)
        expect(yield* fails({ x: f32([1, 3], [1, 2, 3]), z: f32([], [1]) })).toMatch(
          /^BadFeed: .*affine: there is no input z; it has x/
        )
        const gone = yield* Effect.scoped(device.tensor({ name: "gone", dtype: "f32", shape: [2] }))
        expect((yield* Effect.flip(device.read(gone))).message).toMatch(/Tensor gone was used after its scope/)
        const here = yield* device.tensor({ name: "here", dtype: "f32", shape: [2] })
        expect((yield* Effect.flip(device.write(here, new Float32Array(3)))).reason._tag).toBe("ShapeMismatch")
        const huge = yield* Effect.flip(device.tensor({ name: "huge", dtype: "f32", shape: [2 ** 24, 2 ** 24] }))
        expect(huge.message).toMatch(/Not enough memory for tensor huge \(\d+ bytes\)/)
      })
    )
  )

  it.effect("1,000 steps in place and programs of many sizes leave nothing behind", () =>
    on(
      Effect.gen(function* () {
        const device = yield* Device
        const [p, g, m, v] = ["p", "g", "m", "v"].map((name) => input(name, "f32", [256, 64]))
        const scalars = ["lr", "c1", "c2"].map((name) => input(name, "f32", []))
        const next = adamw(
          { param: p!, grad: mul(g!, p!), m: m!, v: v! },
          { learningRate: scalars[0]!, correction1: scalars[1]!, correction2: scalars[2]! }
        )
        const names = { p: "p", m: "m", v: "v" }
        const loaded = yield* device.load(
          program("step", {
            outputs: { p: next.param, m: next.m, v: next.v, norm: reduceSum(next.param) },
            donate: names
          })
        )
        const tensor = (name: string) => device.tensor({ name, dtype: "f32", shape: [256, 64] })
        const state = { p: yield* tensor("p"), m: yield* tensor("m"), v: yield* tensor("v") }
        const grad = normal("g", [256, 64])
        const one = { lr: f32([], [1e-3]), c1: f32([], [0.1]), c2: f32([], [0.001]) }
        const steps = (n: number) =>
          Effect.gen(function* () {
            for (let i = 0; i < n; i++) yield* device.run(loaded, { ...state, g: grad, ...one }, state)
          })
        yield* steps(200)
        const before = nativeMemory()
        const held = (yield* device.stats).bytes
        yield* steps(1000)
        expect((yield* device.stats).bytes).toBe(held)
        expect(held).toBe(3 * 256 * 64 * 4)
        // 1,000 leaks of one tensor would be 62 MiB
        expect(nativeMemory() - before).toBeLessThan(8 * 2 ** 20)
      })
    )
  )

  it.effect("a damaged entry of the cache is compiled again, and said; a whole one is loaded", () =>
    Effect.gen(function* () {
      const folder = mkdtempSync(join(tmpdir(), "overtone-executables-"))
      const said: Array<string> = []
      const logger = Logger.make(({ message }) => void said.push(String(message)))
      const layer = () => XlaDevice.layer({ plugin: cpuPlugin, executables: folder, quick: true })
      const once = on(
        Effect.gen(function* () {
          const device = yield* Device
          const loaded = yield* device.load(program("kept", { outputs: { y: tanh(input("p", "f32", [4])) } }))
          const { y } = yield* device.run(loaded, { p: f32([4], [0, 1, 2, 3]) })
          const { compiled, reloaded } = yield* device.stats
          return { y: numbers(y!), compiled, reloaded }
        }),
        layer()
      ).pipe(Effect.provide(Logger.layer([logger])))
      const first = yield* once
      expect(first).toMatchObject({ compiled: 1, reloaded: 0 })
      expect(yield* once).toEqual({ ...first, compiled: 0, reloaded: 1 })
      const [name] = readdirSync(folder)
      const file = join(folder, name!)
      const bytes = readFileSync(file)
      for (const damage of [
        () => void (bytes[bytes.length - 3]! ^= 1),
        () => void bytes.fill(0),
        () => void bytes.copy(bytes, 0, 60)
      ]) {
        damage()
        writeFileSync(file, bytes)
        expect(yield* once).toEqual(first)
      }
      expect(said.length).toBe(3)
      expect(said[0]).toMatch(/xla:cpu: .*is damaged .*compiled again/)
      expect(yield* once).toMatchObject({ compiled: 0, reloaded: 1 })
      rmSync(folder, { recursive: true })
    })
  )

  it.effect("its numeric class is what a plan computes without it", () =>
    on(
      Effect.gen(function* () {
        const { info } = yield* Device
        expect(info.numericClass).toEqual(xlaNumericClass({ dtype: "f32" }, "xla:cpu"))
        expect(info.provider).toBe("xla:cpu")
        expect(info.runtime).toContain(cpuPlugin.version)
      })
    )
  )
})
