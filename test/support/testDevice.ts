/**
 * What tests of models, objectives and stages compute on: the CPU with one thread, or another device by
 * OVERTONE_TEST_DEVICE (`xla:cpu`), so that all of them can be run on it as they are.
 */
import type { Layer } from "effect"
import type { Device } from "../../src/device/Device.ts"
import type { DeviceError } from "../../src/device/DeviceError.ts"
import { OnnxCpu } from "../../src/device/onnx/OnnxCpu.ts"
import { pluginOf } from "../../src/device/xla/plugins.ts"
import { XlaDevice } from "../../src/device/xla/XlaDevice.ts"

const asked = process.env["OVERTONE_TEST_DEVICE"] ?? "cpu"

const layerOf = (provider: string): Layer.Layer<Device, DeviceError> => {
  if (provider === "cpu") return OnnxCpu.layer({ threads: 1 })
  const plugin = pluginOf(provider)
  if (plugin === undefined) throw new Error(`OVERTONE_TEST_DEVICE=${provider}: cpu or xla:cpu`)
  return XlaDevice.layer({ plugin, quick: true })
}

export const testDevice = layerOf(asked)
