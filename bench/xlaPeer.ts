/**
 * What the binding costs. A tiny program, blocking; the 17M training program compiled, and loaded from its bytes; and the 17M
 * training step of `exp bench` beside JAX, which runs the very StableHLO with the very options on the very plugin: two processes
 * that do one step each in turn, so that a neighbour on the machine slows both. Steps by the clock and of the processor, and pages
 * that the system handed out during them; `ratio` is the median over the pairs of steps, `ofMedians` and `ofLeast` compare
 * medians and least values. `--steps 0` leaves the steps, and JAX, out.
 *
 *   node bench/xlaPeer.ts --python PYTHON [--steps 24]       PYTHON has JAX
 *
 * Needs `exp device install cpu`.
 */
import { spawn } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { parseArgs } from "node:util"
import { Effect } from "effect"
import { Client } from "../src/device/xla/Client.ts"
import { compileOptions } from "../src/device/xla/compileOptions.ts"
import { Executable } from "../src/device/xla/Executable.ts"
import { openPlugin } from "../src/device/xla/openClient.ts"
import { cpuPlugin, locatePlugin } from "../src/device/xla/plugins.ts"
import { writeProgram } from "../src/device/xla/writer.ts"
import { XlaDevice } from "../src/device/xla/XlaDevice.ts"
import { median } from "./median.ts"
import { train17m, works } from "./works.ts"

/** What a step took: seconds by the clock and of the processor, pages handed out. */
interface Took {
  readonly seconds: number
  readonly processor: number
  readonly faults: number
}

const { values } = parseArgs({
  options: {
    python: { type: "string", default: "python3" },
    steps: { type: "string", default: "24" },
    child: { type: "boolean", default: false }
  }
})
const now = () => Number(process.hrtime.bigint()) / 1e9
const used = () => {
  const { minorPageFault, systemCPUTime, userCPUTime } = process.resourceUsage()
  return { processor: (userCPUTime + systemCPUTime) / 1e6, faults: minorPageFault }
}

/** A step of ours for each line of standard input. */
const ours = Effect.gen(function* () {
  const { step } = yield* works.find(({ name }) => name === "train17m")!.prepare
  const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
  while (!(yield* Effect.promise(() => lines.next())).done) {
    const before = used()
    const start = now()
    yield* step
    const seconds = now() - start
    const after = used()
    const took: Took = {
      seconds,
      processor: after.processor - before.processor,
      faults: after.faults - before.faults
    }
    console.log(JSON.stringify(took))
  }
}).pipe(Effect.scoped, Effect.provide(XlaDevice.layer({ plugin: cpuPlugin })))

/** Seconds of a call that doubles eight numbers: started, waited for, its result given back. */
const tiny = async (client: Client): Promise<number> => {
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

/** Seconds by the clock and of the processor in which a module is compiled, and loaded again from its bytes: medians of five. */
const compiling = async (client: Client, text: string) => {
  const took: { readonly [what in "compiled" | "loaded"]: Array<readonly [number, number]> } = {
    compiled: [],
    loaded: []
  }
  const timed = async <A>(into: Array<readonly [number, number]>, work: () => Promise<A>): Promise<A> => {
    const [start, before] = [now(), used().processor]
    const made = await work()
    into.push([now() - start, used().processor - before])
    return made
  }
  for (let i = 0; i < 5; i++) {
    const compiled = await timed(took.compiled, () => client.compile(text, compileOptions()))
    const made = new Executable(client, compiled, { arguments: 0, outputs: [] })
    const bytes = made.serialize()
    made.destroy()
    const loaded = await timed(took.loaded, () => client.deserialize(bytes))
    new Executable(client, loaded, { arguments: 0, outputs: [] }).destroy()
  }
  const of = (list: ReadonlyArray<readonly [number, number]>) => ({
    seconds: median(list.map(([seconds]) => seconds)),
    processor: median(list.map(([, processor]) => processor))
  })
  return { compiled: of(took.compiled), loaded: of(took.loaded) }
}

/** A process that does one step for each line that it is sent. */
const stepper = (command: string, args: ReadonlyArray<string>) => {
  const child = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"] })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  return {
    step: async (): Promise<Took> => {
      child.stdin.write("step\n")
      const { done, value } = await lines.next()
      if (done) throw new Error(`${command} ended`)
      return JSON.parse(value)
    },
    end: () => child.stdin.end()
  }
}

/** What is said of one measure: medians and least values of either side, and their ratios. */
const compared = (own: ReadonlyArray<Took>, peer: ReadonlyArray<Took>, measure: keyof Took) => {
  const [a, b] = [own.map((x) => x[measure]), peer.map((x) => x[measure])]
  return {
    ours: median(a),
    jax: median(b),
    ratio: median(a.map((x, i) => x / b[i]!)),
    ofMedians: median(a) / median(b),
    ofLeast: Math.min(...a) / Math.min(...b)
  }
}

if (values.child) await Effect.runPromise(ours)
else {
  const folder = mkdtempSync(join(tmpdir(), "overtone-xla-peer-"))
  const located = locatePlugin(cpuPlugin)
  if ("missing" in located) throw new Error(located.missing)
  const { inputs, text } = writeProgram(train17m())
  writeFileSync(join(folder, "module.mlir"), text)
  writeFileSync(join(folder, "options.bin"), compileOptions())
  // token ids of a vocabulary of 8,192
  writeFileSync(join(folder, "inputs.json"), JSON.stringify(inputs.map((port) => ({ ...port, below: 8192 }))))
  const steps = Number(values.steps)
  const [a, b]: [Array<Took>, Array<Took>] = [[], []]
  if (steps > 0) {
    const own = stepper(process.execPath, [import.meta.filename, "--child"])
    const peer = stepper(values.python, [join(import.meta.dirname, "xlaPeer.py"), located.path, folder])
    for (let i = -2; i < steps; i++) {
      const pair =
        i % 2 === 0 ? [await own.step(), await peer.step()] : [await peer.step(), await own.step()].toReversed()
      if (i < 0) continue
      a.push(pair[0]!)
      b.push(pair[1]!)
    }
    own.end()
    peer.end()
  }
  rmSync(folder, { recursive: true })
  const client = await Client.open(openPlugin(located))
  console.log(
    JSON.stringify({
      tinyMicroseconds: (await tiny(client)) * 1e6,
      train17m: await compiling(client, text),
      ...(steps > 0
        ? {
            clock: compared(a, b, "seconds"),
            processor: compared(a, b, "processor"),
            faults: compared(a, b, "faults")
          }
        : {})
    })
  )
}
