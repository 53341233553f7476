/** What the CPU device refuses: the error names the tensor, the program or the node. */
import { describe, expect, layer } from "@effect/vitest"
import { Effect } from "effect"
import { Device } from "../../src/device/Device.ts"
import { f32, i32 } from "../../src/device/HostTensor.ts"
import { OnnxCpu } from "../../src/device/onnx/OnnxCpu.ts"
import { dot } from "../../src/tensor/ops/dot.ts"
import { segmentSum } from "../../src/tensor/ops/indexing.ts"
import { program } from "../../src/tensor/Program.ts"
import { input } from "../../src/tensor/Tensor.ts"
import { affine, numbers } from "./support.ts"

layer(OnnxCpu.layer({ threads: 2 }))("the CPU device", (it) => {
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
})
