/**
 * The WebGPU device: programs as ONNX models, run by the WebGPU provider of the library inside `onnxruntime-node`. Tensors
 * live in the adapter's memory between runs; what the provider has no kernel for runs on the CPU, and is counted and named.
 */

import { Effect, Layer } from "effect"
import { Device, type DeviceTensor } from "../Device.ts"
import { AdapterMissing, type DeviceError, deviceError } from "../DeviceError.ts"
import { shareOf, usualBatch } from "../microBatch.ts"
import { makeOnnxDevice, openedRuntime, type Provider } from "./OnnxDevice.ts"
import type { Runtime } from "./runtime.ts"
import type { SessionsOptions } from "./Sessions.ts"
import { fallbackBound } from "./webgpu/fallbackBound.ts"
import { AdapterAbsent, type Gpu, openGpu } from "./webgpu/Gpu.ts"
import { GpuTensor } from "./webgpu/GpuTensor.ts"

const openedGpu = (runtime: Runtime): Effect.Effect<Gpu, DeviceError> =>
  Effect.try({
    try: () => openGpu(runtime),
    catch: (error) => {
      if (error instanceof AdapterAbsent) return deviceError(new AdapterMissing({ detail: error.message }))
      throw error
    }
  })

interface WebGpuOptions extends Partial<SessionsOptions> {
  /** The share of the usual micro-batch that models should take; default 1. */
  readonly batchShare?: number
  /** How many nodes of one program may run on the CPU; default OVERTONE_WEBGPU_FALLBACKS, else 8. */
  readonly fallbacks?: number
}

/** The device. `threads` are those of nodes that run on the CPU. Layers are memoised by reference: keep one in a constant. */
const layer = ({ batchShare = 1, fallbacks, ...options }: WebGpuOptions = {}): Layer.Layer<Device, DeviceError> =>
  Layer.effect(
    Device,
    Effect.gen(function* () {
      const threads = options.threads ?? 1
      const runtime = yield* openedRuntime(threads)
      const gpu = yield* openedGpu(runtime)
      const provider: Provider = {
        name: "webgpu",
        batch: shareOf(usualBatch, batchShare),
        adapter: gpu.adapter.name,
        tensor: (name, dtype, shape, zeros) => {
          const tensor = new GpuTensor(gpu, name, dtype, shape)
          if (!zeros) return tensor
          try {
            tensor.clear()
          } catch (error) {
            tensor.release()
            throw error
          }
          return tensor
        },
        fallbackBound: fallbacks ?? fallbackBound(),
        isOwn: (tensor: DeviceTensor) => tensor instanceof GpuTensor,
        gpu
      }
      return makeOnnxDevice(runtime, provider, { ...options, threads })
    })
  )
export const OnnxWebGpu = { layer }
