/**
 * What each primitive does to padded tensors. What lies beyond a tensor's elements is kept out of every sum, largest
 * value and look-up, so that no result depends on it.
 */
import type { Dim } from "../../../tensor/Dim.ts"
import { cast } from "../../../tensor/ops/elementwise.ts"
import { gather, putAlong, segmentSum, takeAlong } from "../../../tensor/ops/indexing.ts"
import { constant, fill, iota } from "../../../tensor/ops/leaf.ts"
import { reduceMax, reduceMin, reduceSum } from "../../../tensor/ops/reduce.ts"
import { broadcast } from "../../../tensor/ops/shape.ts"
import type { Binary, Kind, PrimitiveOf, Unary } from "../../../tensor/Tensor.ts"
import { apply } from "../../../tensor/Tensor.ts"
import { extreme } from "../Module.ts"
import {
  along,
  dimOf,
  elementAt,
  filled,
  indicesOf,
  isDense,
  isExact,
  type Layout,
  type Padded,
  placesFor,
  placesOf,
  relaid,
  sameLayout
} from "./Layout.ts"
import { concat, pad, slice } from "./moves.ts"
import { reshape } from "./reshape.ts"
import type { Sizes } from "./Sizes.ts"

export interface Context {
  readonly sizes: Sizes
  /** How an axis of a size is laid out where nothing else says so. */
  readonly layoutFor: (dim: Dim) => Layout
}

export type Rule<K extends Kind> = (
  op: PrimitiveOf<K>,
  inputs: ReadonlyArray<Padded>,
  to: Context
) => ReadonlyArray<Padded>

const isOne = (layout: Layout) => isExact(layout) && placesOf(layout) === 1

/** Tensors of one numpy broadcast, each axis laid out alike in all, and the layouts of the result. */
const aligned = (inputs: ReadonlyArray<Padded>, { sizes }: Context) => {
  const rank = Math.max(...inputs.map(({ layouts }) => layouts.length))
  const layouts = Array.from({ length: rank }, (_, i): Layout => {
    const own = inputs.flatMap((x) => {
      const layout = x.layouts[i - rank + x.layouts.length]
      return layout === undefined || isOne(layout) ? [] : [layout]
    })
    return own[0] ?? []
  })
  const same = inputs.map((x) =>
    x.layouts.reduce<Padded>((y, layout, axis) => {
      const target = layouts[axis + rank - x.layouts.length]!
      return isOne(layout) || sameLayout(layout, target) ? y : relaid(sizes, y, axis, target)
    }, x)
  )
  return { inputs: same, layouts }
}

/** Functions that give 0 for 0, or for zeros. */
const zeroUnary = new Set<Unary>(
  "neg abs sign expm1 log1p sqrt sin tanh erf floor ceil round".split(" ") as Array<Unary>
)
const zeroBinary = new Set<Binary>(["add", "sub", "mul", "max", "min", "and", "or", "xor"])

const elementwise =
  <K extends "unary" | "binary" | "compare" | "select" | "cast">(
    clean: (op: PrimitiveOf<K>, inputs: ReadonlyArray<Padded>) => boolean
  ): Rule<K> =>
  (op, given, to) => {
    const { inputs, layouts } = aligned(given, to)
    // an operand that is broadcast along an axis is no zero there
    const spread = inputs.some(
      (x) => x.layouts.length < layouts.length || x.layouts.some((l, i) => isOne(l) && !isOne(layouts[i]!))
    )
    const [tensor] = apply(
      op,
      inputs.map((x) => x.tensor)
    )
    const zero = inputs.every((x) => x.clean) && !spread && clean(op, inputs)
    return [{ tensor: tensor!, layouts, clean: zero || layouts.every(isExact) }]
  }

const dot: Rule<"dot"> = (op, [left, right], to) => {
  const { sizes } = to
  const [rankLeft, rankRight] = [left!.layouts.length, right!.layouts.length]
  const byLeft = op.transposeLeft ? rankLeft - 2 : rankLeft - 1
  const byRight = op.transposeRight ? rankRight - 1 : rankRight - 2
  let other = relaid(sizes, right!, byRight, left!.layouts[byLeft]!)
  for (let axis = 0; axis < rankRight - 2; axis++) other = relaid(sizes, other, axis, left!.layouts[axis]!)
  const [tensor] = apply(op, [filled(sizes, left!, [byLeft]), filled(sizes, other, [byRight])])
  const rows = left!.layouts[op.transposeLeft ? rankLeft - 1 : rankLeft - 2]!
  const columns = other.layouts[op.transposeRight ? rankRight - 2 : rankRight - 1]!
  const layouts = [...left!.layouts.slice(0, -2), rows, columns]
  return [{ tensor: tensor!, layouts, clean: layouts.every(isExact) }]
}

