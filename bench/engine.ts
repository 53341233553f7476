/**
 * `exp bench`: how fast the device is on four works, beside what its own matrix product reaches in the same process with
 * the same threads. Medians over steps; the clock of a shared machine drifts, so ratios within one run are what counts.
 *
 *   node bench/engine.ts [--threads N] [--repeat N] [work ...]      prints a JSON object a work
 */
import { execFile } from "node:child_process"
import { parseArgs, promisify } from "node:util"
import { Effect } from "effect"
import { Device } from "../src/device/Device.ts"
import type { DeviceError } from "../src/device/DeviceError.ts"
import { OnnxCpu } from "../src/device/onnx/OnnxCpu.ts"
import type { ModelError } from "../src/models/ModelError.ts"
import { matrixProduct, type Ready, type Work, works } from "./works.ts"

export interface WorkReport {
  readonly work: string
  readonly provider: string
  readonly tokensPerSecond: number
  readonly gflops: number
  /** The device's own rate on a 1024 x 1024 matrix product, in the same process. */
  readonly matmulGflops: number
  /** Share of wall time inside the runtime's own run call. */
  readonly runShare: number
  /** The most bytes of device tensors and intermediate values. */
  readonly peakBytes: number
  readonly secondsPerStep: number
}

const median = (values: ReadonlyArray<number>): number => {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

/** Seconds of each of `steps` calls, after two that are not counted. */
const timed = ({ step }: Ready, steps: number) =>
  Effect.gen(function* () {
    const seconds: Array<number> = []
    for (let i = -2; i < steps; i++) {
      const start = process.hrtime.bigint()
      yield* step
      if (i >= 0) seconds.push(Number(process.hrtime.bigint() - start) / 1e9)
    }
    return seconds
  })

const measure = (work: Work, repeat: number) =>
  Effect.gen(function* () {
    const device = yield* Device
    const product = yield* matrixProduct(1024)
    const ready = yield* work.prepare
    const seconds: Array<number> = []
    const rates: Array<number> = []
    let inside = 0
    let wall = 0
    // in turn, so that both see the same weather
    for (let i = 0; i < repeat; i++) {
      rates.push(...(yield* timed(product, 5)).map((s) => product.flop / s / 1e9))
      const before = yield* device.stats
      const start = process.hrtime.bigint()
      seconds.push(...(yield* timed(ready, Math.ceil(work.steps / repeat))))
      wall += Number(process.hrtime.bigint() - start) / 1e6
      inside += (yield* device.stats).runMs - before.runMs
    }
    const step = median(seconds)
    const report: WorkReport = {
      work: work.name,
      provider: device.info.provider,
      tokensPerSecond: ready.tokens / step,
      gflops: ready.flop / step / 1e9,
      matmulGflops: median(rates),
      runShare: inside / wall,
      peakBytes: (yield* device.stats).peakBytes,
      secondsPerStep: step
    }
    return report
  }).pipe(Effect.scoped)

/** Times one work on the device that is provided. `peakBytes` is that of the whole process: use a fresh one. */
export const benchmarkHere = (
  name: string,
  { repeat = 3 }: { readonly repeat?: number } = {}
): Effect.Effect<WorkReport, DeviceError | ModelError, Device> => {
  const work = works.find((one) => one.name === name)
  return work === undefined ? Effect.die(new RangeError(`there is no work ${name}`)) : measure(work, repeat)
}

/** Times the named works (all by default), each in a process of its own, with the threads of the device that is provided. */
export const benchmark = (
  names: ReadonlyArray<string> = [],
  { repeat = 3 }: { readonly repeat?: number } = {}
): Effect.Effect<{ readonly works: ReadonlyArray<WorkReport> }, never, Device> =>
  Effect.gen(function* () {
    const { info } = yield* Device
    const wanted = works.map(({ name }) => name).filter((name) => names.length === 0 || names.includes(name))
    const reports = yield* Effect.forEach(wanted, (name) =>
      Effect.promise(async () => {
        const options = ["--threads", `${info.threads}`, "--repeat", `${repeat}`]
        const { stdout } = await execute(process.execPath, [import.meta.filename, ...options, name])
        const report: WorkReport = JSON.parse(stdout)
        return report
      })
    )
    return { works: reports }
  })

const execute = promisify(execFile)

if (process.argv[1] === import.meta.filename) {
  const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: { threads: { type: "string", default: "2" }, repeat: { type: "string", default: "3" } }
  })
  const layer = OnnxCpu.layer({ threads: Number(values.threads) })
  for (const name of positionals.length > 0 ? positionals : works.map((work) => work.name)) {
    const report = benchmarkHere(name, { repeat: Number(values.repeat) })
    console.log(JSON.stringify(await Effect.runPromise(Effect.provide(report, layer))))
  }
}
