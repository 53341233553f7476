/** The table of operations on the CPU with one thread, whose pool all sessions share. */
import { ManagedRuntime } from "effect"
import { afterAll } from "vitest"
import { OnnxCpu } from "../../src/device/onnx/OnnxCpu.ts"
import { checkBackend } from "../tensor/cases.ts"
import { runOnce } from "./support.ts"

const runtime = ManagedRuntime.make(OnnxCpu.layer({ threads: 1 }))
afterAll(() => runtime.dispose())
checkBackend("the CPU with one thread", (program, feeds) => runtime.runPromise(runOnce(program, feeds)))
