/**
 * Random weights made on the device. `initialise` draws them on the host, a normal after the other: minutes for a model of
 * billions, and gigabytes to copy. Here a program fills each tensor from the places of its elements,
 *
 *   h = place + key * odd,   three rounds of h *= 2 h + 1, h += h / 2^k, h *= odd   (32 bits, wrapping)
 *   value = sqrt(3) deviation h / 2^31,   uniform with the deviation asked for
 *
 * which is random enough for timing and for log-probabilities, and nothing more.
 */
import { Effect } from "effect"
import { Device, type DeviceTensor } from "../../src/device/Device.ts"
import type { TypedArray } from "../../src/device/HostTensor.ts"
import { scalar } from "../../src/models/batching.ts"
import { type Init, type initialise, type ParameterSpec, residentSpec } from "../../src/models/parameters.ts"
import { add, cast, mul } from "../../src/tensor/ops/elementwise.ts"
import { constant, iota } from "../../src/tensor/ops/leaf.ts"
import { reshape } from "../../src/tensor/ops/shape.ts"
import { type Program, program } from "../../src/tensor/Program.ts"
import { input, type Tensor } from "../../src/tensor/Tensor.ts"

const whole = (value: number): Tensor => constant(value | 0, "i32")

/** Rounds of mixing: what the number is divided by and added to itself, and the odd number that it is multiplied by. */
const rounds = [
  [2 ** 16, 0x7feb352d],
  [2 ** 15, 0x846ca68b],
  [2 ** 16, 0x9e3779b1]
] as const

/** Fills a tensor: inputs key i32, bound and centre f32, scalars. Output `values`, in (centre - bound, centre + bound). */
export const drawProgram = ({ shape, stored }: Pick<ParameterSpec, "shape" | "stored">): Program => {
  const count = shape.reduce((n, dim) => n * dim, 1)
  const from = mul(add(input("key", "i32", []), whole(1)), whole(0x85ebca6b))
  // no whole-number division here: its lowering compares constants of the full shape, which XLA computes while it compiles, for
  // half a minute where there are 300 million
  let h: Tensor = add(iota([count]), from)
  for (const [divisor, factor] of rounds) {
    const squared = mul(h, add(add(h, h), whole(1)))
    const high = cast(mul(cast(squared, "f32"), constant(1 / divisor)), "i32")
    h = mul(add(squared, high), whole(factor))
  }
  const unit = mul(cast(h, "f32"), constant(2 ** -31))
  const values = add(mul(unit, input("bound", "f32", [])), input("centre", "f32", []))
  return program("draw", { outputs: { values: cast(reshape(values, shape), stored ?? "f32") } })
}

const bounds = (init: Init): { readonly centre: number; readonly bound: number } =>
  init.kind === "constant"
    ? { centre: init.value, bound: 0 }
    : { centre: 0, bound: init.kind === "normal" ? Math.sqrt(3) * init.deviation : init.bound }

/** As `initialise`: weights of the deviations that the table says, made on the device. */
export const draw: typeof initialise = Effect.fn("draw")(function* (table, seed) {
  const device = yield* Device
  const weights = new Map<string, DeviceTensor>()
  for (const [i, spec] of table.entries()) {
    const tensor = yield* device.tensor(residentSpec(spec), "zeros")
    const { bound, centre } = bounds(spec.init)
    const key: TypedArray = Int32Array.of(seed * 4096 + i)
    yield* Effect.scoped(
      Effect.gen(function* () {
        // an equal program that was loaded before is shared
        const loaded = yield* device.load(drawProgram(spec))
        const feeds = {
          key: { dtype: "i32" as const, shape: [], data: key },
          bound: scalar(bound),
          centre: scalar(centre)
        }
        yield* device.run(loaded, feeds, { values: tensor })
      })
    )
    weights.set(spec.name, tensor)
  }
  return weights
})
