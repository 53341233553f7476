/** Random weights that are made on the device: their deviations, and that they have no pattern that a product would see. */
import { it } from "@effect/vitest"
import { Effect } from "effect"
import { describe, expect } from "vitest"
import { draw } from "../../bench/gpu/draw.ts"
import { Device } from "../../src/device/Device.ts"
import { type ParameterSpec, single } from "../../src/models/parameters.ts"
import { fromBFloat16 } from "../../src/models/safetensors/dtypes.ts"
import { absent, titled, xlaCpu } from "../device/xla/support.ts"

const [rows, columns] = [256, 128]
const normal = { kind: "normal", deviation: 0.05 } as const
const table: ReadonlyArray<ParameterSpec> = [
  single("a", [rows, columns], normal),
  single("b", [rows, columns], normal),
  { ...single("c", [rows, columns], normal), stored: "bf16" },
  single("d", [columns], { kind: "constant", value: 1 }),
  single("e", [rows, columns], { kind: "uniform", bound: 0.3 })
]

const mean = (values: Float32Array) => values.reduce((sum, value) => sum + value, 0) / values.length
const deviation = (values: Float32Array) => Math.sqrt(mean(values.map((value) => value * value)))
/** Mean product of two arrays over their deviations: within 4 / sqrt(n) of 0 for independent numbers, but once in 16,000. */
const correlation = (a: Float32Array, b: Float32Array) =>
  mean(a.map((value, i) => value * b[i]!)) / (deviation(a) * deviation(b))

describe.skipIf(absent !== undefined)(titled("weights drawn on the device"), () => {
  it.effect("have the deviations asked for, and differ from tensor to tensor and row to row", () =>
    Effect.gen(function* () {
      const device = yield* Device
      const weights = yield* draw(table, 0)
      const valuesOf = (name: string) =>
        Effect.map(device.read(weights.get(name)!), ({ data }) =>
          data instanceof Uint16Array ? fromBFloat16(data) : Float32Array.from(data, Number)
        )
      const [a, b, c, d, e] = yield* Effect.forEach(["a", "b", "c", "d", "e"], valuesOf)
      const close = 4 / Math.sqrt(rows * columns)
      for (const values of [a!, b!, c!]) {
        // of a uniform number's square the relative deviation is sqrt(4 / 5)
        expect(Math.abs(deviation(values) / 0.05 - 1)).toBeLessThan(close)
        expect(Math.abs(mean(values)) / 0.05).toBeLessThan(close)
      }
      expect(deviation(e!) / (0.3 / Math.sqrt(3))).toBeCloseTo(1, 1)
      expect(Math.max(...e!)).toBeLessThanOrEqual(Math.fround(0.3))
      expect(d).toEqual(new Float32Array(columns).fill(1))
      expect(Math.abs(correlation(a!, b!))).toBeLessThan(close)
      for (const shift of [1, 2, columns, 2 * columns, 64 * columns]) {
        expect(Math.abs(correlation(a!.subarray(shift), a!.subarray(0, -shift)))).toBeLessThan(1.2 * close)
      }
      const again = yield* draw(table, 0)
      expect((yield* device.read(again.get("a")!)).data).toEqual((yield* device.read(weights.get("a")!)).data)
      const other = yield* draw(table.slice(0, 1), 1)
      expect((yield* device.read(other.get("a")!)).data).not.toEqual(a)
    }).pipe(Effect.scoped, Effect.provide(xlaCpu))
  )
})
