/** Slice, pad and concat of padded tensors: what moves elements along one axis by amounts that only a run knows. */
import type { Dim } from "../../../tensor/Dim.ts"
import { addDims, ceilDivideDims, subtractDims } from "../../../tensor/Dim.ts"
import { add, and, greaterEqual, less, mul, select, sub } from "../../../tensor/ops/elementwise.ts"
import { gather } from "../../../tensor/ops/indexing.ts"
import { constant, iota } from "../../../tensor/ops/leaf.ts"
import * as shape from "../../../tensor/ops/shape.ts"
import type { Tensor } from "../../../tensor/Tensor.ts"
import { along, dimOf, isDense, isExact, type Padded, placesOf, relaid, within } from "./Layout.ts"
import type { Rule } from "./rules.ts"
import type { Sizes } from "./Sizes.ts"

const whole = (sizes: Sizes, dim: Dim) => [{ dim, places: sizes.bounds(dim).high }]

const densely = (sizes: Sizes, x: Padded, axis: number): Padded =>
  isDense(x.layouts[axis]!) ? x : relaid(sizes, x, axis, whole(sizes, dimOf(x.layouts[axis]!)))

const sum = (a: Tensor, b: Dim, sizes: Sizes): Tensor => (b === 0 ? a : add(a, sizes.value(b)))

/** An axis cut, or lengthened by anything, to a number of places. */
const sized = (x: Tensor, axis: number, places: number): Tensor => {
  const own = x.shape[axis]
  if (typeof own !== "number") throw new RangeError("a padded tensor has numbers for sizes")
  return own >= places ? shape.slice(x, axis, 0, places) : shape.pad(x, axis, 0, places - own)
}

export const slice: Rule<"slice"> = (op, [given], { sizes }) => {
  const x = densely(sizes, given!, op.axis)
  const [start, limit] = [sizes.settle(op.start), sizes.settle(op.limit)]
  const { axis, stride } = op
  const dim = sizes.settle(ceilDivideDims(subtractDims(limit, start), stride))
  const layouts = x.layouts.with(axis, whole(sizes, dim))
  const places = placesOf(layouts[axis]!)
  const had = placesOf(x.layouts[axis]!)
  const clean = layouts.every(isExact) || (x.clean && isExact(layouts[axis]!))
  if (typeof start === "number" && start + (places - 1) * stride < had) {
    const end = Math.min(had, start + places * stride)
    return [{ tensor: sized(shape.slice(x.tensor, axis, start, end, stride), axis, places), layouts, clean }]
  }
  const at = iota([places])
  const index = sum(stride === 1 ? at : mul(at, stride), start, sizes)
  return [{ tensor: gather(x.tensor, within(index, had), axis), layouts, clean }]
}

export const pad: Rule<"pad"> = (op, [given], { sizes }) => {
  const x = densely(sizes, given!, op.axis)
  const { axis, value } = op
  const [before, after] = [sizes.settle(op.before), sizes.settle(op.after)]
  const own = dimOf(x.layouts[axis]!)
  const dim = sizes.settle(addDims(addDims(own, before), after))
  const layouts = x.layouts.with(axis, whole(sizes, dim))
  const zeros = x.clean && value === 0
  if (typeof own === "number" && typeof before === "number" && typeof after === "number") {
    return [{ tensor: shape.pad(x.tensor, axis, before, after, value), layouts, clean: zeros }]
  }
  const places = placesOf(layouts[axis]!)
  const at = iota([places])
  const moved =
    typeof before === "number"
      ? sized(shape.pad(x.tensor, axis, before, 0, value), axis, places)
      : gather(x.tensor, within(sub(at, sizes.value(before)), placesOf(x.layouts[axis]!)), axis)
  // nothing to write where the axis only grows at its end, over zeros
  if (zeros && typeof before === "number") return [{ tensor: moved, layouts, clean: true }]
  const behind = less(at, sum(sizes.value(own), before, sizes))
  const inside = before === 0 ? behind : and(greaterEqual(at, sizes.value(before)), behind)
  const { dtype } = moved
  const tensor = select(along(inside, axis, layouts.length), moved, constant(value, dtype))
  return [{ tensor, layouts, clean: zeros || layouts.every(isExact) }]
}

/** Tensors whose other axes are laid out alike, one after another. */
export const concat = (axis: number, inputs: ReadonlyArray<Padded>, sizes: Sizes): Padded => {
  const tensor = shape.concat(
    inputs.map((x) => x.tensor),
    axis
  )
  const dims = inputs.map((x) => dimOf(x.layouts[axis]!))
  const dim = dims.reduce<Dim>(addDims, 0)
  const layouts = inputs[0]!.layouts.with(axis, whole(sizes, dim))
  const clean = inputs.every((x) => x.clean)
  if (inputs.slice(0, -1).every((x) => isExact(x.layouts[axis]!))) {
    return { tensor: sized(tensor, axis, placesOf(layouts[axis]!)), layouts, clean: clean || layouts.every(isExact) }
  }
  // element i of the whole lies in the last piece that begins at or before it
  const at = iota([placesOf(layouts[axis]!)])
  let index = at
  let elements: Dim = 0
  let places = 0
  inputs.forEach((x, i) => {
    if (i > 0) {
      const first = sizes.value(elements)
      index = select(greaterEqual(at, first), add(sub(at, first), places), index)
    }
    elements = addDims(elements, dims[i]!)
    places += placesOf(x.layouts[axis]!)
  })
  return { tensor: gather(tensor, within(index, places), axis), layouts, clean: layouts.every(isExact) }
}
