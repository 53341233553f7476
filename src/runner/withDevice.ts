/**
 * Gives a stage its `Device`, by the numeric class that its task asked for, and journals which one it was. The library
 * behind it is loaded only here, so stages without a device start quickly.
 */
import { Context, Effect, Layer, Schema } from "effect"
import { Device } from "../device/Device.ts"
import type { DeviceError } from "../device/DeviceError.ts"
import type { Mesh } from "../device/mesh.ts"
import type { NumericClass } from "../device/numericClass.ts"

/** This machine, or this version, has no such device. */
export class DeviceAbsent extends Schema.TaggedError<DeviceAbsent>()("DeviceAbsent", { provider: Schema.String }) {
  override get message() {
    return `there is no device ${this.provider} here; \`exp doctor\` says what this machine has`
  }
}

const layerOf = Effect.fnUntraced(function* (asked: NumericClass | null, mesh: Mesh | undefined, batchShare: number) {
  const provider = asked?.provider ?? "none"
  const { pluginOf } = yield* Effect.promise(() => import("../device/xla/plugins.ts"))
  const plugin = pluginOf(provider)
  if (asked === null || (plugin === undefined && provider !== "cpu" && provider !== "webgpu")) {
    return yield* new DeviceAbsent({ provider })
  }
  // A class names what computed: bits of one arithmetic are not kept under the name of another.
  if (asked.dtype !== "f32" && plugin === undefined) {
    return yield* new DeviceAbsent({ provider: `${provider}-${asked.dtype}` })
  }
  if (plugin !== undefined) {
    const { XlaDevice } = yield* Effect.promise(() => import("../device/xla/XlaDevice.ts"))
    const { deterministic = false, dtype } = asked
    const xla: Layer.Layer<Device, DeviceError> = XlaDevice.layer({ plugin, deterministic, dtype, mesh, batchShare })
    return xla
  }
  if (provider === "webgpu") {
    const { OnnxWebGpu } = yield* Effect.promise(() => import("../device/onnx/OnnxWebGpu.ts"))
    const webgpu: Layer.Layer<Device, DeviceError> = OnnxWebGpu.layer({ batchShare })
    return webgpu
  }
  const { OnnxCpu } = yield* Effect.promise(() => import("../device/onnx/OnnxCpu.ts"))
  const layer: Layer.Layer<Device, DeviceError> = OnnxCpu.layer({ threads: asked.threads ?? 1 })
  return layer
})

/**
 * @param place how the devices are arranged, where there are several, and the share of the usual micro-batch to take
 * @param event appends an event row
 */
export const withDevice = Effect.fnUntraced(function* <A, E, R>(
  run: Effect.Effect<A, E, R>,
  asked: NumericClass | null,
  { batchShare = 1, mesh }: { readonly mesh?: Mesh | undefined; readonly batchShare?: number | undefined },
  event: (name: string, detail: unknown) => void
) {
  const services = yield* Layer.build(yield* layerOf(asked, mesh, batchShare))
  const device = Context.get(services, Device)
  const info = { ...device.info, ...(batchShare === 1 ? {} : { batchShare }) }
  event("device", info)
  const result = yield* Effect.provide(run, services)
  // Once more: only now is it known which nodes fell back to another processor.
  event("device", { ...info, ...device.info })
  event("device-stats", yield* device.stats)
  return result
}, Effect.scoped)
