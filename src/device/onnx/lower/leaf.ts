/** Values made from nothing, as small as they can be said. */

import type { PrimitiveOf } from "../../../tensor/Tensor.ts"
import type { Lower } from "../Lowering.ts"
import { castTo } from "./elementwise.ts"

export const constant: Lower<PrimitiveOf<"constant">> = ({ values, dtype, shape }, _, [output], to) =>
  to.set(output!, to.graph.constant(dtype, shape, values))

export const fill: Lower<PrimitiveOf<"fill">> = ({ value, dtype }, _, [output], to) =>
  to.set(output!, to.graph.scalar(dtype, value), [])

/** 0, 1, 2, ... on its own axis; the others are of size 1. */
export const iota: Lower<PrimitiveOf<"iota">> = ({ axis, dtype, shape }, _, [output], to) => {
  const { graph } = to
  const size = shape[axis]!
  const own = shape.map((dim, i) => (i === axis ? dim : 1)).slice(axis)
  if (typeof size === "number") {
    const ramp = Array.from({ length: size }, (_, i) => i)
    return to.set(output!, graph.constant(dtype, own.map(Number), ramp), own)
  }
  const { indices } = to.context.choices
  const limit = graph.node("Reshape", [graph.dimValue(size), graph.int64s([])])
  const end = indices === "i64" ? limit : castTo(graph, limit, indices)
  const ramp = graph.node("Range", [graph.scalar(indices, 0), end, graph.scalar(indices, 1)])
  const shaped =
    own.length === 1 ? ramp : graph.node("Reshape", [ramp, graph.int64s([-1, ...own.slice(1).map(Number)])])
  to.set(output!, dtype === indices ? shaped : castTo(graph, shaped, dtype), own)
}

/** A dimension as a scalar. */
export const size: Lower<PrimitiveOf<"size">> = ({ dim, dtype }, _, [output], to) => {
  const { graph } = to
  if (typeof dim === "number") {
    to.set(output!, graph.scalar(dtype, dim))
    return
  }
  const counted = graph.node("Reshape", [graph.dimValue(dim), graph.int64s([])])
  to.set(output!, dtype === "i64" ? counted : castTo(graph, counted, dtype))
}
