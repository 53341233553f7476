/**
 * Where the elements of a tensor lie in a padded one. An axis is a product of factors, outermost first; a factor has
 * `places` places, of which the first `dim` hold elements. Places beyond hold anything, NaN too.
 *
 *   [rows, time] flattened: factors rows (of 20 places) and time (of 36): row r, step t lies at 36 r + t,
 *   wherever a program that knows only the true sizes says `time * r + t`
 */
import type { Dim } from "../../../tensor/Dim.ts"
import { dimText, multiplyDims } from "../../../tensor/Dim.ts"
import { add, and, cast, div, less, max, min, mul, rem, select } from "../../../tensor/ops/elementwise.ts"
import { gather } from "../../../tensor/ops/indexing.ts"
import { constant, iota } from "../../../tensor/ops/leaf.ts"
import { reshape } from "../../../tensor/ops/shape.ts"
import type { Tensor } from "../../../tensor/Tensor.ts"
import type { Sizes } from "./Sizes.ts"

export interface Factor {
  /** A number where the size is the same in every run; then it has as many places. */
  readonly dim: Dim
  readonly places: number
}

export type Layout = ReadonlyArray<Factor>

export interface Padded {
  /** Of fixed sizes: the places. */
  readonly tensor: Tensor
  /** Of each axis. */
  readonly layouts: ReadonlyArray<Layout>
  /** Whether all places without an element hold 0. */
  readonly clean: boolean
}

export const placesOf = (layout: Layout): number => layout.reduce((n, { places }) => n * places, 1)
export const isExact = (layout: Layout): boolean => layout.every(({ dim }) => typeof dim === "number")
/** The logical size of an axis. */
export const dimOf = (layout: Layout): Dim => layout.reduce<Dim>((size, { dim }) => multiplyDims(size, dim), 1)
const textOf = (layout: Layout): string => layout.map(({ dim, places }) => `${dimText(dim)}:${places}`).join(" ")
export const sameLayout = (a: Layout, b: Layout): boolean => textOf(a) === textOf(b)

/** Whether element i lies at place i. */
export const isDense = (layout: Layout): boolean => layout.slice(1).every(({ dim }) => typeof dim === "number")

/** Neighbouring factors of known size as one, those of size 1 left out. */
export const merged = (factors: Layout): Layout => {
  const list: Array<Factor> = []
  for (const factor of factors) {
    const last = list.at(-1)
    if (factor.dim === 1) continue
    if (last !== undefined && typeof last.dim === "number" && typeof factor.dim === "number") {
      const size = last.dim * factor.dim
      list[list.length - 1] = { dim: size, places: size }
    } else list.push(factor)
  }
  return list
}

/** The coordinates of places along the factors, i32 [places] each. */
const coordinates = (layout: Layout, at: Tensor): ReadonlyArray<Tensor> => {
  let inner = 1
  const found: Array<Tensor> = []
  for (let i = layout.length - 1; i >= 0; i--) {
    const { places } = layout[i]!
    const own = inner === 1 ? at : div(at, inner)
    found.unshift(i === 0 ? own : rem(own, places))
    inner *= places
  }
  return found
}

/** Which places hold elements: bool [places]; undefined where all do. */
export const valid = (sizes: Sizes, layout: Layout): Tensor | undefined => {
  if (isExact(layout)) return undefined
  const coordinate = coordinates(layout, iota([placesOf(layout)]))
  return layout.reduce<Tensor | undefined>((mask, { dim }, i) => {
    if (typeof dim === "number") return mask
    const own = less(coordinate[i]!, sizes.value(dim))
    return mask === undefined ? own : and(mask, own)
  }, undefined)
}

/** The element that lies at each place, i32 [places]; where there is none, some number. */
export const elementAt = (sizes: Sizes, layout: Layout, at: Tensor = iota([placesOf(layout)])): Tensor => {
  if (isDense(layout)) return at
  const coordinate = coordinates(layout, at)
  return layout
    .slice(1)
    .reduce((sum, { dim }, i) => add(mul(sum, sizes.value(dim)), coordinate[i + 1]!), coordinate[0]!)
}

/** The place of each element of i32 indices; in range for every index. */
export const placeOf = (sizes: Sizes, layout: Layout, index: Tensor): Tensor => {
  if (isDense(layout)) return index
  let rest = index
  let place: Tensor | undefined
  let inner = 1
  for (let i = layout.length - 1; i >= 0; i--) {
    const { dim, places } = layout[i]!
    // a size of 0 has no elements, and no division by it may stop the run
    const size = max(sizes.value(dim), 1)
    const own = i === 0 ? rest : rem(rest, size)
    rest = i === 0 ? rest : div(rest, size)
    const scaled = inner === 1 ? own : mul(own, inner)
    place = place === undefined ? scaled : add(place, scaled)
    inner *= places
  }
  return place!
}

/** Indices limited to `0..count - 1`. */
export const within = (index: Tensor, count: number): Tensor => min(max(index, 0), Math.max(0, count - 1))

/** A tensor with an axis laid out in another way. */
export const relaid = (sizes: Sizes, x: Padded, axis: number, layout: Layout): Padded => {
  const from = x.layouts[axis]!
  if (sameLayout(from, layout)) return x
  if (isDense(from) && isDense(layout) && placesOf(from) === placesOf(layout)) {
    return { ...x, layouts: x.layouts.with(axis, layout) }
  }
  const index = within(placeOf(sizes, from, elementAt(sizes, layout)), placesOf(from))
  return { tensor: gather(x.tensor, index, axis), layouts: x.layouts.with(axis, layout), clean: false }
}

/** A vector along an axis of a tensor of some rank, for broadcasting. */
export const along = (vector: Tensor, axis: number, rank: number): Tensor =>
  reshape(
    vector,
    Array.from({ length: rank }, (_, i) => (i === axis ? vector.shape[0]! : 1))
  )

/** Which places hold elements along some axes, broadcastable to the tensor; undefined where all do. */
export const mask = (sizes: Sizes, { layouts }: Padded, axes: ReadonlyArray<number>): Tensor | undefined =>
  axes.reduce<Tensor | undefined>((sum, axis) => {
    const own = valid(sizes, layouts[axis]!)
    if (own === undefined) return sum
    const wide = along(own, axis, layouts.length)
    return sum === undefined ? wide : and(sum, wide)
  }, undefined)

/** The tensor with a value where some axes hold no elements. */
export const filled = (sizes: Sizes, x: Padded, axes: ReadonlyArray<number>, value = 0): Tensor => {
  if (x.clean && value === 0) return x.tensor
  const visible = mask(sizes, x, axes)
  if (visible === undefined) return x.tensor
  const { dtype } = x.tensor
  return select(visible, x.tensor, dtype === "bool" ? cast(constant(value, "i32"), "bool") : constant(value, dtype))
}

export const allAxes = ({ layouts }: Padded): ReadonlyArray<number> => layouts.map((_, axis) => axis)

/** Indices with 0 where there are none: what lies beyond must not be looked up. */
export const indicesOf = (sizes: Sizes, x: Padded): Tensor => filled(sizes, x, allAxes(x))

/** Indices of elements of an axis as indices of its places. */
export const placesFor = (sizes: Sizes, layout: Layout, index: Tensor): Tensor =>
  isDense(layout) ? index : placeOf(sizes, layout, cast(index, "i32"))
