/**
 * Cards that are in use and cards that go away: what CUDA and XLA say of it (as their users' reports quote them) becomes one
 * sentence with what to do. And a run that really breaks off, on the CPU's plugin: named, and nothing else is lost with it.
 */
import { Effect } from "effect"
import { describe, expect, it } from "vitest"
import { Device } from "../../../src/device/Device.ts"
import { f32 } from "../../../src/device/HostTensor.ts"
import { OrtFailure } from "../../../src/device/onnx/api.ts"
import { deviceFailure as onnxFailure } from "../../../src/device/onnx/failure.ts"
import { unopened } from "../../../src/device/xla/cards.ts"
import { deviceFailure, openFailure } from "../../../src/device/xla/failure.ts"
import { openPlugin } from "../../../src/device/xla/openClient.ts"
import { PjrtFailure } from "../../../src/device/xla/pjrt.ts"
import { cpuPlugin, locatePlugin } from "../../../src/device/xla/plugins.ts"
import { XlaTensor } from "../../../src/device/xla/XlaTensor.ts"
import { add, mul } from "../../../src/tensor/ops/elementwise.ts"
import { program } from "../../../src/tensor/Program.ts"
import { input } from "../../../src/tensor/Tensor.ts"
import { absent, titled, xlaCpu } from "./support.ts"

const internal = 13
const opening = (message: string) => openFailure("xla:cuda", new PjrtFailure("Client_Create", internal, message))
const running = (message: string, what = "policy.accumulate") =>
  deviceFailure(what, "run")(new PjrtFailure("LoadedExecutable_Execute", internal, message))

describe("a card that is in use", () => {
  it.each([
    "failed call to cuDevicePrimaryCtxRetain: CUDA_ERROR_DEVICE_UNAVAILABLE: CUDA-capable device(s) is/are busy or unavailable",
    "failed call to cuDevicePrimaryCtxRetain: CUDA_ERROR_OUT_OF_MEMORY: out of memory",
    "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 76336128819 bytes."
  ])("%s", (said) => {
    const { message, reason } = opening(said)
    expect(reason).toMatchObject({ _tag: "AdapterBusy", provider: "xla:cuda" })
    expect(message).toMatch(
      /^The card of xla:cuda is in use: .*`nvidia-smi` names .*executor file.*OVERTONE_GPU_MEMORY/
    )
    expect(message).toContain(said.replace(/\.$/, ""))
    // a run asks for cards before it starts anything, and is told the same
    expect(unopened(new PjrtFailure("Client_Create", internal, said))).toBe(message)
  })

  it("is told apart from one that is not there", () => {
    const said = "No visible GPU devices.\nmore"
    expect(opening(said).reason._tag).toBe("LibraryMissing")
    expect(opening(said).message).toMatch(/xla:cuda gives no device: No visible GPU devices/)
    expect(unopened(new PjrtFailure("Client_Create", internal, said))).toBe(
      "the plugin finds no card: No visible GPU devices."
    )
  })
})

