/** The threshold of top-k in float32: by bisection on XLA the very number that onnxruntime's sort finds, over a large vocabulary. */
import { Effect } from "effect"
import { describe, expect, it } from "vitest"
import { Device } from "../../../src/device/Device.ts"
import { f32 } from "../../../src/device/HostTensor.ts"
import { OnnxCpu } from "../../../src/device/onnx/OnnxCpu.ts"
import { normals, stream } from "../../../src/device/random.ts"
import { kthLargest } from "../../../src/tensor/composites/kthLargest.ts"
import { program } from "../../../src/tensor/Program.ts"
import { input } from "../../../src/tensor/Tensor.ts"
import { onDevice } from "../support.ts"
import { absent, titled, xlaCpu } from "./support.ts"

const [rows, vocabulary] = [4, 20_000]
const ks = [1, 2, 50, 1000]
/** As log-probabilities of a flat row, a usual one, a sharp one, and one whose best token has nearly all. */
const logprobs = Float32Array.from(normals(stream(0, "logits"), rows * vocabulary), (x, i) => {
  const row = Math.floor(i / vocabulary)
  return row === 3 ? (i % vocabulary === 7 ? -1e-3 : -8 - Math.abs(x)) : -2 - [0.01, 1, 4][row]! * Math.abs(x)
})

const thresholds = Effect.gen(function* () {
  const device = yield* Device
  const x = input("x", "f32", ["rows", vocabulary])
  const outputs = Object.fromEntries(ks.map((k) => [`k${k}`, kthLargest(x, k)]))
  const loaded = yield* device.load(program("thresholds", { outputs }))
  const found = yield* device.run(loaded, { x: f32([rows, vocabulary], logprobs) })
  return ks.map((k) => [...found[`k${k}`]!.data].map(Number))
}).pipe(Effect.scoped)

const sorted = ks.map((k) =>
  Array.from(
    { length: rows },
    (_, row) =>
      logprobs
        .slice(row * vocabulary, (row + 1) * vocabulary)
        .toSorted()
        .at(-k)!
  )
)

it("is found by sorting on the CPU", async () => {
  expect(await onDevice(OnnxCpu.layer({ threads: 1 }))(thresholds)).toEqual(sorted)
})

describe.skipIf(absent !== undefined)(titled("by bisection"), () => {
  it("is the same number", async () => {
    expect(await onDevice(xlaCpu)(thresholds)).toEqual(sorted)
  })
})
