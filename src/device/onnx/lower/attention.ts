/**
 * A decode step over a cache that the program updates in place is one GroupQueryAttention: it reads and writes only the
 * positions that are there. It takes several new positions only for a single row or an empty cache, so prompts go
 * through the definition.
 */

import type { Attributes, Tensor } from "../../../tensor/Tensor.ts"
import type { Lowering } from "../Lowering.ts"
import { castTo } from "./elementwise.ts"

/** Head widths that the operator takes. */
const headUnit = 8

export const cachedAttention = (
  { scale }: Attributes & { readonly scale: number },
  inputs: ReadonlyArray<Tensor>,
  outputs: ReadonlyArray<Tensor>,
  to: Lowering
): boolean => {
  const [q, k, v, cacheK, cacheV, lengths] = [inputs[0]!, inputs[1]!, inputs[2]!, inputs[3]!, inputs[4]!, inputs[5]!]
  const [out, nextK, nextV] = [outputs[0]!, outputs[1]!, outputs[2]!]
  const [batch, time, heads, width] = q.shape
  const kvHeads = k.shape[2]
  const { donated } = to.context
  const inPlace = donated.get(nextK) === cacheK && donated.get(nextV) === cacheV
  if (!inPlace || time !== 1 || typeof heads !== "number" || typeof kvHeads !== "number") return false
  if (typeof width !== "number" || width % headUnit !== 0 || v.shape[3] !== width) return false
  const { graph } = to
  const flat = (x: Tensor, count: number) => {
    const target = [batch!, 1, count * width]
    return graph.node("Reshape", [to.full(x), graph.reshapeTarget(x.shape, target)])
  }
  const past = lengths.dtype === "i32" ? to.full(lengths) : castTo(graph, to.full(lengths), "i32")
  const longest = graph.node("ReduceMax", [past, graph.int64s([0])], { keepdims: 1 })
  const total = graph.node("Add", [longest, graph.constant("i32", [1], [1])])
  const operands = [flat(q, heads), flat(k, kvHeads), flat(v, kvHeads), to.full(cacheK), to.full(cacheV), past, total]
  const attributes = { num_heads: heads, kv_num_heads: kvHeads, scale: { float: scale } }
  const made = graph.nodeOf("GroupQueryAttention", operands, attributes, { outputs: 3, domain: "com.microsoft" })
  to.set(out, graph.node("Reshape", [made[0]!, graph.reshapeTarget([batch!, 1, heads * width], out.shape)]))
  to.set(nextK, made[1]!)
  to.set(nextV, made[2]!)
  return true
}
