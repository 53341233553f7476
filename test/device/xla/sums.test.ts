/** Cumulative sums on XLA, to the bit: the order of additions is part of what sampling rests on. */
import { it } from "@effect/vitest"
import { Effect } from "effect"
import { describe, expect } from "vitest"
import { Device } from "../../../src/device/Device.ts"
import { f32 } from "../../../src/device/HostTensor.ts"
import { stream, uniforms } from "../../../src/device/random.ts"
import { cumulativeSum } from "../../../src/tensor/ops/reduce.ts"
import { program } from "../../../src/tensor/Program.ts"
import { input } from "../../../src/tensor/Tensor.ts"
import { absent, titled, xlaCpu } from "./support.ts"

/**
 * In blocks of ceil(sqrt n): one after the other within a block, then one after the other over the blocks' sums, and what comes
 * before a block on top of its own.
 */
const inBlocks = (x: Float32Array): Float32Array => {
  const width = Math.ceil(Math.sqrt(x.length))
  const out = new Float32Array(x.length)
  let before = 0
  for (let block = 0; block < x.length; block += width) {
    let sum = 0
    for (let i = block; i < Math.min(block + width, x.length); i++) {
      sum = Math.fround(sum + x[i]!)
      out[i] = Math.fround(before + sum)
    }
    before = Math.fround(before + sum)
  }
  return out
}

describe.skipIf(absent !== undefined)(titled("a cumulative sum"), () => {
  // of the lengths' roots some are less than a trip of the loop, some a multiple of it, some neither
  it.effect.each([17, 700, 1024, 1500])("of %d numbers adds one after the other, and a zero changes nothing", (n) =>
    Effect.gen(function* () {
      const rows = 3
      // a third of the numbers is 0, as probabilities outside a nucleus are
      const values = uniforms(stream(0, "sums", n), rows * n).map((u, i) => (i % 3 === 1 ? 0 : u * u))
      const device = yield* Device
      const loaded = yield* device.load(
        program("sums", { outputs: { y: cumulativeSum(input("x", "f32", [rows, n]), 1) } })
      )
      const { y } = yield* device.run(loaded, { x: f32([rows, n], values) })
      for (let row = 0; row < rows; row++) {
        const found = Float32Array.from(y!.data.subarray(row * n, (row + 1) * n), Number)
        expect(found).toEqual(inBlocks(values.slice(row * n, (row + 1) * n)))
        const moved = [...found.keys()].filter((i) => i > 0 && values[row * n + i] === 0 && found[i] !== found[i - 1])
        expect(moved).toEqual([])
      }
    }).pipe(Effect.scoped, Effect.provide(xlaCpu))
  )
})
