/**
 * A tensor that lives on an XLA device, or spread over those of a mesh, between runs. Its elements are one buffer (one on
 * each device), which a program that writes the tensor replaces. The buffer may be larger than the tensor along some axes: programs compute sizes up to a bucket, and what lies
 * beyond the tensor's own sizes means nothing. A tensor of zeros has no buffer until something needs one.
 */
import type { Dtype } from "../../tensor/Tensor.ts"
import { byteWidth } from "../../tensor/Tensor.ts"
import type { DeviceTensor } from "../Device.ts"
import { elementCount, type TypedArray, viewOf } from "../HostTensor.ts"
import type { Mesh } from "../mesh.ts"
import type { Client } from "./Client.ts"
import { type Laid, lay } from "./Spread.ts"
import { fitted, type Placement, specText } from "./sharding.ts"

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
  readonly #over: { readonly mesh: Mesh; readonly placement: Placement } | undefined
  readonly #placements = new Map<string, Placement>()
  #buffer: Laid | undefined

  /** @param over the mesh that it is spread over, and how it is to lie there */
  constructor(
    client: Client,
    name: string,
    dtype: Dtype,
    shape: ReadonlyArray<number>,
    over?: { readonly mesh: Mesh; readonly placement: Placement }
  ) {
    this.#client = client
    this.#over = over
    const { order, spec } = over?.placement ?? {}
    this.layout =
      spec === undefined ? "" : `${specText(spec)}${order === undefined ? "" : `/${order.ways}:${order.parts}`}`
    this.name = name
    this.dtype = dtype
    this.shape = shape
    this.byteLength = elementCount(shape) * byteWidth[dtype]
  }

  /** The buffer, if it has one. */
  get buffer(): Laid | undefined {
    return this.#buffer
  }

  /** Tells apart how tensors lie. */
  readonly layout: string

  /** How a buffer of a shape lies on the mesh; undefined on one device. */
  placementFor(physical: ReadonlyArray<number>): Placement | undefined {
    if (this.#over === undefined) return undefined
    const { mesh, placement } = this.#over
    const key = physical.join()
    const known = this.#placements.get(key)
    if (known !== undefined) return known
    const made = fitted(mesh, placement, physical)
    this.#placements.set(key, made)
    return made
  }

  #laid(data: TypedArray, physical: ReadonlyArray<number>): Laid {
    return lay(this.#client, this.#over?.mesh, data, this.dtype, physical, this.placementFor(physical))
  }

  /** The buffer, made of zeros of a shape at least as large where there is none. */
  need(physical: ReadonlyArray<number> = this.shape): Laid {
    this.#buffer ??= this.#laid(zerosOf(this.dtype, physical), physical)
    return this.#buffer
  }

  /** Takes a buffer for its own; the one before is given back. */
  adopt(buffer: Laid): void {
    const before = this.#buffer
    this.#buffer = buffer
    before?.destroy()
  }

  /** Replaces the elements. */
  assign(data: TypedArray): void {
    this.adopt(this.#laid(data, this.shape))
  }

  release(): void {
    this.released = true
    this.#buffer?.destroy()
    this.#buffer = undefined
  }
}