describe("a device that is lost in mid-step", () => {
  it.each([
    "Failed to launch CUDA kernel: fusion_1560 with block dimensions: 160x1x1: CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered.",
    "Could not synchronize CUDA stream: CUDA_ERROR_LAUNCH_FAILED: unspecified launch failure",
    "failed to query event: CUDA_ERROR_ECC_UNCORRECTABLE: uncorrectable ECC error encountered",
    "Unable to determine the device handle for GPU 0000:03:00.0: GPU is lost.  Reboot the system to recover this GPU",
    "CUDNN_STATUS_EXECUTION_FAILED in external/xla/xla/stream_executor/cuda/cuda_dnn.cc(5172): 'cudnnBackendExecute'",
    "cudaErrorIllegalAddress: an illegal memory access was encountered",
    "Failed to retrieve the context: device lost"
  ])("%s", (said) => {
    const { message, reason } = running(said)
    expect(reason).toMatchObject({ _tag: "DeviceLost", program: "program policy.accumulate" })
    expect(message).toMatch(
      /^The device was lost while program policy\.accumulate ran.*goes on from the last checkpoint.*Xid/
    )
    expect(message).toContain(said.replace(/\.$/, ""))
  })

  it("is what a plugin means by an execution that ended as UNAVAILABLE; one that was refused is none", () => {
    const ended = (code: number) =>
      deviceFailure("p", "run")(new PjrtFailure("Event_Await", code, "slice 0 went away")).reason._tag
    expect([ended(14), ended(10), ended(15), ended(13), ended(3)]).toEqual([
      "DeviceLost",
      "DeviceLost",
      "DeviceLost",
      "RunFailed",
      "RunFailed"
    ])
  })

  it("may be noticed when a tensor is read", () => {
    const { reason } = running("CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered", "tensor m:w")
    expect(reason).toMatchObject({ _tag: "DeviceLost", program: "tensor m:w" })
  })

  it("is told so on WebGPU too", () => {
    for (const said of [
      "[Device] is lost.",
      "WebGPU device lost (1): A valid external Instance reference no longer exists."
    ]) {
      expect(onnxFailure("policy.step", "run")(new OrtFailure(1, said)).reason._tag).toBe("DeviceLost")
    }
    expect(onnxFailure("policy.step", "run")(new OrtFailure(1, "indices lost their order")).reason._tag).toBe(
      "RunFailed"
    )
  })

  it("is not what a refused program or too little memory is", () => {
    expect(running("CUDA_ERROR_OUT_OF_MEMORY: out of memory").reason._tag).toBe("OutOfMemory")
    expect(running("CUDA_ERROR_INVALID_VALUE: invalid argument").reason._tag).toBe("RunFailed")
    expect(deviceFailure("p", "load")(new PjrtFailure("Client_Compile", 3, "bad module")).reason._tag).toBe(
      "LoadFailed"
    )
  })
})

describe.skipIf(absent !== undefined)(titled("a run that breaks off"), () => {
  it("names the program; other programs and tensors are as they were, and nothing of it stays behind", async () => {
    const [x, y] = [input("x", "f32", [64]), input("y", "f32", [64])]
    const step = program("step", { outputs: { x: add(mul(x, 2), y) }, donate: { x: "x" } })
    await Effect.gen(function* () {
      const device = yield* Device
      const spec = { dtype: "f32" as const, shape: [64] }
      const [gone, whole] = [
        yield* device.tensor({ ...spec, name: "gone" }, new Float32Array(64).fill(1)),
        yield* device.tensor({ ...spec, name: "whole" }, new Float32Array(64).fill(3))
      ]
      const loaded = yield* device.load(step)
      const ones = f32([64], new Float32Array(64).fill(1))
      const before = (yield* device.stats).bytes
      // its memory is taken away below the device: the plugin fails the execution
      if (!(gone instanceof XlaTensor)) throw new Error("not XLA's")
      const pjrt = openPlugin(locatePlugin(cpuPlugin))
      for (const { pointer } of gone.buffer!.shards) pjrt.call("Buffer_Delete", (a) => a.pointer(16, pointer))
      const error = yield* Effect.flip(device.run(loaded, { x: gone, y: ones }, { x: gone }))
      expect(error.reason).toMatchObject({ _tag: "RunFailed", program: "step" })
      expect(error.message).toMatch(/Program step failed: .*(deleted|donated).*LoadedExecutable_Execute/i)
      yield* device.run(loaded, { x: whole, y: ones }, { x: whole })
      expect([...(yield* device.read(whole)).data].slice(0, 2)).toEqual([7, 7])
      expect((yield* device.stats).bytes).toBeLessThanOrEqual(before)
    }).pipe(Effect.scoped, Effect.provide(xlaCpu), Effect.runPromise)
  })
})
