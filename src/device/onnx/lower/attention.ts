/**
 * A decode step over a cache that the program updates in place: the new position is written where it belongs and nothing
 * else moves. Head widths that divide by 8 take GroupQueryAttention, which reads only the positions that are there; the
 * others write by ScatterND (which leaves a tensor where it is when its input and output are one buffer; the places of a
 * step differ, so threads cannot meet) and read the whole cache. Prompts go through the definition: the operator takes
 * several new positions only for a single row or an empty cache.
 */

import { dimText, divideDims } from "../../../tensor/Dim.ts"
import type { Attributes, Tensor } from "../../../tensor/Tensor.ts"
import type { Name } from "../Graph.ts"
import type { Lowering } from "../Lowering.ts"
import { castTo } from "./elementwise.ts"

const microsoft = { domain: "com.microsoft" } as const

/** Head widths that the fused operator takes. */
const headUnit = 8

export const cachedAttention = (
  { scale }: Attributes & { readonly scale: number },
  inputs: ReadonlyArray<Tensor>,
  outputs: ReadonlyArray<Tensor>,
  to: Lowering
): boolean => {
  const [q, k, v, cacheK, cacheV, lengths] = [inputs[0]!, inputs[1]!, inputs[2]!, inputs[3]!, inputs[4]!, inputs[5]!]
  const [out, nextK, nextV] = [outputs[0]!, outputs[1]!, outputs[2]!]
  const { donated } = to.context
  const inPlace = donated.get(nextK) === cacheK && donated.get(nextV) === cacheV
  const [, time, heads, width] = q.shape
  const kvHeads = k.shape[2]
  if (!inPlace || time !== 1 || typeof heads !== "number" || typeof kvHeads !== "number") return false
  if (typeof width !== "number" || v.shape[3] !== width) return false
  if (width % headUnit !== 0 && !to.context.choices.scatterTuples) return false
  const past = lengths.dtype === "i32" ? to.full(lengths) : castTo(to.graph, to.full(lengths), "i32")
  const step = { q, k, v, cacheK, cacheV, past, heads, kvHeads, width, scale }
  const made = width % headUnit === 0 ? fused(step, to) : scattered(step, to)
  to.set(out, made.out)
  to.set(nextK, made.cacheK)
  to.set(nextV, made.cacheV)
  return true
}

interface Step {
  readonly q: Tensor
  readonly k: Tensor
  readonly v: Tensor
  readonly cacheK: Tensor
  readonly cacheV: Tensor
  /** How many positions each row has, i32 [batch]. */
  readonly past: Name
  readonly heads: number
  readonly kvHeads: number
  readonly width: number
  readonly scale: number
}

interface Stepped {
  readonly out: Name
  readonly cacheK: Name
  readonly cacheV: Name
}

const fused = ({ q, k, v, cacheK, cacheV, past, heads, kvHeads, width, scale }: Step, to: Lowering): Stepped => {
  const { graph } = to
  const batch = q.shape[0]!
  const flat = (x: Tensor, count: number) =>
    graph.node("Reshape", [to.full(x), graph.reshapeTarget(x.shape, [batch, 1, count * width])])
  const longest = graph.node("ReduceMax", [past, graph.int64s([0])], { keepdims: 1 })
  const total = graph.node("Add", [longest, graph.constant("i32", [1], [1])])
  const operands = [flat(q, heads), flat(k, kvHeads), flat(v, kvHeads), to.full(cacheK), to.full(cacheV), past, total]
  const attributes = { num_heads: heads, kv_num_heads: kvHeads, scale: { float: scale } }
  const made = graph.nodeOf("GroupQueryAttention", operands, attributes, { outputs: 3, ...microsoft })
  const out = graph.node("Reshape", [made[0]!, graph.reshapeTarget([batch, 1, heads * width], q.shape)])
  return { out, cacheK: made[1]!, cacheV: made[2]! }
}

const scattered = ({ q, k, v, cacheK, cacheV, past, heads, kvHeads, width, scale }: Step, to: Lowering): Stepped => {
  const { graph } = to
  const batch = q.shape[0]!
  const capacity = cacheK.shape[2]!
  const places = to.shared(`places ${past} ${kvHeads}`, () => {
    const ramp = (size: Name) => graph.node("Range", [graph.scalar("i64", 0), size, graph.scalar("i64", 1)])
    const scalar = (size: Name) => graph.node("Reshape", [size, graph.int64s([])])
    const everywhere = graph.shapeValue([batch, kvHeads, 1])
    const spread = (x: Name, shape: ReadonlyArray<number>) =>
      graph.node("Expand", [graph.node("Reshape", [x, graph.int64s(shape)]), everywhere])
    return graph.node(
      "Concat",
      [
        spread(ramp(scalar(graph.dimValue(batch))), [-1, 1, 1]),
        spread(ramp(graph.scalar("i64", kvHeads)), [1, -1, 1]),
        spread(castTo(graph, past, "i64"), [-1, 1, 1])
      ],
      { axis: 2 }
    )
  })
  const bias = to.shared(`bias ${past} ${dimText(capacity)}`, () => {
    const limit = graph.node("Reshape", [graph.dimValue(capacity), graph.int64s([])])
    const at = graph.node("Range", [graph.scalar("i64", 0), limit, graph.scalar("i64", 1)])
    const last = graph.node("Reshape", [castTo(graph, past, "i64"), graph.int64s([-1, 1, 1, 1])])
    const seen = graph.node("LessOrEqual", [at, last])
    return graph.node("Where", [seen, graph.scalar("f32", 0), graph.scalar("f32", -1e30)])
  })
  const write = (cache: Tensor, fresh: Tensor) => {
    const rows = graph.node("Reshape", [to.full(fresh), graph.reshapeTarget(fresh.shape, [batch, kvHeads, width])])
    return graph.node("ScatterND", [to.full(cache), places, rows])
  }
  const [nextK, nextV] = [write(cacheK, k), write(cacheV, v)]
  const grouped = [batch, kvHeads, divideDims(heads, kvHeads), width]
  const rows = graph.node("Reshape", [to.full(q), graph.reshapeTarget(q.shape, grouped)])
  const product = { transB: 1, alpha: { float: scale } }
  const scores = graph.node("FusedMatMul", [rows, nextK], product, microsoft)
  const weights = graph.node("Softmax", [graph.node("Add", [scores, bias])], { axis: -1 })
  const sum = graph.node("MatMul", [weights, nextV])
  return { out: graph.node("Reshape", [sum, graph.reshapeTarget(grouped, q.shape)]), cacheK: nextK, cacheV: nextV }
}
