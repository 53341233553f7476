/**
 * Reading and adding up by index. Sums over repeated indices must not depend on the order in which threads arrive:
 * ScatterND(add) splits its updates over threads and loses some where indices repeat, ScatterElements(add) runs on one
 * thread in the order of the updates. With one thread both give the same sums in the same order, and ScatterND copies
 * whole rows.
 */

import { type Dim, type Shape, sizeOf } from "../../../tensor/Dim.ts"
import type { Dtype, PrimitiveOf } from "../../../tensor/Tensor.ts"
import { elementTypes } from "../api.ts"
import type { Name } from "../Graph.ts"
import type { Lower, Lowering } from "../Lowering.ts"

export const gather: Lower<PrimitiveOf<"gather">> = ({ axis }, [x, indices], [output], to) =>
  to.set(output!, to.graph.node("Gather", [to.full(x!), to.full(indices!)], { axis }))

export const takeAlong: Lower<PrimitiveOf<"takeAlong">> = ({ axis }, [x, indices], [output], to) =>
  to.set(output!, to.graph.node("GatherElements", [to.full(x!), to.full(indices!)], { axis }))

const zeros = ({ context, graph }: Lowering, dtype: Dtype, shape: Shape): Name =>
  context.choices.zeros === "expanded"
    ? graph.node("Expand", [graph.scalar(dtype, 0), graph.shapeValue(shape)])
    : graph.node("ConstantOfShape", [graph.shapeValue(shape)], {
        value: {
          tensor: { dims: [1], dataType: elementTypes[dtype], rawData: new Uint8Array(8).subarray(0, bytes[dtype]) }
        }
      })
const bytes: Readonly<Record<Dtype, number>> = {
  f64: 8,
  i64: 8,
  f32: 4,
  i32: 4,
  bf16: 2,
  f16: 2,
  i8: 1,
  u8: 1,
  bool: 1
}

export const putAlong: Lower<PrimitiveOf<"putAlong">> = ({ axis, size }, [values, indices], [output], to) => {
  const { graph } = to
  const target = zeros(to, output!.dtype, values!.shape.with(axis, size))
  const attributes = { axis, reduction: "add" }
  to.set(output!, graph.node("ScatterElements", [target, to.full(indices!), to.full(values!)], attributes))
}

export const segmentSum: Lower<PrimitiveOf<"segmentSum">> = ({ segments }, [values, ids], [output], to) => {
  const { graph } = to
  const rest = values!.shape.slice(1)
  const rows: Dim = values!.shape[0]!
  const target = zeros(to, output!.dtype, [segments, ...rest])
  const { indices, scatterTuples } = to.context.choices
  const asGiven = ids!.dtype === "i64" || ids!.dtype === indices
  const wide = asGiven ? to.full(ids!) : graph.node("Cast", [to.full(ids!)], { to: elementTypes[indices] })
  if (scatterTuples && to.context.threads === 1) {
    const tuples = graph.node("Reshape", [wide, graph.int64s([-1, 1])])
    return to.set(output!, graph.node("ScatterND", [target, tuples, to.full(values!)], { reduction: "add" }))
  }
  if (sizeOf(rest) === 1 && rest.length === 0) {
    return to.set(
      output!,
      graph.node("ScatterElements", [target, wide, to.full(values!)], { axis: 0, reduction: "add" })
    )
  }
  const column = graph.node("Reshape", [wide, graph.int64s([-1, ...rest.map(() => 1)])])
  const everywhere = graph.node("Expand", [column, graph.shapeValue([rows, ...rest])])
  to.set(output!, graph.node("ScatterElements", [target, everywhere, to.full(values!)], { axis: 0, reduction: "add" }))
}
