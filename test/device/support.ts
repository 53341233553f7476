/** The CPU device for tests: programs on plain arrays. */
import { Effect, type Layer } from "effect"
import { Device } from "../../src/device/Device.ts"
import type { DeviceError } from "../../src/device/DeviceError.ts"
import type { HostTensor, TypedArray } from "../../src/device/HostTensor.ts"
import type { Feed } from "../../src/tensor/interpret.ts"
import type { Program } from "../../src/tensor/Program.ts"
import type { Dtype } from "../../src/tensor/Tensor.ts"

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
