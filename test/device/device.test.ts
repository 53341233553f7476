import { createHash } from "node:crypto"
import { describe, expect, layer } from "@effect/vitest"
import { Effect, Exit, Scope } from "effect"
import { Device } from "../../src/device/Device.ts"
import { f32, hostTensor, i32, scalarOf } from "../../src/device/HostTensor.ts"
import { onnxNumericClass, runtimeVersion } from "../../src/device/onnx/numericClass.ts"
import { OnnxCpu } from "../../src/device/onnx/OnnxCpu.ts"
import { normals, stream } from "../../src/device/random.ts"
import { adamw } from "../../src/tensor/composites/adamw.ts"
import { cachedAttention } from "../../src/tensor/composites/cachedAttention.ts"
import { linear } from "../../src/tensor/composites/linear.ts"
import { interpret } from "../../src/tensor/interpret.ts"
import { dot } from "../../src/tensor/ops/dot.ts"
import { add, mul, tanh } from "../../src/tensor/ops/elementwise.ts"
import { putAlong, segmentSum } from "../../src/tensor/ops/indexing.ts"
import { reduceSum } from "../../src/tensor/ops/reduce.ts"
import { reshape, slice } from "../../src/tensor/ops/shape.ts"
import { program } from "../../src/tensor/Program.ts"
import { input } from "../../src/tensor/Tensor.ts"

const normal = (name: string, shape: ReadonlyArray<number>) =>
  f32(
    shape,
    normals(
      stream(7, name),
      shape.reduce((n, d) => n * d, 1)
    )
  )
const numbers = (x: { readonly data: ArrayLike<number | bigint> }) => Array.from(x.data, Number)
const hash = (x: { readonly data: NodeJS.TypedArray }) => createHash("sha256").update(x.data).digest("hex")
const closeTo = (actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance = 1e-5) => {
  const scale = Array.from(expected).reduce((most, v) => Math.max(most, Math.abs(v)), 0)
  for (let i = 0; i < expected.length; i++) {
    expect(Math.abs(actual[i]! - expected[i]!), `element ${i}`).toBeLessThanOrEqual(tolerance * scale)
  }
}

const x = input("x", "f32", ["batch", 3])
const w = input("w", "f32", [2, 3])
const affine = program("affine", { outputs: { y: add(linear(x, w), 1) } })

