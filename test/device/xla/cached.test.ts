/** Keys and values that are kept in bfloat16: where products round them anyway, no bit of what is sampled changes. */
import { it } from "@effect/vitest"
import { Effect } from "effect"
import { describe, expect } from "vitest"
import { Device, type DeviceTensor } from "../../../src/device/Device.ts"
import { f32, i32 } from "../../../src/device/HostTensor.ts"
import { normals, stream, uniforms } from "../../../src/device/random.ts"
import { cacheBytesPerToken, cacheDtype, cacheInputs } from "../../../src/models/decode.ts"
import { decoderParameters } from "../../../src/models/decoder.ts"
import type { DecoderConfig } from "../../../src/models/decoderConfig.ts"
import { initialise } from "../../../src/models/parameters.ts"
import { fromBFloat16, toBFloat16 } from "../../../src/models/safetensors/dtypes.ts"
import { segmentProgram } from "../../../src/models/segment.ts"
import { tinyConfig } from "../../models/tinyPolicy.ts"
import { absent, titled, xlaBf16 } from "./support.ts"

const [rows, places, steps] = [3, 16, 4]

/** A segment from given tokens and a cache of random numbers. */
const segment = (config: DecoderConfig) =>
  Effect.gen(function* () {
    const device = yield* Device
    const weights = yield* initialise(decoderParameters(config), 0)
    const dtype = cacheDtype(config)
    const cache: Record<string, DeviceTensor> = {}
    for (const name of cacheInputs(config, "rows", "places").keys()) {
      const shape = [rows, config.keyValueHeads, places, config.headSize]
      const values = normals(
        stream(0, "cache", name),
        shape.reduce((n, dim) => n * dim, 1)
      )
      cache[name] = yield* device.tensor({ name, dtype, shape }, dtype === "bf16" ? toBFloat16(values) : values)
    }
    const loaded = yield* device.load(segmentProgram(config, { greedy: false, banned: false }, { steps, stops: 1 }))
    const sampled = yield* device.run(
      loaded,
      {
        ...Object.fromEntries(weights),
        ...cache,
        token: i32([rows], [5, 6, 7]),
        lengths: i32([rows], [2, 9, 0]),
        left: i32([], [steps]),
        leave: i32([], [0]),
        live: i32([rows], [1, 1, 1]),
        stops: i32([1], config.eosIds),
        temperature: f32([], [1]),
        uniform: f32([steps, rows], uniforms(stream(0, "uniform"), steps * rows))
      },
      cache
    )
    const kept = yield* Effect.forEach(Object.values(cache), (tensor) => device.read(tensor))
    return {
      sampled: Object.entries(sampled).map(([name, { data }]) => [name, [...data].map(Number)]),
      // rounded once more: what was there before is float32 in the one and bfloat16 in the other
      kept: kept.map(({ data }) =>
        data instanceof Uint16Array ? [...fromBFloat16(data)] : [...fromBFloat16(toBFloat16(data as Float32Array))]
      )
    }
  }).pipe(Effect.scoped, Effect.provide(xlaBf16))

describe.skipIf(absent !== undefined)(titled("a cache in bf16"), () => {
  it.effect("gives the same tokens, log-probabilities, keys and values, of half the bytes", () =>
    Effect.gen(function* () {
      const narrow = { ...tinyConfig, cached: "bf16" as const }
      expect(yield* segment(narrow)).toEqual(yield* segment(tinyConfig))
      expect(2 * cacheBytesPerToken(narrow)).toBe(cacheBytesPerToken(tinyConfig))
    })
  )
})
