/** A tensor that the runtime has a value for, wherever its elements lie. */
import type { DeviceTensor } from "../Device.ts"
import type { HostTensor, TypedArray } from "../HostTensor.ts"

export interface OrtTensor extends DeviceTensor {
  /** The runtime's value over the elements. */
  readonly value: bigint
  /** How many loaded programs hold it as a constant. */
  constantOf: number
  readonly released: boolean
  /** Replaces the elements by those of an array of the same kind and length. */
  assign(data: TypedArray): void
  /** The elements, copied to the host. */
  copy(): HostTensor
  /** Keeps the memory for another holder. */
  hold(): void
  /** One holder fewer; the memory goes with the last. */
  release(): void
}
