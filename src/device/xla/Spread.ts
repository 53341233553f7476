/**
 * Elements laid out over the devices of a mesh: one buffer on each, which holds the device's part, or everything where
 * nothing is cut. On one device a buffer is all there is to it.
 */
import type { Dtype } from "../../tensor/Tensor.ts"
import { elementCount, type TypedArray, viewOf } from "../HostTensor.ts"
import { type Mesh, meshDevices } from "../mesh.ts"
import type { Client, DeviceBuffer } from "./Client.ts"
import {
  isWhole,
  laidAs,
  type Order,
  type Placement,
  type Range,
  rowsInOrder,
  shareOf,
  shareShape,
  whole
} from "./sharding.ts"

/** Elements on the devices of a client, whole on one or spread over several. */
export interface Laid {
  readonly dtype: Dtype
  /** Of the whole. */
  readonly shape: ReadonlyArray<number>
  /** A buffer of each device. */
  readonly shards: ReadonlyArray<DeviceBuffer>
  /** How they lie; undefined on one device. */
  readonly placement: Placement | undefined
  /** Gives the memory back. */
  destroy(): void
}

export class Spread implements Laid {
  readonly dtype: Dtype
  readonly shape: ReadonlyArray<number>
  readonly shards: ReadonlyArray<DeviceBuffer>
  readonly placement: Placement

  constructor(dtype: Dtype, shape: ReadonlyArray<number>, shards: ReadonlyArray<DeviceBuffer>, placement: Placement) {
    this.dtype = dtype
    this.shape = shape
    this.shards = shards
    this.placement = placement
  }

  destroy(): void {
    for (const shard of this.shards) shard.destroy()
  }
}

/** Walks a part of an array of some shape in runs of neighbours: `visit(from in the whole, to in the part, count)`. */
const runs = (
  shape: ReadonlyArray<number>,
  part: ReadonlyArray<Range>,
  visit: (whole: number, part: number, count: number) => void
): void => {
  let last = shape.length
  while (last > 0 && part[last - 1]!.size === shape[last - 1]) last--
  const inner = elementCount(shape.slice(last))
  if (last === 0) {
    visit(0, 0, inner)
    return
  }
  const [own, all] = [part.slice(0, last), shape.slice(0, last)]
  const step = (axis: number, from: number, to: number): void => {
    const { size, start } = own[axis]!
    if (axis === last - 1) visit((from * all[axis]! + start) * inner, to * size * inner, size * inner)
    else for (let i = 0; i < size; i++) step(axis + 1, from * all[axis]! + start + i, to * size + i)
  }
  step(0, 0, 0)
}

const emptyOf = (data: TypedArray, dtype: Dtype, count: number): TypedArray =>
  viewOf(dtype, new ArrayBuffer(count * data.BYTES_PER_ELEMENT), 0, count)

/** `to[at..] = from[start .. start + count]`, of arrays of one kind. */
const copy = (from: TypedArray, start: number, count: number, to: TypedArray, at: number): void => {
  const width = from.BYTES_PER_ELEMENT
  const source = new Uint8Array(from.buffer, from.byteOffset + start * width, count * width)
  new Uint8Array(to.buffer, to.byteOffset, to.byteLength).set(source, at * width)
}

/** The rows of an array in another order: `into[i] = from[order[i]]`, or back. */
const reordered = (
  data: TypedArray,
  dtype: Dtype,
  shape: ReadonlyArray<number>,
  order: Order,
  back: boolean
): TypedArray => {
  const width = elementCount(shape.slice(1))
  const made = emptyOf(data, dtype, data.length)
  rowsInOrder(order).forEach((row, place) => {
    const [from, to] = back ? [place, row] : [row, place]
    copy(data, from * width, width, made, to * width)
  })
  return made
}

/** Copies an array to the devices of a mesh, to each its part. */
const spread = (
  client: Client,
  mesh: Mesh,
  data: TypedArray,
  dtype: Dtype,
  shape: ReadonlyArray<number>,
  placement: Placement
): Spread => {
  const { order, spec } = placement
  const laid = order === undefined ? data : reordered(data, dtype, shape, order, false)
  const own = shareShape(mesh, spec, shape)
  const shards: Array<DeviceBuffer> = []
  // devices that hold the same part get the same array
  const parts = new Map<string, TypedArray>()
  for (let device = 0; device < meshDevices(mesh); device++) {
    const ranges = shareOf(mesh, spec, shape, device)
    const key = ranges.map(({ start }) => start).join()
    let part = parts.get(key) ?? (isWhole(spec) ? laid : undefined)
    if (part === undefined) {
      part = emptyOf(laid, dtype, elementCount(own))
      const into = part
      runs(shape, ranges, (from, to, count) => copy(laid, from, count, into, to))
    }
    parts.set(key, part)
    shards.push(client.put(part, dtype, own, client.devices[device]!))
  }
  return new Spread(dtype, shape, shards, placement)
}

/** Copies an array to one device, or to those of a mesh; the array is free again when this returns. */
export const lay = (
  client: Client,
  mesh: Mesh | undefined,
  data: TypedArray,
  dtype: Dtype,
  shape: ReadonlyArray<number>,
  placement: Placement | undefined
): Laid =>
  mesh === undefined
    ? client.put(data, dtype, shape)
    : spread(client, mesh, data, dtype, shape, placement ?? laidAs(whole(shape.length)))

/**
 * Starts copies of the elements to the host. Once the events are done, `finish` gives them in row-major order.
 * @param zeros makes an array that does not move
 */
export const gatherUp = (
  client: Client,
  mesh: Mesh | undefined,
  laid: Laid,
  zeros: (dtype: Dtype, shape: ReadonlyArray<number>) => TypedArray
): { readonly events: ReadonlyArray<bigint>; readonly finish: () => TypedArray } => {
  const { dtype, placement, shape, shards } = laid
  if (mesh === undefined || placement === undefined || (isWhole(placement.spec) && placement.order === undefined)) {
    const array = zeros(dtype, shape)
    return { events: [client.get(shards[0]!, array)], finish: () => array }
  }
  const { order, spec } = placement
  const seen = new Set<string>()
  const parts = shards.flatMap((shard, device) => {
    const ranges = shareOf(mesh, spec, shape, device)
    const key = ranges.map(({ start }) => start).join()
    if (seen.has(key)) return []
    seen.add(key)
    const array = zeros(dtype, shard.shape)
    return [{ ranges, array, event: client.get(shard, array) }]
  })
  return {
    events: parts.map(({ event }) => event),
    finish: () => {
      const all = zeros(dtype, shape)
      for (const { array, ranges } of parts) runs(shape, ranges, (at, from, count) => copy(array, from, count, all, at))
      return order === undefined ? all : reordered(all, dtype, shape, order, true)
    }
  }
}