const reductions = { sum: reduceSum, max: reduceMax, min: reduceMin }

const reduce: Rule<"reduce"> = ({ axes, fn, keepDims }, [x], { sizes }) => {
  const { dtype } = x!.tensor
  const neutral = fn === "sum" ? 0 : extreme(dtype, fn === "max" ? "min" : "max")
  const tensor = reductions[fn](filled(sizes, x!, axes, neutral), axes, { keepDims })
  const layouts = keepDims
    ? x!.layouts.map((layout, axis) => (axes.includes(axis) ? [] : layout))
    : x!.layouts.filter((_, axis) => !axes.includes(axis))
  return [{ tensor, layouts, clean: (fn === "sum" && x!.clean) || layouts.every(isExact) }]
}

/** A tensor whose axis has its elements at the first places. */
const dense = (x: Padded, axis: number, { sizes }: Context): Padded => {
  if (isDense(x.layouts[axis]!)) return x
  const dim = dimOf(x.layouts[axis]!)
  return relaid(sizes, x, axis, [{ dim, places: sizes.bounds(dim).high }])
}

const leftOf = (x: Padded, axis: number): ReadonlyArray<Layout> => x.layouts.filter((_, i) => i !== axis)

/** Axes beside one, laid out as another tensor's. */
const beside = (x: Padded, other: Padded, axis: number, { sizes }: Context): Padded =>
  other.layouts.reduce((y, layout, i) => (i === axis ? y : relaid(sizes, y, i, layout)), x)

