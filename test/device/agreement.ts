/** The same models on two devices: texts of many lengths, a run on the CPU and on another device, and how near the results are. */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert } from "@effect/vitest"
import { Effect, Layer } from "effect"
import type { Device } from "../../src/device/Device.ts"
import type { DeviceError } from "../../src/device/DeviceError.ts"
import { OnnxCpu } from "../../src/device/onnx/OnnxCpu.ts"
import { worldSpec } from "../models/world.ts"

const words = worldSpec.words.map((word) => word.trim()).filter((word) => /^[a-z]+$/i.test(word))
/** Some words of the small world. */
export const phrase = (count: number, from: number) =>
  Array.from({ length: count }, (_, i) => words[(from + i * 3) % words.length]!).join(" ")

/** The CPU's result, then the other device's. */
export const besideCpu =
  (other: Layer.Layer<Device, DeviceError>) =>
  <A, E>(effect: Effect.Effect<A, E, Device | NodeServices.NodeServices>) =>
    Effect.forEach([OnnxCpu.layer({ threads: 1 }), other] as const, (device) =>
      effect.pipe(Effect.provide(Layer.mergeAll(device, NodeServices.layer)))
    )

/** Numbers within a relative tolerance, one by one. */
export const near = (a: ReadonlyArray<number>, b: ReadonlyArray<number>, tolerance: number, what: string) => {
  assert.strictEqual(a.length, b.length)
  a.forEach((x, i) => {
    assert.isAtMost(Math.abs(x - b[i]!), tolerance * Math.max(1e-6, Math.abs(x)), `${what} ${i}: ${x} and ${b[i]}`)
  })
}
