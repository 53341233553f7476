/** The table of operations on the CPU with two threads, whose pool all sessions share. */
import { ManagedRuntime } from "effect"
import { afterAll } from "vitest"
import { OnnxCpu } from "../../src/device/onnx/OnnxCpu.ts"
import { checkBackend } from "../tensor/cases.ts"
import { runOnce } from "./support.ts"

const runtime = ManagedRuntime.make(OnnxCpu.layer({ threads: 2 }))
afterAll(() => runtime.dispose())
checkBackend("the CPU with two threads", (program, feeds) => runtime.runPromise(runOnce(program, feeds)))
