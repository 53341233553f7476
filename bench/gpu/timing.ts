/** Timing of programs on a device, and numbers to feed them. */
import { Effect } from "effect"
import { Device, type DeviceTensor, type Feeds } from "../../src/device/Device.ts"
import { normals, stream } from "../../src/device/random.ts"
import type { Program } from "../../src/tensor/Program.ts"
import { median } from "../median.ts"

const now = Effect.sync(() => performance.now())

/** Seconds of each run of something, after one that is not timed. */
export const timed = <E, R>(run: Effect.Effect<unknown, E, R>, repeats: number): Effect.Effect<Array<number>, E, R> =>
  Effect.gen(function* () {
    yield* run
    const seconds: Array<number> = []
    for (let i = 0; i < repeats; i++) {
      const start = yield* now
      yield* run
      seconds.push(((yield* now) - start) / 1000)
    }
    return seconds
  })

/** Median seconds of a program's run whose feeds and outputs stay on the device. */
export const secondsOf = (made: Program, feeds: Feeds, into: Readonly<Record<string, DeviceTensor>>, repeats: number) =>
  Effect.gen(function* () {
    const device = yield* Device
    const loaded = yield* device.load(made)
    return median(yield* timed(device.run(loaded, feeds, into), repeats))
  }).pipe(Effect.scoped)

/** Normal numbers by name. */
export const drawn = (name: string, count: number, deviation = 1): Float32Array =>
  normals(stream(0, "gpu", name), count).map((value) => value * deviation)

/** The largest difference of two arrays, relative to the largest element of the second. */
export const relativeDifference = (found: ArrayLike<number>, wanted: ArrayLike<number>): number => {
  let difference = 0
  let largest = 0
  for (let i = 0; i < wanted.length; i++) {
    const by = Math.abs(found[i]! - wanted[i]!)
    if (!(by <= difference)) difference = by
    largest = Math.max(largest, Math.abs(wanted[i]!))
  }
  return difference / largest
}
