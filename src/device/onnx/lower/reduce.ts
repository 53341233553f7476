/** Reductions, cumulative sums, and selection of the largest. */

import { sizeOf } from "../../../tensor/Dim.ts"
import type { PrimitiveOf, Tensor } from "../../../tensor/Tensor.ts"
import type { Name } from "../Graph.ts"
import type { Lower, Lowering } from "../Lowering.ts"
import { castTo } from "./elementwise.ts"

const operators: Readonly<Record<PrimitiveOf<"reduce">["fn"], string>> = {
  sum: "ReduceSum",
  max: "ReduceMax",
  min: "ReduceMin"
}

export const reduce: Lower<PrimitiveOf<"reduce">> = ({ fn, axes, keepDims }, [x], [output], to) => {
  const { graph } = to
  const { name, shape } = to.value(x!)
  // one element everywhere: its sum is a product with a count, its extremes are itself
  if (sizeOf(shape) === 1 && sizeOf(x!.shape) !== 1) {
    const one = shape.length === 0 ? name : graph.node("Reshape", [name, graph.int64s([])])
    if (fn !== "sum") return to.set(output!, one, [])
    const count = sizeOf(axes.map((axis) => x!.shape[axis]!))
    if (typeof count === "number") return to.set(output!, graph.node("Mul", [one, graph.scalar(x!.dtype, count)]), [])
    const counted = castTo(graph, graph.node("Reshape", [graph.dimValue(count), graph.int64s([])]), x!.dtype)
    return to.set(output!, graph.node("Mul", [one, counted]), [])
  }
  to.set(output!, graph.node(operators[fn], [to.full(x!), graph.int64s(axes)], { keepdims: keepDims ? 1 : 0 }))
}

export const argMax: Lower<PrimitiveOf<"argMax">> = ({ axis }, [x], [output], to) => {
  if (to.context.choices.argMax === "composed") return to.set(output!, firstMaximum(to, x!, axis))
  const found = to.graph.node("ArgMax", [to.full(x!)], { axis, keepdims: 0, select_last_index: 0 })
  to.set(output!, castTo(to.graph, found, "i32"))
}

/** The first place along an axis that has the axis' maximum, i32. */
const firstMaximum = (to: Lowering, x: Tensor, axis: number): Name => {
  const { graph } = to
  const best = graph.node("ReduceMax", [to.full(x), graph.int64s([axis])], { keepdims: 1 })
  const size = graph.node("Reshape", [graph.dimValue(x.shape[axis]!), graph.int64s([])])
  const count = castTo(graph, size, "i32")
  const ramp = graph.node("Range", [graph.scalar("i32", 0), count, graph.scalar("i32", 1)])
  const column = graph.node("Reshape", [ramp, graph.int64s([-1, ...x.shape.slice(axis + 1).map(() => 1)])])
  const last = graph.node("Sub", [count, graph.scalar("i32", 1)])
  const places = graph.node("Where", [graph.node("Equal", [to.full(x), best]), column, last])
  return graph.node("ReduceMin", [places, graph.int64s([axis])], { keepdims: 0 })
}

export const cumulativeSum: Lower<PrimitiveOf<"cumulativeSum">> = (op, [x], [output], to) => {
  const attributes = { exclusive: op.exclusive ? 1 : 0, reverse: op.reverse ? 1 : 0 }
  to.set(output!, to.graph.node("CumSum", [to.full(x!), to.graph.scalar("i64", op.axis)], attributes))
}

export const topK: Lower<PrimitiveOf<"topK">> = ({ k }, [x], [values, indices], to) => {
  const attributes = { axis: -1, largest: 1, sorted: 1 }
  const [found, at] = to.graph.nodeOf("TopK", [to.full(x!), to.graph.int64s([k])], attributes, { outputs: 2 })
  to.set(values!, found!)
  to.set(indices!, castTo(to.graph, at!, "i32"))
}
