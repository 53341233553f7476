/** The table of operations on WebGPU: a row with named dimensions and one with fixed ones. */
import { Effect, ManagedRuntime } from "effect"
import { afterAll, describe, expect, test } from "vitest"
import { Device } from "../../../src/device/Device.ts"
import { checkBackend } from "../../tensor/cases.ts"
import { runOnce } from "../support.ts"
import { absent, titled, webGpu } from "./support.ts"

/** Operators that run on the CPU in some row of the table, and why: 64-bit numbers, bytes, infinity and NaN, and Pow. */
const onCpu = [
  "Cast",
  "Round",
  "IsInf",
  "IsNaN",
  "Or",
  "Mod",
  "Add",
  "Mul",
  "Div",
  "Exp",
  "Pow",
  "Equal",
  "MatMulInteger"
]
/** Indices that are constants: the runtime prepares them on the host. */
const ofConstants = ["Expand", "Reshape"]

describe.skipIf(absent !== undefined)(titled("WebGPU"), () => {
  const runtime = ManagedRuntime.make(webGpu)
  afterAll(() => runtime.dispose())
  checkBackend("WebGPU", (program, feeds) => runtime.runPromise(runOnce(program, feeds)), { seeds: [1, 2] })

  test("what the table leaves to the CPU is known, and named after the program's operation", async () => {
    const { fallbackNodes, fallbacks } = await runtime.runPromise(Effect.map(Device, ({ info }) => info))
    expect(fallbackNodes).toBe(fallbacks!.length)
    expect([...new Set(fallbacks!.map(({ operator }) => operator))].sort()).toEqual([...onCpu, ...ofConstants].sort())
    expect(fallbacks).toContainEqual({ program: "round", node: "round/Round#0", operator: "Round" })
  })
})
