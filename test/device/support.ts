/** Devices in tests: programs on plain arrays, drawn values, and how near results are. */
import { Effect, type Layer } from "effect"
import { expect } from "vitest"
import { Device } from "../../src/device/Device.ts"
import type { DeviceError } from "../../src/device/DeviceError.ts"
import { f32, type HostTensor, type TypedArray } from "../../src/device/HostTensor.ts"
import { normals, stream } from "../../src/device/random.ts"
import { linear } from "../../src/tensor/composites/linear.ts"
import type { Feed } from "../../src/tensor/interpret.ts"
import { add } from "../../src/tensor/ops/elementwise.ts"
import { type Program, program } from "../../src/tensor/Program.ts"
import { type Dtype, input } from "../../src/tensor/Tensor.ts"

/** y = x w^T + 1 for x [batch, 3] and w [2, 3]. A new program at each call, equal to the others. */
export const makeAffine = (): Program =>
  program("affine", { outputs: { y: add(linear(input("x", "f32", ["batch", 3]), input("w", "f32", [2, 3])), 1) } })
export const affine = makeAffine()

/** What suites are called that are skipped where something is absent: with the reason, if they are. */
export const titledBy =
  (absent: string | undefined) =>
  (title: string): string =>
    absent === undefined ? title : `${title} (skipped: ${absent})`

/** Elements drawn from a normal distribution, by name. */
export const normal = (name: string, shape: ReadonlyArray<number>) =>
  f32(
    shape,
    normals(
      stream(7, name),
      shape.reduce((n, d) => n * d, 1)
    )
  )

export const numbers = (x: { readonly data: ArrayLike<number | bigint> }): ReadonlyArray<number> =>
  Array.from(x.data, Number)

/** Every element within `tolerance` of the largest expected one. */
export const closeTo = (actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance = 1e-5): void => {
  expect(actual.length).toBe(expected.length)
  const scale = Array.from(expected).reduce((most, v) => Math.max(most, Math.abs(v)), 0)
  for (let i = 0; i < expected.length; i++) {
    expect(Math.abs(actual[i]! - expected[i]!), `element ${i}`).toBeLessThanOrEqual(tolerance * scale)
  }
}

/** Elements in the typed array of a dtype. */
export const typed = (dtype: Dtype, values: ArrayLike<number>): TypedArray => {
  switch (dtype) {
    case "f64":
      return Float64Array.from(values)
    case "f32":
      return Float32Array.from(values)
    case "i64":
      return BigInt64Array.from(Array.from(values, BigInt))
    case "i32":
      return Int32Array.from(values)
    case "i8":
      return Int8Array.from(values)
    case "u8":
    case "bool":
      return Uint8Array.from(values)
    default:
      throw new Error(`no test feeds ${dtype}`)
  }
}

/** A host tensor of a dtype with given values. */
export const host = (dtype: Dtype, shape: ReadonlyArray<number>, values: ArrayLike<number>): HostTensor =>
  ({ dtype, shape, data: typed(dtype, values) }) as HostTensor

/** The feeds of a program, in its dtypes. */
export const hostFeeds = (program: Program, feeds: Readonly<Record<string, Feed>>): Record<string, HostTensor> =>
  Object.fromEntries(
    [...program.inputs].map(([name, { dtype }]) => [name, host(dtype, feeds[name]!.shape, feeds[name]!.data)])
  )

/** What a program gives on the device, as plain numbers. */
export const runOnce = (program: Program, feeds: Readonly<Record<string, Feed>>) =>
  Effect.gen(function* () {
    const device = yield* Device
    const loaded = yield* device.load(program)
    const outputs = yield* device.run(loaded, hostFeeds(program, feeds))
    return Object.fromEntries(
      Object.entries(outputs).map(([name, { shape, data }]) => [name, { shape, data: Array.from(data, Number) }])
    )
  }).pipe(Effect.scoped)

/** Runs an effect that needs a device. */
export const onDevice =
  (layer: Layer.Layer<Device, DeviceError>) =>
  <A, E>(effect: Effect.Effect<A, E, Device>): Promise<A> =>
    Effect.runPromise(Effect.provide(effect, layer))
