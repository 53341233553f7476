/**
 * What the binding costs. A tiny program, blocking; and the 17M training step of `exp bench` beside JAX, which runs the very
 * StableHLO on the very plugin, in turn, each in its own process, medians over the rounds.
 *
 *   node bench/xlaPeer.ts --python PYTHON [--rounds 5] [--steps 12]       PYTHON has JAX
 *
 * Needs `exp device install cpu`.
 */
import { execFile } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { parseArgs, promisify } from "node:util"
import { Effect } from "effect"
import { Client } from "../src/device/xla/Client.ts"
import { compileOptions, standardFlags } from "../src/device/xla/compileOptions.ts"
import { Executable } from "../src/device/xla/Executable.ts"
import { openPlugin } from "../src/device/xla/openClient.ts"
import { cpuPlugin, locatePlugin } from "../src/device/xla/plugins.ts"
import { writeProgram } from "../src/device/xla/writer.ts"
import { XlaDevice } from "../src/device/xla/XlaDevice.ts"
import { median } from "./median.ts"
import { train17m, works } from "./works.ts"

const { values } = parseArgs({
  options: {
    python: { type: "string", default: "python3" },
    rounds: { type: "string", default: "5" },
    steps: { type: "string", default: "12" },
    child: { type: "boolean", default: false }
  }
})
const steps = Number(values.steps)
const execute = promisify(execFile)
const now = () => Number(process.hrtime.bigint()) / 1e9

/** Seconds of each step of ours. */
const ours = Effect.gen(function* () {
  const { step } = yield* works.find(({ name }) => name === "train17m")!.prepare
  const seconds: Array<number> = []
  for (let i = -2; i < steps; i++) {
    const start = now()
    yield* step
    if (i >= 0) seconds.push(now() - start)
  }
  return seconds
}).pipe(Effect.scoped, Effect.provide(XlaDevice.layer({ plugin: cpuPlugin })))

/** Seconds of a call that doubles eight numbers: started, waited for, its result given back. */
const tiny = async (): Promise<number> => {
  const client = await Client.open(openPlugin(locatePlugin(cpuPlugin)))
  const text =
    "module { func.func public @main(%a: tensor<8xf32>) -> tensor<8xf32> { %0 = stablehlo.add %a, %a : tensor<8xf32> return %0 : tensor<8xf32> } }"
  const signature = { arguments: 1, outputs: [{ dtype: "f32" as const, shape: [8] }] }
  const program = new Executable(client, await client.compile(text, compileOptions()), signature)
  const x = client.put(new Float32Array(8).fill(1), "f32", [8])
  const seconds: Array<number> = []
  for (let i = 0; i < 20_000; i++) {
    const start = now()
    const { events, outputs } = program.start([x], [])
    for (const event of events) client.pjrt.awaitEvent(event)
    for (const output of outputs) output.destroy()
    if (i >= 2000) seconds.push(now() - start)
  }
  return median(seconds)
}

if (values.child) console.log(JSON.stringify({ seconds: await Effect.runPromise(ours) }))
else {
  const folder = mkdtempSync(join(tmpdir(), "overtone-xla-peer-"))
  const located = locatePlugin(cpuPlugin)
  if ("missing" in located) throw new Error(located.missing)
  const { inputs, text } = writeProgram(train17m())
  writeFileSync(join(folder, "module.mlir"), text)
  // token ids of a vocabulary of 8,192
  const described = { inputs: inputs.map((port) => ({ ...port, below: 8192 })), flags: standardFlags }
  writeFileSync(join(folder, "inputs.json"), JSON.stringify(described))
  const own: Array<number> = []
  const peer: Array<number> = []
  for (let round = 0; round < Number(values.rounds); round++) {
    const commands = [
      [process.execPath, [import.meta.filename, "--child", "--steps", `${steps}`], own],
      [values.python, [join(import.meta.dirname, "xlaPeer.py"), located.path, folder, `${steps}`], peer]
    ] as const
    for (const [command, args, into] of commands) {
      const { stdout } = await execute(command, args)
      into.push(median(JSON.parse(stdout.trim().split("\n").at(-1)!).seconds))
    }
  }
  rmSync(folder, { recursive: true })
  console.log(
    JSON.stringify({
      tinyMicroseconds: (await tiny()) * 1e6,
      work: "train17m",
      secondsPerStep: median(own),
      jaxSecondsPerStep: median(peer),
      ratio: median(own) / median(peer),
      ratioPerRound: own.map((seconds, i) => seconds / peer[i]!)
    })
  )
}
