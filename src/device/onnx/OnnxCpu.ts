/** The CPU device: programs as ONNX models, run by the library inside `onnxruntime-node` through its C API. */

import { cpus } from "node:os"
import { Effect, Layer } from "effect"
import { Device, type DeviceTensor } from "../Device.ts"
import type { DeviceError } from "../DeviceError.ts"
import { CpuTensor } from "./CpuTensor.ts"
import { makeOnnxDevice, openedRuntime, type Provider } from "./OnnxDevice.ts"
import type { SessionsOptions } from "./Sessions.ts"

/** The device. Layers are memoised by reference: keep one in a constant. */
const layer = (options: SessionsOptions): Layer.Layer<Device, DeviceError> =>
  Layer.effect(
    Device,
    Effect.map(openedRuntime(options.threads), (runtime) => {
      const provider: Provider = {
        name: "cpu",
        adapter: `${cpus()[0]?.model.trim() ?? process.arch}, ${process.platform}-${process.arch}`,
        tensor: (name, dtype, shape) => new CpuTensor(runtime, name, dtype, shape),
        isOwn: (tensor: DeviceTensor) => tensor instanceof CpuTensor
      }
      return makeOnnxDevice(runtime, provider, options)
    })
  )
export const OnnxCpu = { layer }
