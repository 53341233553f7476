/** What a device promises, held on the CPU: running, sums by index, flat memory, threads, its class. */
import { createHash } from "node:crypto"
import { describe, expect, layer } from "@effect/vitest"
import { Effect, Exit, Scope } from "effect"
import { Device } from "../../src/device/Device.ts"
import { f32, hostTensor, i32 } from "../../src/device/HostTensor.ts"
import { onnxNumericClass, runtimeVersion } from "../../src/device/onnx/numericClass.ts"
import { OnnxCpu } from "../../src/device/onnx/OnnxCpu.ts"
import { dot } from "../../src/tensor/ops/dot.ts"
import { add, mul, tanh } from "../../src/tensor/ops/elementwise.ts"
import { putAlong, segmentSum } from "../../src/tensor/ops/indexing.ts"
import { reshape, slice } from "../../src/tensor/ops/shape.ts"
import { program } from "../../src/tensor/Program.ts"
import { input } from "../../src/tensor/Tensor.ts"
import { nativeMemory } from "../support/nativeMemory.ts"
import { affine, closeTo, makeAffine, normal, numbers } from "./support.ts"

const hash = (x: { readonly data: NodeJS.TypedArray }) => createHash("sha256").update(x.data).digest("hex")

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
        const second = yield* device.load(makeAffine())
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
      const before = nativeMemory()
      const held = (yield* device.stats).bytes
      yield* runs(1000)
      for (let i = 0; i < 30; i++) yield* reload
      expect((yield* device.stats).bytes).toBe(held)
      // 1,000 leaks of the smallest intermediate value (200 x 256 floats) would be 195 MiB
      expect(nativeMemory() - before).toBeLessThan(16 * 2 ** 20)
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
