/** Matrix products. A transposed operand is read in place where there is a kernel for it. */

import { type Dim, multiplyDims } from "../../../tensor/Dim.ts"
import type { PrimitiveOf, Tensor } from "../../../tensor/Tensor.ts"
import { isFloat } from "../../../tensor/Tensor.ts"
import type { Name } from "../Graph.ts"
import type { Lower, Lowering } from "../Lowering.ts"
import { castTo } from "./elementwise.ts"

const transposed = (to: Lowering, x: Name, rank: number): Name => {
  const perm = Array.from({ length: rank }, (_, i) => (i < rank - 2 ? i : i === rank - 2 ? rank - 1 : rank - 2))
  return to.graph.node("Transpose", [x], { perm })
}

export const matrixProduct = (
  to: Lowering,
  left: Tensor,
  right: Tensor,
  { transposeLeft, transposeRight }: { readonly transposeLeft: boolean; readonly transposeRight: boolean }
): Name => {
  const { graph } = to
  const [a, b] = [to.full(left), to.full(right)]
  if (!transposeLeft && !transposeRight) return graph.node("MatMul", [a, b])
  const { transposedProducts } = to.context.choices
  if (left.dtype === "f32" && transposedProducts === "apart" && right.shape.length === 2) {
    const attributes = { transA: transposeLeft ? 1 : 0, transB: transposeRight ? 1 : 0 }
    if (left.shape.length === 2) return graph.node("Gemm", [a, b], attributes)
    // rows of a batch are rows
    if (!transposeLeft) {
      const rows = [left.shape.slice(0, -1).reduce<Dim>((n, dim) => multiplyDims(n, dim), 1), left.shape.at(-1)!]
      const product = graph.node("Gemm", [to.reshape(a, left.shape, rows), b], attributes)
      const columns = right.shape[transposeRight ? 0 : 1]!
      return to.reshape(product, [rows[0]!, columns], [...left.shape.slice(0, -1), columns])
    }
  }
  if (left.dtype === "f32" && transposedProducts === "fused") {
    const attributes = { transA: transposeLeft ? 1 : 0, transB: transposeRight ? 1 : 0 }
    return graph.node("FusedMatMul", [a, b], attributes, { domain: "com.microsoft" })
  }
  return graph.node("MatMul", [
    transposeLeft ? transposed(to, a, left.shape.length) : a,
    transposeRight ? transposed(to, b, right.shape.length) : b
  ])
}

export const dot: Lower<PrimitiveOf<"dot">> = (op, inputs, [output], to) => {
  const [left, right] = [inputs[0]!, inputs[1]!]
  const { graph } = to
  if (!isFloat(left.dtype) && left.dtype !== "i32" && left.dtype !== "i64") {
    const [a, b] = [to.full(left), to.full(right)]
    const sum = graph.node("MatMulInteger", [
      op.transposeLeft ? transposed(to, a, left.shape.length) : a,
      op.transposeRight ? transposed(to, b, right.shape.length) : b
    ])
    return to.set(output!, op.dtype === "i32" ? sum : castTo(graph, sum, op.dtype))
  }
  const multiply = () => matrixProduct(to, left, right, op)
  const key = `${to.full(left)} x ${to.full(right)} ${op.transposeLeft} ${op.transposeRight}`
  const product = to.reuseProducts ? to.shared(key, multiply) : multiply()
  to.set(output!, op.dtype === left.dtype ? product : castTo(graph, product, op.dtype))
}