/** One rule for each primitive that is no leaf and no loop; a missing one does not type-check. */
export const rules: { readonly [K in Exclude<Kind, "input" | "parameter" | "loop">]: Rule<K> } = {
  constant: ({ dtype, shape, values }) => [
    { tensor: constant(values, dtype, shape), layouts: shape.map((n) => [{ dim: n, places: n }]), clean: true }
  ],
  fill: ({ dtype, shape, value }, _, { layoutFor }) => {
    const layouts = shape.map(layoutFor)
    return [
      { tensor: fill(value, layouts.map(placesOf), dtype), layouts, clean: value === 0 || layouts.every(isExact) }
    ]
  },
  iota: ({ axis, dtype, shape }, _, { layoutFor, sizes }) => {
    const layouts = shape.map(layoutFor)
    const places = layouts.map(placesOf)
    const layout = layouts[axis]!
    const tensor = isDense(layout)
      ? iota(places, axis, dtype)
      : broadcast(along(cast(elementAt(sizes, layout), dtype), axis, places.length), places)
    return [{ tensor, layouts, clean: layouts.every(isExact) }]
  },
  size: ({ dim, dtype }, _, { sizes }) => [
    { tensor: cast(sizes.value(sizes.settle(dim)), dtype), layouts: [], clean: true }
  ],
  unary: elementwise(({ fn }) => zeroUnary.has(fn)),
  binary: elementwise(({ fn }) => zeroBinary.has(fn)),
  compare: elementwise(() => false),
  select: elementwise(() => true),
  cast: elementwise(() => true),
  reshape: ({ shape }, [x], { layoutFor, sizes }) => [
    reshape(
      sizes,
      x!,
      shape.map((dim) => sizes.settle(dim)),
      layoutFor
    )
  ],
  transpose: (op, [x]) => [
    { tensor: apply(op, [x!.tensor])[0]!, layouts: op.permutation.map((axis) => x!.layouts[axis]!), clean: x!.clean }
  ],
  broadcast: ({ shape }, [x], { layoutFor }) => {
    const lead = shape.length - x!.layouts.length
    const layouts = shape.map((dim, i) => {
      const own = i < lead ? undefined : x!.layouts[i - lead]!
      return own === undefined || isOne(own) ? layoutFor(dim) : own
    })
    const grown = layouts.some((layout, i) => !isExact(layout) && (i < lead || isOne(x!.layouts[i - lead]!)))
    return [{ tensor: broadcast(x!.tensor, layouts.map(placesOf)), layouts, clean: x!.clean && !grown }]
  },
  slice,
  pad,
  concat: (op, inputs, to) => {
    const [first] = inputs
    const same = inputs.map((x) => beside(dense(x, op.axis, to), first!, op.axis, to))
    return [concat(op.axis, same, to.sizes)]
  },
  gather: ({ axis }, [x, given], { sizes }) => {
    const layout = x!.layouts[axis]!
    const index = placesFor(sizes, layout, indicesOf(sizes, given!))
    const layouts = x!.layouts.toSpliced(axis, 1, ...given!.layouts)
    return [{ tensor: gather(x!.tensor, index, axis), layouts, clean: layouts.every(isExact) }]
  },
  takeAlong: ({ axis }, [x, given], to) => {
    const at = beside(given!, x!, axis, to)
    const index = placesFor(to.sizes, x!.layouts[axis]!, indicesOf(to.sizes, at))
    return [{ tensor: takeAlong(x!.tensor, index, axis), layouts: at.layouts, clean: at.layouts.every(isExact) }]
  },
  putAlong: ({ axis, size }, [values, given], to) => {
    const { layoutFor, sizes } = to
    const at = relaid(sizes, beside(given!, values!, axis, to), axis, values!.layouts[axis]!)
    const layout = layoutFor(sizes.settle(size))
    const index = placesFor(sizes, layout, indicesOf(sizes, at))
    const tensor = putAlong(filled(sizes, values!, [axis]), index, axis, placesOf(layout))
    const layouts = values!.layouts.with(axis, layout)
    return [{ tensor, layouts, clean: layouts.every(isExact) }]
  },
  segmentSum: ({ segments }, [values, given], { layoutFor, sizes }) => {
    const at = relaid(sizes, given!, 0, values!.layouts[0]!)
    const layout = layoutFor(sizes.settle(segments))
    const index = placesFor(sizes, layout, indicesOf(sizes, at))
    const tensor = segmentSum(filled(sizes, values!, [0]), index, placesOf(layout))
    // places without a segment get no row; those beside the rows hold what was there
    const layouts = values!.layouts.with(0, layout)
    return [{ tensor, layouts, clean: values!.clean || layouts.slice(1).every(isExact) }]
  },
  dot,
  reduce,
  argMax: ({ axis }, [x], { sizes }) => {
    const layout = x!.layouts[axis]!
    const tensor = filled(sizes, x!, [axis], extreme(x!.tensor.dtype, "min"))
    const [place] = apply({ kind: "argMax", axis }, [tensor])
    const layouts = leftOf(x!, axis)
    const element = isDense(layout) ? place! : gather(elementAt(sizes, layout), place!)
    return [{ tensor: element, layouts, clean: layouts.every(isExact) }]
  },
  cumulativeSum: (op, [given], to) => {
    const x = dense(given!, op.axis, to)
    // what lies behind the last element is in no sum, but for sums from the end
    const tensor = op.reverse ? filled(to.sizes, x, [op.axis]) : x.tensor
    return [{ tensor: apply(op, [tensor])[0]!, layouts: x.layouts, clean: x.layouts.every(isExact) }]
  },
  topK: (op, [given], to) => {
    const axis = given!.layouts.length - 1
    const x = dense(given!, axis, to)
    const [values, indices] = apply(op, [filled(to.sizes, x, [axis], extreme(x.tensor.dtype, "min"))])
    const layouts = x.layouts.with(axis, [{ dim: op.k, places: op.k }])
    const clean = layouts.every(isExact)
    return [
      { tensor: values!, layouts, clean },
      { tensor: indices!, layouts, clean }
    ]
  },
  stopGradient: (_, inputs) => inputs,
  saveName: (_, inputs) => inputs,
  barrier: (op, inputs) =>
    apply(
      op,
      inputs.map(({ tensor }) => tensor)
    ).map((tensor, i) => ({ ...inputs[i]!, tensor })),
  shard: (op, [x]) => [{ ...x!, tensor: apply(op, [x!.tensor])[0]! }]
}
