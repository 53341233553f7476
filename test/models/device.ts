import * as NodeServices from "@effect/platform-node/NodeServices"
import { Layer } from "effect"
import { OnnxCpu } from "../../src/device/onnx/OnnxCpu.ts"

/** The CPU device with one thread, and files. */
export const cpu = Layer.mergeAll(OnnxCpu.layer({ threads: 1 }), NodeServices.layer)
