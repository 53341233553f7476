/** Part a: what the card does at best, by programs that do nothing else. All other speeds are read beside these. */
import { Effect } from "effect"
import { Device } from "../../src/device/Device.ts"
import { toBFloat16 } from "../../src/models/safetensors/dtypes.ts"
import { loop } from "../../src/tensor/ops/control.ts"
import { dot } from "../../src/tensor/ops/dot.ts"
import { add } from "../../src/tensor/ops/elementwise.ts"
import { type Program, program } from "../../src/tensor/Program.ts"
import { input, type Tensor } from "../../src/tensor/Tensor.ts"
import { median } from "../median.ts"
import { deviceOf, type Step } from "./Setting.ts"
import { drawn, secondsOf, timed } from "./timing.ts"

/** Adds a number to all elements, `trips` times: each trip reads and writes them once. */
const copying = (count: number, trips: number): Program => {
  const x = input("x", "f32", [count])
  const by = input("by", "f32", [])
  const { carried } = loop({ trips, carried: [x] }, (state) => ({ carried: [add(state.carried[0]!, by)] }))
  return program("copy", { outputs: { y: carried[0]! }, donate: { y: "x" } })
}

/** Products of one trip: between trips a product is copied to where the next trip looks for it. */
const perTrip = 8

/** x <- x w, `perTrip` times a trip, all in bf16 with sums in float32. */
const multiplying = (n: number, trips: number): Program => {
  const x = input("x", "bf16", [n, n])
  const w = input("w", "bf16", [n, n])
  const several = (from: Tensor) => Array.from({ length: perTrip }).reduce<Tensor>((y) => dot(y, w), from)
  const { carried } = loop({ trips, carried: [x] }, (state) => ({ carried: [several(state.carried[0]!)] }))
  return program("multiply", { outputs: { y: carried[0]! }, donate: { y: "x" } })
}

export const ceilings: Step = (setting) =>
  Effect.gen(function* () {
    const device = yield* Device
    const { tiny } = setting
    const found: Record<string, number> = {}
    const keep = (name: string, value: number) => {
      found[name] = value
      setting.keep(found)
    }

    const [count, trips] = tiny ? [2 ** 16, 4] : [2 ** 28, 32]
    const x = yield* device.tensor({ name: "x", dtype: "f32", shape: [count] }, "zeros")
    const by = yield* device.tensor({ name: "by", dtype: "f32", shape: [] }, Float32Array.of(1))
    const seconds = yield* secondsOf(copying(count, trips), { x, by }, { y: x }, 5)
    keep("copyGBs", (8 * count * trips) / seconds / 1e9)

    const [n, rounds] = tiny ? [64, 2] : [8192, 4]
    // a deviation of n^-1/2 keeps the elements' size from product to product
    const matrix = (name: string, deviation: number) => {
      const block = toBFloat16(drawn(name, n * Math.min(n, 1024), deviation))
      const values = new Uint16Array(n * n)
      for (let at = 0; at < values.length; at += block.length) values.set(block, at)
      return device.tensor({ name, dtype: "bf16", shape: [n, n] }, values)
    }
    const [a, w] = [yield* matrix("a", 1), yield* matrix("w", n ** -0.5)]
    const each = yield* secondsOf(multiplying(n, rounds), { x: a, w }, { y: a }, 5)
    keep("matmulTFLOPs", (2 * n ** 3 * perTrip * rounds) / each / 1e12)

    const host = new Float32Array(tiny ? 2 ** 16 : 2 ** 26).fill(1)
    const moved = yield* device.tensor({ name: "moved", dtype: "f32", shape: [host.length] }, host)
    const gb = host.byteLength / 1e9
    // the call may return before the elements are there: a program that reads them, and gives one, waits
    const one = program("first", { outputs: { y: add(input("x", "f32", [host.length]), 1) }, donate: { y: "x" } })
    const loaded = yield* device.load(one)
    const use = device.run(loaded, { x: moved }, { y: moved })
    const used = median(yield* timed(use, 5))
    keep("hostToDeviceGBs", gb / (median(yield* timed(Effect.andThen(device.write(moved, host), use), 5)) - used))
    keep("deviceToHostGBs", gb / median(yield* timed(device.read(moved), 5)))

    const small = yield* device.tensor({ name: "small", dtype: "f32", shape: [8] }, "zeros")
    const tick = program("tick", { outputs: { y: add(input("x", "f32", [8]), 1) }, donate: { y: "x" } })
    const called = yield* device.load(tick)
    keep("callMicroseconds", 1e6 * median(yield* timed(device.run(called, { x: small }, { y: small }), 200)))
    return found
  }).pipe(Effect.scoped, Effect.provide(deviceOf(setting, "f32")))
