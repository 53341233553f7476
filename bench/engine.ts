/**
 * `exp bench`: how fast the device is on four works, beside what its own matrix product reaches in the same process with
 * the same threads. Medians over steps; the clock of a shared machine drifts, so ratios within one run are what counts.
 *
 *   node bench/engine.ts [--device NAME] [--threads N] [--repeat N] [work ...]      prints a JSON object a work
 */
import { execFile } from "node:child_process"
import { parseArgs, promisify } from "node:util"
import { Effect, type Layer } from "effect"
import { Device } from "../src/device/Device.ts"
import type { DeviceError } from "../src/device/DeviceError.ts"
import { OnnxCpu } from "../src/device/onnx/OnnxCpu.ts"
import { OnnxWebGpu } from "../src/device/onnx/OnnxWebGpu.ts"
import { pluginOf } from "../src/device/xla/plugins.ts"
import { XlaDevice } from "../src/device/xla/XlaDevice.ts"
import type { ModelError } from "../src/models/ModelError.ts"
import { median } from "./median.ts"
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
const benchmarkHere = (
  name: string,
  { repeat = 3 }: { readonly repeat?: number } = {}
): Effect.Effect<WorkReport, DeviceError | ModelError, Device> => {
  const work = works.find((one) => one.name === name)
  return work === undefined ? Effect.die(new RangeError(`there is no work ${name}`)) : measure(work, repeat)
}

export interface Where {
  /** `cpu`, `webgpu`, `xla:cpu`, `xla:cuda`. */
  readonly provider: string
  /** Of the CPU. */
  readonly threads: number
}

/** Times a work in a process of its own. */
export const benchmark = (name: string, { provider, threads }: Where, repeat = 3): Effect.Effect<WorkReport> =>
  Effect.promise(async () => {
    const options = ["--device", provider, "--threads", `${threads}`, "--repeat", `${repeat}`]
    const flags = ["--disable-warning=ExperimentalWarning", import.meta.filename]
    const { stdout } = await execute(process.execPath, [...flags, ...options, name])
    return JSON.parse(stdout)
  })

const execute = promisify(execFile)

const layerOf = ({ provider, threads }: Where): Layer.Layer<Device, DeviceError> => {
  if (provider === "cpu") return OnnxCpu.layer({ threads })
  if (provider === "webgpu") return OnnxWebGpu.layer()
  const plugin = pluginOf(provider)
  if (plugin === undefined) throw new RangeError(`there is no device ${provider}`)
  return XlaDevice.layer({ plugin })
}

if (process.argv[1] === import.meta.filename) {
  const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: {
      device: { type: "string", default: "cpu" },
      threads: { type: "string", default: "2" },
      repeat: { type: "string", default: "3" }
    }
  })
  const layer = layerOf({ provider: values.device, threads: Number(values.threads) })
  for (const name of positionals.length > 0 ? positionals : works.map((work) => work.name)) {
    const report = benchmarkHere(name, { repeat: Number(values.repeat) })
    console.log(JSON.stringify(await Effect.runPromise(Effect.provide(report, layer))))
  }
}
