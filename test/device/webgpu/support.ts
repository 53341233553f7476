/**
 * WebGPU for tests: where there is an adapter. Without a graphics card that is SwiftShader, a driver of Debian's package
 * `chromium`, where VK_ICD_FILENAMES names its vk_swiftshader_icd.json; without any, tests are skipped, and say so.
 */
import { OnnxWebGpu } from "../../../src/device/onnx/OnnxWebGpu.ts"
import { findAdapter } from "../../../src/device/onnx/webgpu/adapter.ts"
import { titledBy } from "../support.ts"

const found = await findAdapter()

/** Why tests of WebGPU cannot run here; undefined where they can. */
export const absent = "missing" in found ? found.missing : undefined

export const titled = titledBy(absent)

export const webGpu = OnnxWebGpu.layer()
