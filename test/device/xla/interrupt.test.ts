/**
 * Whoever is interrupted in mid-run or mid-compilation waits until the plugin is done: to give buffers and the client back
 * under its threads ended the process (SIGSEGV).
 */
import { Effect, Fiber } from "effect"
import { afterEach, describe, expect, it, vi } from "vitest"
import { Device } from "../../../src/device/Device.ts"
import { f32 } from "../../../src/device/HostTensor.ts"
import { Client } from "../../../src/device/xla/Client.ts"
import { Executable } from "../../../src/device/xla/Executable.ts"
import { Pjrt } from "../../../src/device/xla/pjrt.ts"
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

/** What is said as it comes: the plugin begins, it has ended, whoever interrupted goes on. */
const interrupted = async (watch: (begun: () => void, ended: () => void) => void): Promise<ReadonlyArray<string>> => {
  const said: Array<string> = []
  const say = (word: string) => (said.includes(word) ? 0 : said.push(word))
  let gone: Promise<unknown> | undefined
  // before anything that the plugin's threads say can be heard
  const interrupt = () => Promise.resolve().then(() => Effect.runPromise(Fiber.interrupt(fiber)))
  const work = Effect.gen(function* () {
    const device = yield* Device
    watch(
      () => {
        say("begun")
        gone ??= interrupt().then(() => say("interrupted"))
      },
      () => {
        if (said.includes("begun")) say("ended")
      }
    )
    const loaded = yield* device.load(long)
    yield* device.run(loaded, { x: f32([n, n], new Float32Array(n * n).fill(1 / n)) })
    say("all done")
  }).pipe(Effect.scoped, Effect.provide(xlaCpu))
  const fiber = Effect.runFork(work)
  await Effect.runPromise(Fiber.await(fiber))
  await gone
  return said
}

describe.skipIf(absent !== undefined)(titled("an interruption on XLA"), () => {
  afterEach(() => vi.restoreAllMocks())

  it("while it compiles", async () => {
    const { compile } = Client.prototype
    const said = await interrupted((begun, ended) => {
      vi.spyOn(Client.prototype, "compile").mockImplementation(function (this: Client, ...asked) {
        const compiling = compile.apply(this, asked).finally(ended)
        begun()
        return compiling
      })
    })
    expect(said).toEqual(["begun", "ended", "interrupted"])
  })

  it("while it runs", async () => {
    const { start } = Executable.prototype
    const { settleAll } = Pjrt.prototype
    const said = await interrupted((begun, ended) => {
      vi.spyOn(Executable.prototype, "start").mockImplementation(function (this: Executable, ...asked) {
        const started = start.apply(this, asked)
        begun()
        return started
      })
      vi.spyOn(Pjrt.prototype, "settleAll").mockImplementation(function (this: Pjrt, events) {
        return settleAll.call(this, events).finally(ended)
      })
    })
    expect(said).toEqual(["begun", "ended", "interrupted"])
  })
})