layer(OnnxCpu.layer({ threads: 2 }))("the CPU device", (it) => {
  describe("running", () => {
    it.effect("gives what arithmetic says, for one loaded program at several sizes", () =>
      Effect.gen(function* () {
        const device = yield* Device
        const loaded = yield* device.load(affine)
        // rows (1,2,3) and (0,1,0) by columns (1,1,1) and (0,2,-1), plus 1
        const weights = f32([2, 3], [1, 1, 1, 0, 2, -1])
        const two = yield* device.run(loaded, { x: f32([2, 3], [1, 2, 3, 0, 1, 0]), w: weights })
        expect(two["y"]).toEqual(f32([2, 2], [7, 2, 2, 3]))
        const one = yield* device.run(loaded, { x: f32([1, 3], [0, 1, 0]), w: weights })
        expect(one["y"]).toEqual(f32([1, 2], [2, 3]))
        const none = yield* device.run(loaded, { x: f32([0, 3], []), w: weights })
        expect(none["y"]).toEqual(f32([0, 2], []))
      }).pipe(Effect.scoped)
    )

    it.effect("returns copies: a later run does not change an earlier result", () =>
      Effect.gen(function* () {
        const device = yield* Device
        const loaded = yield* device.load(affine)
        const weights = f32([2, 3], [1, 1, 1, 0, 2, -1])
        const first = yield* device.run(loaded, { x: f32([1, 3], [1, 2, 3]), w: weights })
        yield* device.run(loaded, { x: f32([1, 3], [9, 9, 9]), w: weights })
        expect(numbers(first["y"]!)).toEqual([7, 2])
      }).pipe(Effect.scoped)
    )

    it.effect("shares one loaded copy between equal programs until the last scope closes", () =>
      Effect.gen(function* () {
        const device = yield* Device
        const scope = yield* Scope.make()
        const first = yield* device.load(affine).pipe(Scope.provide(scope))
        const second = yield* device.load(program("affine", { outputs: { y: add(linear(x, w), 1) } }))
        expect([first.loadMs > 0, second.loadMs]).toEqual([true, 0])
        yield* Scope.close(scope, Exit.void)
        const feeds = { x: f32([1, 3], [1, 2, 3]), w: f32([2, 3], [1, 1, 1, 0, 2, -1]) }
        expect(numbers((yield* device.run(second, feeds))["y"]!)).toEqual([7, 2])
        const error = yield* Effect.flip(device.run(first, feeds))
        expect(error.reason._tag).toBe("Released")
      }).pipe(Effect.scoped)
    )

    it.effect("passes every dtype that host tensors have through a program", () =>
      Effect.gen(function* () {
        const device = yield* Device
        const [a, b, c] = [input("a", "i64", ["n"]), input("b", "bool", ["n"]), input("c", "i32", ["n"])]
        const loaded = yield* device.load(program("dtypes", { outputs: { a: add(a, a), b, c: mul(c, c) } }))
        const outputs = yield* device.run(loaded, {
          a: hostTensor("i64", [2], BigInt64Array.of(3n, -(2n ** 40n))),
          b: hostTensor("bool", [2], Uint8Array.of(1, 0)),
          c: i32([2], [-3, 7])
        })
        expect(outputs["a"]!.data).toEqual(BigInt64Array.of(6n, -(2n ** 41n)))
        expect(numbers(outputs["b"]!)).toEqual([1, 0])
        expect(numbers(outputs["c"]!)).toEqual([9, 49])
      }).pipe(Effect.scoped)
    )
  })

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
        const [p, g, m, v] = ["p", "g", "m", "v"].map((name) => input(name, "f32", [5, 3])) as [
          typeof x,
          typeof x,
          typeof x,
          typeof x
        ]
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
        const rss = Effect.sync(() => process.memoryUsage().rss / 2 ** 20)
        const before = yield* rss
        yield* Effect.scoped(
          Effect.gen(function* () {
            yield* loadOf("one")
            const one = yield* rss
            yield* loadOf("two")
            yield* loadOf("three")
            // each would take 32 MiB for a copy of its own
            expect((yield* rss) - one).toBeLessThan(16)
          })
        )
        expect((yield* rss) - before).toBeLessThan(16)
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

  describe("sums by index", () => {
    const ids = Array.from({ length: 2048 }, (_, i) => (i * 37 + ((i * i) % 11)) % 64)
    const values = normal("values", [2048, 24])
    const reference = new Float64Array(64 * 24)
    ids.forEach((id, row) => {
      for (let j = 0; j < 24; j++) reference[id * 24 + j]! += values.data[row * 24 + j]!
    })

    it.effect("2,048 updates over 64 rows with two threads: one result in 20 runs, and the right one", () =>
      Effect.gen(function* () {
        const device = yield* Device
        const sums = segmentSum(input("values", "f32", ["n", 24]), input("ids", "i32", ["n"]), 64)
        const loaded = yield* device.load(program("sums", { outputs: { sums } }))
        const seen = new Set<string>()
        for (let i = 0; i < 20; i++) {
          const outputs = yield* device.run(loaded, { values, ids: i32([2048], ids) })
          seen.add(hash(outputs["sums"]!))
          closeTo(numbers(outputs["sums"]!), reference)
        }
        expect(seen.size).toBe(1)
      }).pipe(Effect.scoped)
    )

    it.effect("the same through putAlong", () =>
      Effect.gen(function* () {
        const device = yield* Device
        const flat = reshape(input("values", "f32", [2048, 24]), [-1])
        const at = input("at", "i32", [2048 * 24])
        const loaded = yield* device.load(program("put", { outputs: { y: putAlong(flat, at, 0, 64 * 24) } }))
        const positions = Array.from({ length: 2048 * 24 }, (_, i) => ids[Math.floor(i / 24)]! * 24 + (i % 24))
        const seen = new Set<string>()
        for (let i = 0; i < 20; i++) {
          const outputs = yield* device.run(loaded, { values, at: i32([2048 * 24], positions) })
          seen.add(hash(outputs["y"]!))
          closeTo(numbers(outputs["y"]!), reference)
        }
        expect(seen.size).toBe(1)
      }).pipe(Effect.scoped)
    )
  })

  describe("errors name the thing", () => {
    const cases = [
      [
        "a feed of another width",
        { x: f32([1, 4], [1, 2, 3, 4]) },
        "ShapeMismatch",
        /x of affine.*\[1, 4\].*f32\[batch, 3\]/
      ],
      [
        "a feed of another dtype",
        { x: i32([1, 3], [1, 2, 3]) },
        "ShapeMismatch",
        /x of affine.*f32\[batch, 3\], not i32/
      ],
      ["no feed", {}, "BadFeed", /input "x" .*has no feed/],
      [
        "a feed too many",
        { x: f32([1, 3], [1, 2, 3]), z: f32([], [1]) },
        "BadFeed",
        /affine: there is no input z; it has x/
      ]
    ] as const
    for (const [what, feeds, tag, message] of cases) {
      it.effect(what, () =>
        Effect.gen(function* () {
          const device = yield* Device
          const loaded = yield* device.load(affine)
          const error = yield* Effect.flip(device.run(loaded, { w: f32([2, 3], [1, 1, 1, 0, 2, -1]), ...feeds }))
          expect(error.reason._tag).toBe(tag)
          expect(error.message).toMatch(message)
        }).pipe(Effect.scoped)
      )
    }

    it.effect("an index out of range fails the run and names the node", () =>
      Effect.gen(function* () {
        const device = yield* Device
        const sums = segmentSum(input("v", "f32", ["n", 1]), input("ids", "i32", ["n"]), 3)
        const loaded = yield* device.load(program("bad-index", { outputs: { sums } }))
        const error = yield* Effect.flip(device.run(loaded, { v: f32([1, 1], [1]), ids: i32([1], [5]) }))
        expect(error.reason).toMatchObject({ _tag: "RunFailed", program: "bad-index" })
        expect(error.message).toMatch(/segmentSum\/Scatter/)
        // the program is still good
        expect(numbers((yield* device.run(loaded, { v: f32([1, 1], [2]), ids: i32([1], [1]) }))["sums"]!)).toEqual([
          0, 2, 0
        ])
      }).pipe(Effect.scoped)
    )

    it.effect("what the runtime cannot do fails when loaded and names the node", () =>
      Effect.gen(function* () {
        const device = yield* Device
        const half = input("half", "bf16", [4, 4])
        const error = yield* Effect.flip(device.load(program("sixteen", { outputs: { y: dot(half, half) } })))
        expect(error.reason._tag).toBe("LoadFailed")
        expect(error.message).toMatch(/sixteen.*dot\/MatMul/)
      }).pipe(Effect.scoped)
    )

    it.effect("a tensor after its scope, a wrong array, a tensor too large for the machine", () =>
      Effect.gen(function* () {
        const device = yield* Device
        const gone = yield* Effect.scoped(device.tensor({ name: "gone", dtype: "f32", shape: [2] }))
        expect((yield* Effect.flip(device.read(gone))).message).toMatch(/Tensor gone was used after its scope/)
        const here = yield* device.tensor({ name: "here", dtype: "f32", shape: [2] })
        expect((yield* Effect.flip(device.write(here, new Float32Array(3)))).reason._tag).toBe("ShapeMismatch")
        expect((yield* Effect.flip(device.write(here, new Int32Array(2)))).reason._tag).toBe("ShapeMismatch")
        const huge = yield* Effect.flip(device.tensor({ name: "huge", dtype: "f32", shape: [2 ** 24, 2 ** 24] }))
        expect(huge.message).toMatch(/Not enough memory for tensor huge \(\d+ bytes\)/)
      }).pipe(Effect.scoped)
    )
  })

  it.effect("memory is flat over 1,000 runs, and over programs loaded and given up", () =>
    Effect.gen(function* () {
      const device = yield* Device
      const [a, b] = [input("a", "f32", ["n", 64]), input("b", "f32", [256, 64])]
      const y = slice(tanh(dot(a, b, { transposeRight: true })), 1, 0, 3)
      const some = program("some", { outputs: { y } })
      const weights = yield* device.tensor({ name: "b", dtype: "f32", shape: [256, 64] }, normal("b", [256, 64]).data)
      const loaded = yield* device.load(some)
      const feeds = Array.from({ length: 20 }, (_, i) => ({ a: normal(`a${i}`, [200 + i, 64]), b: weights }))
      const runs = (n: number) =>
        Effect.gen(function* () {
          for (let i = 0; i < n; i++) yield* device.run(loaded, feeds[i % feeds.length]!)
        })
      const reload = Effect.scoped(
        Effect.flatMap(device.load(some, { constants: { b: weights } }), (own) => device.run(own, { a: feeds[0]!.a }))
      )
      yield* runs(200)
      yield* reload
      const before = process.memoryUsage().rss
      const held = (yield* device.stats).bytes
      yield* runs(1000)
      for (let i = 0; i < 30; i++) yield* reload
      expect((yield* device.stats).bytes).toBe(held)
      // 1,000 leaks of the smallest intermediate value (200 x 256 floats) would be 195 MiB
      expect(process.memoryUsage().rss - before).toBeLessThan(64 * 2 ** 20)
    }).pipe(Effect.scoped)
  )

  it.effect("a second device of the process may have another number of threads", () =>
    Effect.gen(function* () {
      const one = yield* Device.pipe(Effect.provide(OnnxCpu.layer({ threads: 1 })))
      const two = yield* Device
      expect([one.info.threads, two.info.threads]).toEqual([1, 2])
      const feeds = { x: normal("x", [64, 3]), w: normal("w", [2, 3]) }
      const outputs = yield* Effect.forEach([one, two], (device) =>
        Effect.flatMap(device.load(affine), (loaded) => device.run(loaded, feeds))
      )
      closeTo(numbers(outputs[0]!["y"]!), numbers(outputs[1]!["y"]!), 1e-6)
    }).pipe(Effect.scoped)
  )

  it.effect("its numeric class is what a plan computes without it", () =>
    Effect.gen(function* () {
      const { info } = yield* Device
      expect(info.runtime).toBe(runtimeVersion)
      expect(info.numericClass).toEqual(onnxNumericClass({ threads: 2, dtype: "f32" }, "cpu"))
      expect(info.numericClass.runtime).toContain(info.runtime)
      expect(info.provider).toBe("cpu")
    })
  )
})
