/** What a step is told, and the device that it computes on. */
import type { Effect, Layer } from "effect"
import type { Device } from "../../src/device/Device.ts"
import type { DeviceError } from "../../src/device/DeviceError.ts"
import type { NumericClass } from "../../src/device/numericClass.ts"
import { cpuPlugin, cudaPlugin, type Plugin } from "../../src/device/xla/plugins.ts"
import { XlaDevice } from "../../src/device/xla/XlaDevice.ts"

export interface Setting {
  readonly device: "cuda" | "cpu"
  /** Sizes that a CPU does in seconds: to try the programs, not to time them. */
  readonly tiny: boolean
  /** Keeps what was found so far, should the step not come to its end. */
  readonly keep: (found: unknown) => void
}

/** A step gives what goes into the record. Its tensors must be gone before its device is: `Effect.scoped` inside `Effect.provide`. */
export type Step = (setting: Setting) => Effect.Effect<unknown, unknown>

export const pluginOf = ({ device }: Setting): Plugin => (device === "cuda" ? cudaPlugin : cpuPlugin)

/** The product's own device, in a class. `loopBytes` as its option; by default what the card has room for. */
export const deviceOf = (
  setting: Setting,
  dtype: NumericClass["dtype"],
  loopBytes?: number
): Layer.Layer<Device, DeviceError> =>
  XlaDevice.layer({ plugin: pluginOf(setting), dtype, ...(loopBytes === undefined ? {} : { loopBytes }) })
