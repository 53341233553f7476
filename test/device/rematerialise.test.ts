/**
 * Rematerialisation survives the runtime's optimisers: counted in the model that they leave, and seen in the arena's peak.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Effect } from "effect"
import { afterAll, expect, test } from "vitest"
import { Device } from "../../src/device/Device.ts"
import { f32, scalarOf } from "../../src/device/HostTensor.ts"
import { OnnxCpu } from "../../src/device/onnx/OnnxCpu.ts"
import { decodeGraph } from "../../src/device/onnx/proto.ts"
import { normals, stream } from "../../src/device/random.ts"
import { swiglu } from "../../src/tensor/composites/activation.ts"
import { linear } from "../../src/tensor/composites/linear.ts"
import { rmsNorm } from "../../src/tensor/composites/norm.ts"
import { rematerialise } from "../../src/tensor/composites/rematerialise.ts"
import { gradient } from "../../src/tensor/gradient.ts"
import { add, mul } from "../../src/tensor/ops/elementwise.ts"
import { reduceSum } from "../../src/tensor/ops/reduce.ts"
import { type Program, program } from "../../src/tensor/Program.ts"
import { input, type Tensor } from "../../src/tensor/Tensor.ts"

const [rows, width, inner, layers] = [512, 32, 256, 8]

const network = (name: string, again: boolean): Program => {
  const x = input("x", "f32", ["rows", width])
  const norm = input("norm", "f32", [width])
  const weights = Array.from({ length: layers }, (_, i) => ({
    gate: input(`gate${i}`, "f32", [inner, width]),
    up: input(`up${i}`, "f32", [inner, width]),
    down: input(`down${i}`, "f32", [width, inner])
  }))
  let y: Tensor = x
  for (const { gate, up, down } of weights) {
    const layer = (h: Tensor) => {
      const n = rmsNorm(h, norm)
      return add(h, linear(swiglu(linear(n, gate), linear(n, up)), down))
    }
    y = again ? rematerialise([y], (h) => [layer(h!)])[0]! : layer(y)
  }
  const loss = reduceSum(mul(y, y))
  const wanted = [x, norm, ...weights.flatMap(({ gate, up, down }) => [gate, up, down])]
  const by = gradient(loss, wanted)
  return program(name, { outputs: { loss, ...Object.fromEntries(by.map((dx, i) => [`d${i}`, dx])) } })
}

const folder = mkdtempSync(join(tmpdir(), "overtone-"))
afterAll(() => rmSync(folder, { recursive: true }))

const products = (name: string) =>
  decodeGraph(readFileSync(join(folder, `${name}.onnx`))).node.filter(({ opType }) => /MatMul|Gemm/.test(opType)).length

test("the optimised graph computes layers twice, the peak is a fraction, the derivatives are the same", async () => {
  const plain = network("plain", false)
  const again = network("again", true)
  const feeds = Object.fromEntries(
    [...plain.inputs].map(([name, { shape }]) => {
      const sizes = shape.map((dim) => (typeof dim === "number" ? dim : rows))
      const values = normals(
        stream(3, name),
        sizes.reduce((n, d) => n * d, 1)
      )
      return [
        name,
        f32(
          sizes,
          values.map((v) => v * (name === "x" ? 1 : 0.1))
        )
      ]
    })
  )
  const run = (one: Program) =>
    Effect.gen(function* () {
      const device = yield* Device
      const loaded = yield* device.load(one)
      const outputs = yield* device.run(loaded, feeds)
      return { outputs, peak: (yield* device.stats).peakBytes }
    }).pipe(Effect.scoped)
  const both = Effect.gen(function* () {
    // the peak only rises: the smaller first
    const small = yield* run(again)
    const large = yield* run(plain)
    return { small, large }
  }).pipe(Effect.provide(OnnxCpu.layer({ threads: 2, inspect: { folder, optimizedModel: true } })))
  const { small, large } = await Effect.runPromise(both)

  // a layer has 3 products, its derivative 6; computed again it has all but the last of its 3 once more
  expect([products("plain"), products("again")]).toEqual([9 * layers, 11 * layers])
  // without: gate, up, their product and what the derivative reads, of every layer; with: of one layer at a time
  expect(small.peak).toBeLessThan(large.peak / 2)
  expect(scalarOf(small.outputs["loss"]!)).toBeCloseTo(scalarOf(large.outputs["loss"]!), 3)
  for (const [name, { data }] of Object.entries(large.outputs)) {
    const scale = Array.from(data, Number).reduce((most, v) => Math.max(most, Math.abs(v)), 0)
    for (let i = 0; i < data.length; i++) {
      expect(Math.abs(Number(small.outputs[name]!.data[i]) - Number(data[i]))).toBeLessThanOrEqual(2e-5 * scale)
    }
  }
})
