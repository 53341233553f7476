/** An adapter goes into the weights that it stands beside: W <- W + s B A, on the device and in place. */
import { Effect } from "effect"
import { Device } from "../device/Device.ts"
import type { DeviceError } from "../device/DeviceError.ts"
import { dot } from "../tensor/ops/dot.ts"
import { add, mul } from "../tensor/ops/elementwise.ts"
import { zeros } from "../tensor/ops/leaf.ts"
import { concat, split } from "../tensor/ops/shape.ts"
import { type Program, program } from "../tensor/Program.ts"
import { input } from "../tensor/Tensor.ts"
import type { DecoderConfig } from "./decoderConfig.ts"
import { type Adapter, type Projection, projections, scaleOf } from "./lora.ts"
import type { Weights } from "./parameters.ts"

/** Equal for projections of equal shapes: a program is loaded for each kind, not for each layer. */
const mergeProgram = ({ columns, layers }: Projection, rank: number, scale: number): Program => {
  const adapted = layers.filter((layer) => layer.adapted)
  const rows = layers.reduce((sum, layer) => sum + layer.rows, 0)
  const weight = input("weight", "f32", [rows, columns])
  const a = input("a", "f32", [adapted.length * rank, columns])
  const factors = split(
    mul(a, scale),
    0,
    adapted.map(() => rank)
  )
  let next = 0
  const parts = layers.map((layer) => {
    if (!layer.adapted) return zeros([layer.rows, columns])
    const k = next++
    return dot(input(`b${k}`, "f32", [layer.rows, rank]), factors[k]!)
  })
  return program("merge", { outputs: { weight: add(weight, concat(parts, 0)) }, donate: { weight: "weight" } })
}

/** Adds an adapter's products to a decoder's weights. Nothing may hold the weights as constants. */
export const mergeAdapter = Effect.fn("mergeAdapter")(function* (
  config: DecoderConfig,
  weights: Weights,
  { settings, weights: factors }: Adapter
): Effect.fn.Return<void, DeviceError, Device> {
  const device = yield* Device
  yield* Effect.forEach(
    projections(config, settings),
    (projection) =>
      Effect.gen(function* () {
        const weight = weights.get(`${projection.name}.weight`)!
        const loaded = yield* device.load(mergeProgram(projection, settings.rank, scaleOf(settings)))
        const bs = projection.layers
          .filter(({ adapted }) => adapted)
          .map(({ name }, k) => [`b${k}`, factors.get(`${name}.lora_B`)!] as const)
        const feeds = { weight, a: factors.get(`${projection.name}.lora_A`)!, ...Object.fromEntries(bs) }
        yield* device.run(loaded, feeds, { weight })
      }),
    { discard: true }
  ).pipe(Effect.scoped)
})
