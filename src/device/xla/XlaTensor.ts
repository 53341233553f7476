/**
 * A tensor that lives on an XLA device between runs. Its elements are one buffer, which a program that writes the tensor
 * replaces. The buffer may be larger than the tensor along some axes: programs compute sizes up to a bucket, and what lies
 * beyond the tensor's own sizes means nothing. A tensor of zeros has no buffer until something needs one.
 */
import type { Dtype } from "../../tensor/Tensor.ts"
import { byteWidth } from "../../tensor/Tensor.ts"
import type { DeviceTensor } from "../Device.ts"
import { elementCount, type TypedArray, viewOf } from "../HostTensor.ts"
import type { Client, DeviceBuffer } from "./Client.ts"

export const sameShape = (a: ReadonlyArray<number>, b: ReadonlyArray<number>): boolean =>
  a.length === b.length && a.every((size, i) => size === b[i])

/** Zeros in memory that does not move. */
export const zerosOf = (dtype: Dtype, shape: ReadonlyArray<number>): TypedArray => {
  const count = elementCount(shape)
  return viewOf(dtype, new ArrayBuffer(count * byteWidth[dtype]), 0, count)
}

/** Copies the part that both shapes have, from the beginning of every axis; what else `to` has stays. */
export const copyCorner = (
  from: TypedArray,
  fromShape: ReadonlyArray<number>,
  to: TypedArray,
  toShape: ReadonlyArray<number>
): void => {
  const bytes = (array: TypedArray) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength)
  const [source, target, width] = [bytes(from), bytes(to), from.BYTES_PER_ELEMENT]
  // axes from `last` on are whole in both: rows of them are copied at once
  let last = fromShape.length
  while (last > 0 && fromShape[last - 1] === toShape[last - 1]) last--
  if (last === 0) {
    target.set(source)
    return
  }
  const inner = elementCount(fromShape.slice(last)) * width
  const copy = (axis: number, at: number, place: number): void => {
    const count = Math.min(fromShape[axis]!, toShape[axis]!)
    if (axis === last - 1) {
      const start = at * fromShape[axis]! * inner
      target.set(source.subarray(start, start + count * inner), place * toShape[axis]! * inner)
      return
    }
    for (let i = 0; i < count; i++) copy(axis + 1, at * fromShape[axis]! + i, place * toShape[axis]! + i)
  }
  copy(0, 0, 0)
}

export class XlaTensor implements DeviceTensor {
  readonly _tag = "DeviceTensor"
  readonly name: string
  readonly dtype: Dtype
  readonly shape: ReadonlyArray<number>
  readonly byteLength: number
  /** How many loaded programs hold it as a constant. */
  constantOf = 0
  released = false
  readonly #client: Client
  #buffer: DeviceBuffer | undefined

  constructor(client: Client, name: string, dtype: Dtype, shape: ReadonlyArray<number>) {
    this.#client = client
    this.name = name
    this.dtype = dtype
    this.shape = shape
    this.byteLength = elementCount(shape) * byteWidth[dtype]
  }

  /** The buffer, if it has one. */
  get buffer(): DeviceBuffer | undefined {
    return this.#buffer
  }

  /** The buffer, made of zeros of a shape at least as large where there is none. */
  need(physical: ReadonlyArray<number> = this.shape): DeviceBuffer {
    this.#buffer ??= this.#client.put(zerosOf(this.dtype, physical), this.dtype, physical)
    return this.#buffer
  }

  /** Takes a buffer for its own; the one before is given back. */
  adopt(buffer: DeviceBuffer): void {
    const before = this.#buffer
    this.#buffer = buffer
    before?.destroy()
  }

  /** Replaces the elements. */
  assign(data: TypedArray): void {
    this.adopt(this.#client.put(data, this.dtype, this.shape))
  }

  release(): void {
    this.released = true
    this.#buffer?.destroy()
    this.#buffer = undefined
  }
}
