/** Tensors that live on the CPU device between runs: in place, as state, as caches, as constants. */
import { describe, expect, layer } from "@effect/vitest"
import { Effect, Exit, Scope } from "effect"
import { Device } from "../../src/device/Device.ts"
import { f32, i32, scalarOf } from "../../src/device/HostTensor.ts"
import { OnnxCpu } from "../../src/device/onnx/OnnxCpu.ts"
import { adamw } from "../../src/tensor/composites/adamw.ts"
import { cachedAttention } from "../../src/tensor/composites/cachedAttention.ts"
import { linear } from "../../src/tensor/composites/linear.ts"
import { interpret } from "../../src/tensor/interpret.ts"
import { dot } from "../../src/tensor/ops/dot.ts"
import { add, mul, tanh } from "../../src/tensor/ops/elementwise.ts"
import { reduceSum } from "../../src/tensor/ops/reduce.ts"
import { program } from "../../src/tensor/Program.ts"
import { input } from "../../src/tensor/Tensor.ts"
import { nativeMemory } from "../support/nativeMemory.ts"
import { affine, closeTo, normal, numbers } from "./support.ts"

layer(OnnxCpu.layer({ threads: 2 }))("the CPU device", (it) => {
  describe("tensors that live on the device", () => {
    it.effect("are updated in place where the program allows it, and through a copy where it does not", () =>
      Effect.gen(function* () {
        const device = yield* Device
        const p = input("p", "f32", [4])
        // `late` reads p after `p` could have been overwritten: its donation is not safe, the result must be right anyway
        const updates = {
          safe: program("safe", { outputs: { p: add(mul(p, 0.5), 1) }, donate: { p: "p" } }),
          late: program("late", {
            outputs: { p: mul(p, 2), other: reduceSum(mul(p, tanh(tanh(tanh(mul(p, 1)))))) },
            donate: { p: "p" }
          })
        }
        const place = yield* device.tensor({ name: "p", dtype: "f32", shape: [4] }, Float32Array.of(1, 2, 3, 4))
        const safe = yield* device.load(updates.safe)
        const late = yield* device.load(updates.late)
        expect([safe.inPlace, late.inPlace]).toEqual([["p"], []])
        yield* device.run(safe, { p: place }, { p: place })
        yield* device.run(safe, { p: place }, { p: place })
        expect(numbers(yield* device.read(place))).toEqual([1.75, 2, 2.25, 2.5])
        const { other } = yield* device.run(late, { p: place }, { p: place })
        const t3 = (v: number) => v * Math.tanh(Math.tanh(Math.tanh(v)))
        expect(scalarOf(other!)).toBeCloseTo(t3(1.75) + t3(2) + t3(2.25) + t3(2.5), 5)
        expect(numbers(yield* device.read(place))).toEqual([3.5, 4, 4.5, 5])
      }).pipe(Effect.scoped)
    )

    it.effect("hold AdamW's state: five steps in place are five steps of the reference", () =>
      Effect.gen(function* () {
        const device = yield* Device
        const matrix = (name: string) => input(name, "f32", [5, 3])
        const [p, g, m, v] = [matrix("p"), matrix("g"), matrix("m"), matrix("v")]
        const scalars = ["lr", "c1", "c2"].map((name) => input(name, "f32", []))
        const next = adamw(
          { param: p, grad: g, m, v },
          { learningRate: scalars[0]!, correction1: scalars[1]!, correction2: scalars[2]!, weightDecay: 0.1 }
        )
        const names = { p: "p", m: "m", v: "v" }
        const step = program("adamw", { outputs: { p: next.param, m: next.m, v: next.v }, donate: names })
        const loaded = yield* device.load(step)
        expect(loaded.inPlace.toSorted()).toEqual(["m", "p", "v"])
        const start = normal("adam", [5, 3])
        const tensor = (name: string) => device.tensor({ name, dtype: "f32", shape: [5, 3] })
        const state = { p: yield* tensor("p"), m: yield* tensor("m"), v: yield* tensor("v") }
        yield* device.write(state.p, start.data)
        let want: Record<string, ArrayLike<number>> = {
          p: start.data,
          m: new Float32Array(15),
          v: new Float32Array(15)
        }
        for (let i = 1; i <= 5; i++) {
          const grad = normal(`g${i}`, [5, 3])
          const rest = { lr: [1e-2], c1: [1 - 0.9 ** i], c2: [1 - 0.999 ** i] }
          const host = Object.fromEntries(Object.entries(rest).map(([k, value]) => [k, f32([], value)]))
          expect(yield* device.run(loaded, { ...state, g: grad, ...host }, state)).toEqual({})
          const feeds = { ...want, g: grad.data }
          const shaped = Object.entries(feeds).map(([k, data]) => [k, { shape: [5, 3], data }])
          const reference = interpret(step, {
            ...Object.fromEntries(shaped),
            ...Object.fromEntries(Object.entries(rest).map(([k, data]) => [k, { shape: [], data }]))
          })
          want = Object.fromEntries(Object.entries(reference.outputs).map(([k, { data }]) => [k, data]))
        }
        for (const name of ["p", "m", "v"] as const) closeTo(numbers(yield* device.read(state[name])), want[name]!)
      }).pipe(Effect.scoped)
    )

    it.effect.each([8, 6])("hold a cache of heads %i wide: steps in place are the reference's steps", (width) =>
      Effect.gen(function* () {
        const device = yield* Device
        const [batch, heads, kvHeads, capacity] = [3, 4, 2, 7]
        const tensor = (name: string, count: number) => input(name, "f32", ["batch", 1, count, width])
        const cache = (name: string) => input(name, "f32", ["batch", kvHeads, "capacity", width])
        const [q, k, v] = [tensor("q", heads), tensor("k", kvHeads), tensor("v", kvHeads)]
        const made = cachedAttention(q, k, v, { k: cache("ck"), v: cache("cv") }, input("lengths", "i32", ["batch"]))
        const outputs = { out: made.out, ck: made.cache.k, cv: made.cache.v }
        const step = program("step", { outputs, donate: { ck: "ck", cv: "cv" } })
        const loaded = yield* device.load(step)
        expect(loaded.inPlace.toSorted()).toEqual(["ck", "cv"])
        const shape = [batch, kvHeads, capacity, width]
        const start = { ck: normal("ck", shape), cv: normal("cv", shape) }
        const places = {
          ck: yield* device.tensor({ name: "ck", dtype: "f32", shape }, start.ck.data),
          cv: yield* device.tensor({ name: "cv", dtype: "f32", shape }, start.cv.data)
        }
        let held: Record<string, ArrayLike<number>> = { ck: start.ck.data, cv: start.cv.data }
        // rows at different depths, one empty, one that fills the cache
        let lengths = [0, 2, capacity - 3]
        for (let i = 0; i < 3; i++) {
          const fresh = {
            q: normal(`q${i}`, [batch, 1, heads, width]),
            k: normal(`k${i}`, [batch, 1, kvHeads, width]),
            v: normal(`v${i}`, [batch, 1, kvHeads, width])
          }
          const got = yield* device.run(loaded, { ...fresh, ...places, lengths: i32([batch], lengths) }, places)
          const reference = interpret(step, {
            ...fresh,
            ck: { shape, data: held["ck"]! },
            cv: { shape, data: held["cv"]! },
            lengths: { shape: [batch], data: lengths }
          }).outputs
          closeTo(numbers(got["out"]!), reference["out"]!.data)
          held = { ck: reference["ck"]!.data, cv: reference["cv"]!.data }
          for (const name of ["ck", "cv"] as const)
            closeTo(numbers(yield* device.read(places[name])), held[name]!, 1e-7)
          lengths = lengths.map((n) => n + 1)
        }
      }).pipe(Effect.scoped)
    )

    it.effect("may be constants: as fast initialisers, that refuse to change while a program holds them", () =>
      Effect.gen(function* () {
        const device = yield* Device
        const weights = yield* device.tensor(
          { name: "w", dtype: "f32", shape: [2, 3] },
          Float32Array.of(1, 1, 1, 0, 2, -1)
        )
        const feeds = { x: f32([1, 3], [1, 2, 3]) }
        const scope = yield* Scope.make()
        const loaded = yield* device.load(affine, { constants: { w: weights } }).pipe(Scope.provide(scope))
        expect(numbers((yield* device.run(loaded, feeds))["y"]!)).toEqual([7, 2])
        const error = yield* Effect.flip(device.write(weights, new Float32Array(6)))
        expect(error.message).toMatch(/w is a constant of a loaded program/)
        // given up, changed and loaded again, the new values count: no trace of the old
        yield* Scope.close(scope, Exit.void)
        yield* device.write(weights, Float32Array.of(0, 0, 0, 0, 0, 2))
        const again = yield* device.load(affine, { constants: { w: weights } })
        expect(numbers((yield* device.run(again, feeds))["y"]!)).toEqual([1, 7])
      }).pipe(Effect.scoped)
    )

    it.effect("share what is made of constants between programs, and give it up with the last", () =>
      Effect.gen(function* () {
        const device = yield* Device
        const shape = [2048, 4096]
        const weights = yield* device.tensor(
          { name: "w", dtype: "f32", shape },
          new Float32Array(2048 * 4096).fill(0.5)
        )
        const [a, b] = [input("a", "f32", ["n", 4096]), input("b", "f32", shape)]
        const loadOf = (name: string) =>
          device.load(program(name, { outputs: { [name]: linear(a, b) } }), { constants: { b: weights } })
        const held = Effect.sync(() => nativeMemory() / 2 ** 20)
        const before = yield* held
        yield* Effect.scoped(
          Effect.gen(function* () {
            yield* loadOf("one")
            const one = yield* held
            yield* loadOf("two")
            yield* loadOf("three")
            // each would take 32 MiB for a copy of its own
            expect((yield* held) - one).toBeLessThan(16)
          })
        )
        expect((yield* held) - before).toBeLessThan(16)
      }).pipe(Effect.scoped)
    )

    it.effect("give constants that agree with fed weights", () =>
      Effect.gen(function* () {
        const device = yield* Device
        const [a, b] = [input("a", "f32", ["n", 64]), input("b", "f32", [96, 64])]
        const product = program("product", { outputs: { y: tanh(dot(a, b, { transposeRight: true })) } })
        const place = yield* device.tensor({ name: "b", dtype: "f32", shape: [96, 64] }, normal("b", [96, 64]).data)
        const fed = yield* device.load(product)
        const constant = yield* device.load(product, { constants: { b: place } })
        const rows = normal("a", [33, 64])
        const one = yield* device.run(fed, { a: rows, b: place })
        const two = yield* device.run(constant, { a: rows })
        closeTo(numbers(two["y"]!), numbers(one["y"]!), 2e-6)
        // a row does not depend on its company
        const alone = yield* device.run(constant, { a: f32([1, 64], rows.data.subarray(0, 64)) })
        expect(numbers(alone["y"]!)).toEqual(numbers(two["y"]!).slice(0, 96))
      }).pipe(Effect.scoped)
    )
  })
})
