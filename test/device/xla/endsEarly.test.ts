/** A loop that may end early does on XLA, padded or not; devices that run all of its trips give the same. */
import { Effect } from "effect"
import { describe, expect, it } from "vitest"
import { Device } from "../../../src/device/Device.ts"
import { f32, i32 } from "../../../src/device/HostTensor.ts"
import { OnnxCpu } from "../../../src/device/onnx/OnnxCpu.ts"
import { loop } from "../../../src/tensor/ops/control.ts"
import { add, and, cast, greater, mul, select, sub } from "../../../src/tensor/ops/elementwise.ts"
import { constant } from "../../../src/tensor/ops/leaf.ts"
import { mayEndEarly } from "../../../src/tensor/ops/mayEndEarly.ts"
import { reduceMax } from "../../../src/tensor/ops/reduce.ts"
import { program } from "../../../src/tensor/Program.ts"
import { input } from "../../../src/tensor/Tensor.ts"
import { numbers, onDevice } from "../support.ts"
import { absent, titled, xlaCpu } from "./support.ts"

const trips = 40
/** Doubles every row until `left` trips are done or one row is greater than 100; stacks the rows. */
const doubling = () => {
  const x = input("x", "f32", ["rows"])
  const { carried, stacked } = mayEndEarly(
    loop({ trips, carried: [input("left", "i32", []), constant(0, "i32"), x] }, ({ carried: [left, done, rows] }) => {
      const going = greater(left!, 0)
      const next = select(going, mul(rows!, 2), rows!)
      const small = sub(1, cast(greater(reduceMax(next, 0), 100), "i32"))
      return {
        carried: [
          select(and(going, greater(small, 0)), sub(left!, 1), constant(0, "i32")),
          add(done!, cast(going, "i32")),
          next
        ],
        stacked: [next]
      }
    })
  )
  return program("doubling", { outputs: { done: carried[1]!, rows: carried[2]!, all: stacked[0]! } })
}

const doubled = (rows: ReadonlyArray<number>, left: number) =>
  Effect.gen(function* () {
    const device = yield* Device
    const found = yield* device.run(yield* device.load(doubling()), {
      left: i32([], [left]),
      x: f32([rows.length], rows)
    })
    return { done: numbers(found["done"]!)[0]!, rows: numbers(found["rows"]!), all: numbers(found["all"]!) }
  }).pipe(Effect.scoped)

const cases = [
  // 2, 4, ..., 128: seven trips
  { rows: [1, 0.5, 0.25], left: trips, done: 7 },
  { rows: [1, 0.5, 0.25], left: 3, done: 3 },
  // 33 rows are computed as 48, of which 15 hold nothing
  { rows: Array.from({ length: 33 }, (_, i) => 60 - i), left: trips, done: 1 },
  { rows: [1e-9], left: trips, done: 37 }
]

it("runs all trips where a device cannot end early, and nothing changes after the end", async () => {
  for (const { done, left, rows } of cases) {
    const found = await onDevice(OnnxCpu.layer({ threads: 1 }))(doubled(rows, left))
    expect(found.done).toBe(done)
    expect(found.rows).toEqual(rows.map((x) => Math.fround(x) * 2 ** done))
    expect(found.all.slice(-rows.length)).toEqual(found.rows)
  }
})

describe.skipIf(absent !== undefined)(titled("on XLA"), () => {
  it("leaves out the trips after the end", async () => {
    for (const { done, left, rows } of cases) {
      const found = await onDevice(xlaCpu)(doubled(rows, left))
      expect(found.done).toBe(done)
      expect(found.rows).toEqual(rows.map((x) => Math.fround(x) * 2 ** done))
      expect(found.all.slice((done - 1) * rows.length, done * rows.length)).toEqual(found.rows)
      // nothing was stacked by trips that were not run
      expect(found.all.slice(done * rows.length).every((x) => x === 0)).toBe(true)
    }
  })
})
