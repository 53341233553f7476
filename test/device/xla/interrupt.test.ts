/**
 * Whoever is interrupted in mid-run or mid-compilation waits until the plugin is done: to give buffers and the client back
 * under its threads ended the process (SIGSEGV).
 */
import { Effect, Fiber } from "effect"
import { describe, expect, it } from "vitest"
import { Device } from "../../../src/device/Device.ts"
import { f32 } from "../../../src/device/HostTensor.ts"
import { loop } from "../../../src/tensor/ops/control.ts"
import { dot } from "../../../src/tensor/ops/dot.ts"
import { program } from "../../../src/tensor/Program.ts"
import { input } from "../../../src/tensor/Tensor.ts"
import { absent, titled, xlaCpu } from "./support.ts"

const n = 512
const x = input("x", "f32", [n, n])
const long = program("long", {
  outputs: { y: loop({ trips: 40, carried: [x] }, ({ carried: [y] }) => ({ carried: [dot(y!, x)] })).carried[0]! }
})

describe.skipIf(absent !== undefined)(titled("an interruption on XLA"), () => {
  it.each(["while it compiles", "while it runs"])("%s", async (when) => {
    const said: Array<string> = []
    const work = Effect.gen(function* () {
      const device = yield* Device
      if (when === "while it compiles") said.push("under way")
      const loaded = yield* device.load(long)
      if (when === "while it runs") said.push("under way")
      yield* device.run(loaded, { x: f32([n, n], new Float32Array(n * n).fill(1 / n)) })
      said.push("all done")
    }).pipe(Effect.scoped, Effect.provide(xlaCpu))
    await Effect.runPromise(
      Effect.gen(function* () {
        const fiber = yield* Effect.forkChild(work)
        while (said.length === 0) yield* Effect.sleep(1)
        yield* Effect.sleep(2)
        yield* Fiber.interrupt(fiber)
      })
    )
    expect(said).toEqual(["under way"])
  })
})
