/** What moves elements without computing. A value of one element everywhere stays one element. */

import { addDims, type Dim, equalDims, equalShapes, sizeOf, subtractDims } from "../../../tensor/Dim.ts"
import type { Dtype, PrimitiveOf, Tensor } from "../../../tensor/Tensor.ts"
import { elementTypes } from "../api.ts"
import type { Name } from "../Graph.ts"
import type { Lower, Lowering, Stretch } from "../Lowering.ts"

/** Whether the value of a tensor is a single element that broadcasts to it. */
const isUniform = (to: Lowering, x: Tensor): boolean => sizeOf(to.value(x).shape) === 1 && sizeOf(x.shape) !== 1

/** A value of one element, as a scalar. */
const uniform = (to: Lowering, x: Tensor): Name => {
  const { name, shape } = to.value(x)
  return shape.length === 0 ? name : to.graph.node("Reshape", [name, to.graph.int64s([])])
}

export const reshape: Lower<PrimitiveOf<"reshape">> = ({ shape }, [x], [output], to) => {
  if (isUniform(to, x!)) return to.set(output!, uniform(to, x!), [])
  to.set(output!, to.reshape(to.full(x!), x!.shape, shape))
}

export const transpose: Lower<PrimitiveOf<"transpose">> = ({ permutation }, [x], [output], to) => {
  if (isUniform(to, x!)) return to.set(output!, uniform(to, x!), [])
  const { name, shape } = to.value(x!)
  if (shape.length === x!.shape.length) {
    const permuted = permutation.map((axis) => shape[axis]!)
    return to.set(output!, to.graph.node("Transpose", [name], { perm: permutation }), permuted)
  }
  to.set(output!, to.graph.node("Transpose", [to.full(x!)], { perm: permutation }))
}

export const broadcast: Lower<PrimitiveOf<"broadcast">> = (_, [x], [output], to) => {
  const { name, shape } = to.value(x!)
  to.set(output!, name, shape)
}

/** The end of an axis, for Slice. */
const end = 2 ** 53

/** A position on an axis as int64 [1]; counted from the end where that makes it a constant. */
const position = (to: Lowering, at: Dim, size: Dim): Name => {
  if (typeof at === "number") return to.graph.int64s([at])
  if (equalDims(at, size)) return to.graph.int64s([end])
  const fromEnd = subtractDims(at, size)
  return typeof fromEnd === "number" && fromEnd < 0 ? to.graph.int64s([fromEnd]) : to.graph.dimValue(at)
}

export const slice: Lower<PrimitiveOf<"slice">> = ({ axis, start, limit, stride }, [x], [output], to) => {
  if (isUniform(to, x!)) return to.set(output!, uniform(to, x!), [])
  const size = x!.shape[axis]!
  const { graph } = to
  const bounds = [position(to, start, size), position(to, limit, size), graph.int64s([axis]), graph.int64s([stride])]
  to.set(output!, graph.node("Slice", [to.full(x!), ...bounds]))
}

export const pad: Lower<PrimitiveOf<"pad">> = ({ axis, before, after, value }, [x], [output], to) => {
  if (value !== 0 || x!.dtype === "bool")
    return to.set(output!, padded(to, to.full(x!), x!.dtype, axis, before, after, value))
  setStretch(to, output!, { axis, start: before, limit: addDims(before, x!.shape[axis]!), parts: [to.full(x!)] })
}

/** Says that a tensor is a stretch. */
export const setStretch = (to: Lowering, output: Tensor, stretch: Stretch): void =>
  to.setStretch(output, stretch, () => {
    const { axis, start, limit, parts } = stretch
    const joined = parts.length === 1 ? parts[0]! : to.graph.node("Concat", parts, { axis })
    const after = subtractDims(output.shape[axis]!, limit)
    return start === 0 && after === 0 ? joined : padded(to, joined, output.dtype, axis, start, after, 0)
  })

const padded = (to: Lowering, x: Name, dtype: Dtype, axis: number, before: Dim, after: Dim, value: number): Name => {
  const { graph } = to
  const amounts = graph.shapeValue([before, after])
  if (dtype !== "bool") return graph.node("Pad", [x, amounts, graph.scalar(dtype, value), graph.int64s([axis])])
  const wide = graph.node("Cast", [x], { to: elementTypes.u8 })
  const made = graph.node("Pad", [wide, amounts, graph.scalar("u8", value), graph.int64s([axis])])
  return graph.node("Cast", [made], { to: elementTypes.bool })
}

export const concat: Lower<PrimitiveOf<"concat">> = ({ axis }, inputs, [output], to) => {
  to.set(
    output!,
    to.graph.node(
      "Concat",
      inputs.map((x) => to.full(x)),
      { axis }
    )
  )
}

/** Identities: the same value under another tensor. */
export const alias = (inputs: ReadonlyArray<Tensor>, outputs: ReadonlyArray<Tensor>, to: Lowering): void =>
  outputs.forEach((output, i) => {
    const { name, shape } = to.value(inputs[i]!)
    to.set(output, name, equalShapes(shape, inputs[i]!.shape) ? output.shape : shape)
  })
