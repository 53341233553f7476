/** Weights of one model from those of another of the same sizes: target <- (1 - share) target + share source, in place. */
import { Effect, type Scope } from "effect"
import { Device, type DeviceTensor } from "../device/Device.ts"
import type { DeviceError } from "../device/DeviceError.ts"
import { BadRequest, fail, type ModelError } from "./ModelError.ts"
import type { Weights } from "./parameters.ts"

/** The same tensors again, to stay as they are while these change. */
export const copyWeights = Effect.fn("copyWeights")(function* (
  weights: Weights
): Effect.fn.Return<Weights, DeviceError, Device | Scope.Scope> {
  const device = yield* Device
  const copies = new Map<string, DeviceTensor>()
  for (const [name, tensor] of weights) {
    const { dtype, shape } = tensor
    copies.set(name, yield* device.tensor({ name, dtype, shape }, (yield* device.read(tensor)).data))
  }
  return copies
})

/**
 * With `share` 1 the target becomes the source bit for bit. Programs that hold the target's weights as constants do not see
 * the change: a model that has generated must not be a target.
 */
export const mixWeights = Effect.fn("mixWeights")(function* (
  target: Weights,
  source: Weights,
  share: number
): Effect.fn.Return<void, ModelError | DeviceError, Device> {
  const device = yield* Device
  for (const [name, tensor] of target) {
    const other = source.get(name)
    if (other === undefined || other.shape.join() !== tensor.shape.join()) {
      return yield* fail(
        new BadRequest({
          detail: `weights [${tensor.shape.join(", ")}] of ${name} cannot be mixed with ${other === undefined ? "none" : `[${other.shape.join(", ")}]`}`
        })
      )
    }
    const taken = (yield* device.read(other)).data as Float32Array
    const kept = share === 1 ? undefined : ((yield* device.read(tensor)).data as Float32Array)
    const values = Float32Array.from(taken, (value, i) =>
      kept === undefined ? value : (1 - share) * kept[i]! + share * value
    )
    yield* device.write(tensor, values)
  }
})
