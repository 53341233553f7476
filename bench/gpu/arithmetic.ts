/** Part a: products against float64, and attention by the library against attention by its definition. */
import { Effect } from "effect"
import { Device, type DeviceTensor } from "../../src/device/Device.ts"
import type { HostTensor } from "../../src/device/HostTensor.ts"
import { bf16Of } from "../../src/device/xla/inBf16.ts"
import { fusedAttention } from "../../src/device/xla/lower/fusedAttention.ts"
import { writeProgram } from "../../src/device/xla/writer.ts"
import { fromBFloat16, toBFloat16 } from "../../src/models/safetensors/dtypes.ts"
import { attention } from "../../src/tensor/composites/attention.ts"
import { linear } from "../../src/tensor/composites/linear.ts"
import { gradient } from "../../src/tensor/gradient.ts"
import { mul } from "../../src/tensor/ops/elementwise.ts"
import { reduceSum } from "../../src/tensor/ops/reduce.ts"
import { type Program, program } from "../../src/tensor/Program.ts"
import { input } from "../../src/tensor/Tensor.ts"
import { deviceOf, type Setting, type Step } from "./Setting.ts"
import { drawn, relativeDifference, secondsOf } from "./timing.ts"

const f32 = (shape: ReadonlyArray<number>, data: Float32Array): HostTensor => ({ dtype: "f32", shape, data })

/** x w^T in float64. */
const product = (x: Float32Array, w: Float32Array, depth: number): Float64Array => {
  const [m, n] = [x.length / depth, w.length / depth]
  const out = new Float64Array(m * n)
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      let sum = 0
      for (let k = 0; k < depth; k++) sum += x[i * depth + k]! * w[j * depth + k]!
      out[i * n + j] = sum
    }
  }
  return out
}

/**
 * Largest differences, relative to the largest element. In float32 about 1e-6; TF32, which a card may use unasked, would give
 * 1e-3. In bf16 against the product of the rounded numbers: float32 again if sums are, 2^-9 where the result is rounded.
 */
export const dots: Step = (setting) =>
  Effect.gen(function* () {
    const [m, k, n] = setting.tiny ? [24, 48, 32] : [512, 1024, 384]
    const made = program("product", { outputs: { y: linear(input("x", "f32", [m, k]), input("w", "f32", [n, k])) } })
    const [x, w] = [drawn("x", m * k), drawn("w", n * k)]
    const run = Effect.gen(function* () {
      const device = yield* Device
      const { y } = yield* device.run(yield* device.load(made), { x: f32([m, k], x), w: f32([n, k], w) })
      return Float64Array.from(y!.data, Number)
    }).pipe(Effect.scoped)
    const exact = product(x, w, k)
    const single = relativeDifference(yield* run.pipe(Effect.provide(deviceOf(setting, "f32"))), exact)
    setting.keep({ m, k, n, f32: single })
    const rounded = product(fromBFloat16(toBFloat16(x)), fromBFloat16(toBFloat16(w)), k)
    const half = relativeDifference(yield* run.pipe(Effect.provide(deviceOf(setting, "bf16"))), rounded)
    return { m, k, n, f32: single, bf16: half, right: single < 1e-5 && half < 2 ** -7 }
  })

/** Causal attention and its derivatives by q, k and v, of the sum of its elements times `by`. */
const attending = (b: number, t: number, heads: number, keyHeads: number, width: number): Program => {
  const q = input("q", "f32", [b, t, heads, width])
  const k = input("k", "f32", [b, t, keyHeads, width])
  const v = input("v", "f32", [b, t, keyHeads, width])
  const { out } = attention(q, k, v, { causal: true })
  const [dq, dk, dv] = gradient(reduceSum(mul(out, input("by", "f32", [b, t, heads, width]))), [q, k, v])
  return program("attention", { outputs: { out, dq: dq!, dk: dk!, dv: dv! } })
}

const attend = (setting: Setting, made: Program) =>
  Effect.gen(function* () {
    const device = yield* Device
    const feeds: Record<string, DeviceTensor> = {}
    for (const [name, { shape }] of made.inputs) {
      const dims = shape.map(Number)
      const count = dims.reduce((n, dim) => n * dim, 1)
      feeds[name] = yield* device.tensor({ name, dtype: "f32", shape: dims }, drawn(name, count))
    }
    const into: Record<string, DeviceTensor> = {}
    for (const [name, { shape }] of made.outputs) {
      into[name] = yield* device.tensor({ name, dtype: "f32", shape: shape.map(Number) }, "zeros")
    }
    const read = Effect.forEach(Object.values(into), (tensor) => device.read(tensor))
    const seconds = yield* secondsOf(made, feeds, into, setting.tiny ? 2 : 10)
    const first = (yield* read).map(({ data }) => Float32Array.from(data, Number))
    yield* secondsOf(made, feeds, into, 1)
    const second = (yield* read).map(({ data }) => Float32Array.from(data, Number))
    const same = first.every((values, i) => values.every((value, j) => value === second[i]![j]))
    return { seconds, results: Object.fromEntries(Object.keys(into).map((name, i) => [name, first[i]!])), same }
  }).pipe(Effect.scoped)

/**
 * Attention in bf16, which is cuDNN's on CUDA (`customCalls`), against its definition in float32: the largest differences of
 * output and derivatives, relative to the largest element; times; whether it gives the same bits again.
 */
export const fused: Step = (setting) =>
  Effect.gen(function* () {
    const shapes = setting.tiny
      ? [[2, 16, 4, 2, 8]]
      : [
          [2, 2048, 14, 2, 64],
          [2, 2048, 16, 2, 128]
        ]
    const found: Array<unknown> = []
    for (const [b, t, heads, keyHeads, width] of shapes) {
      const made = attending(b!, t!, heads!, keyHeads!, width!)
      const calls = [...writeProgram(bf16Of(made), undefined, fusedAttention).text.matchAll(/__cudnn\$\w+/g)]
      const narrow = yield* attend(setting, made).pipe(Effect.provide(deviceOf(setting, "bf16")))
      const exact = yield* attend(setting, made).pipe(Effect.provide(deviceOf(setting, "f32")))
      const differences = Object.fromEntries(
        Object.entries(exact.results).map(([name, values]) => [name, relativeDifference(narrow.results[name]!, values)])
      )
      found.push({
        shape: { batch: b, time: t, heads, keyHeads, width },
        customCalls: setting.device === "cuda" ? calls.map(([target]) => target) : [],
        differences,
        right: Object.values(differences).every((by) => by < 0.03),
        sameBitsAgain: narrow.same,
        seconds: narrow.seconds,
        secondsByDefinitionInFloat32: exact.seconds
      })
      setting.keep(found)
    }
    return found
  })
