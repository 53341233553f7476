/**
 * Attention of new positions over a key/value cache, for decoding. Row r of the batch has `lengths[r]` positions in its
 * cache; its `new` keys and values are written behind them, at lengths[r] .. lengths[r] + new - 1 (what would lie
 * beyond maxLength is dropped), and query j sees positions up to lengths[r] + j. Rows may be padded at the right: what
 * padding wrote lies behind the row's true length, where nothing looks until it is overwritten.
 */
import type { Dim } from "../Dim.ts"
import { divideDims, multiplyDims } from "../Dim.ts"
import { dot } from "../ops/dot.ts"
import { add, and, cast, greaterEqual, less, lessEqual, max, min, mul, select, sub } from "../ops/elementwise.ts"
import { gather } from "../ops/indexing.ts"
import { iota, size } from "../ops/leaf.ts"
import { expandDims, reshape } from "../ops/shape.ts"
import type { Composite, Tensor } from "../Tensor.ts"
import { applyComposite, mismatch } from "../Tensor.ts"
import { headScale, swapHeads } from "./attention.ts"
import { atLeastF32 } from "./norm.ts"
import { overwrite } from "./overwrite.ts"
import { softmax } from "./softmax.ts"

/** The cache [batch, kvHeads, maxLength, d] with `fresh` [batch, new, kvHeads, d] written behind `lengths` [batch]. */
const written = (cache: Tensor, fresh: Tensor, lengths: Tensor): Tensor => {
  const [batch, kvHeads, maxLength, d] = cache.shape
  if (fresh.shape[1] === 1) return overwrite(cache, reshape(fresh, [batch!, kvHeads!, d!]), lengths, 2)
  const count = size(fresh.shape[1]!)
  // which of the new positions each place of the cache would take: [batch, maxLength]
  const offset = sub(iota([1, maxLength!], 1), expandDims(lengths, 1))
  const takes = and(greaterEqual(offset, 0), less(offset, count))
  const row = mul(iota([batch!, 1], 0), count)
  const source = add(row, max(min(offset, sub(count, 1)), 0))
  const rows = reshape(fresh, [multiplyDims(batch!, fresh.shape[1]!), multiplyDims(kvHeads!, d!)])
  const placed = reshape(gather(rows, source, 0), [batch!, maxLength!, kvHeads!, d!])
  return select(reshape(takes, [batch!, 1, maxLength!, 1]), swapHeads(placed), cache)
}

const groupRows = (heads: Dim, kvHeads: Dim, time: Dim) => multiplyDims(divideDims(heads, kvHeads), time)

/**
 * Inputs (q [batch, new, heads, d], k and v [batch, new, kvHeads, d], cacheK and cacheV [batch, kvHeads, maxLength, d],
 * lengths i32 [batch]); outputs (out like q, cacheK, cacheV). It has no derivative of its own.
 */
export const cachedAttentionOp: Composite<{ readonly scale: number }> = {
  name: "cachedAttention",
  decompose: (inputs, { scale }) => {
    const [q, k, v, oldK, oldV] = [inputs[0]!, inputs[1]!, inputs[2]!, inputs[3]!, inputs[4]!]
    const lengths = cast(inputs[5]!, "i32")
    if ([q, k, v, oldK, oldV].some((x) => x.shape.length !== 4) || lengths.shape.length !== 1)
      throw mismatch("cachedAttention", inputs, "q, k, v and the caches have four axes, lengths have one")
    const [batch, time, heads, d] = q.shape
    const [, kvHeads, maxLength] = oldK.shape
    const cacheK = written(oldK, k, lengths)
    const cacheV = written(oldV, v, lengths)
    const rows = groupRows(heads!, kvHeads!, time!)
    const flatQ = reshape(swapHeads(mul(q, scale)), [batch!, kvHeads!, rows, d!])
    const flat = dot(flatQ, cacheK, { transposeRight: true, dtype: atLeastF32(q).dtype })
    const scores = reshape(flat, [batch!, heads!, time!, maxLength!])
    const last = add(reshape(lengths, [batch!, 1, 1, 1]), iota([1, 1, time!, 1], 2))
    const visible = lessEqual(iota([1, 1, 1, maxLength!], 3), last)
    const probabilities = cast(softmax(select(visible, scores, -1e30)), q.dtype)
    const out = dot(reshape(probabilities, [batch!, kvHeads!, rows, maxLength!]), cacheV)
    return [swapHeads(reshape(out, [batch!, heads!, time!, d!])), cacheK, cacheV]
  }
}

/** One step of decoding, or the prefill of a prompt; see the head of this file. `lengths` is i32 or i64. */
export const cachedAttention = (
  q: Tensor,
  k: Tensor,
  v: Tensor,
  cache: { readonly k: Tensor; readonly v: Tensor },
  lengths: Tensor,
  { scale = headScale(q) }: { readonly scale?: number } = {}
): { readonly out: Tensor; readonly cache: { readonly k: Tensor; readonly v: Tensor } } => {
  const [out, cacheK, cacheV] = applyComposite(cachedAttentionOp, [q, k, v, cache.k, cache.v, lengths], { scale })
  return { out: out!, cache: { k: cacheK!, v: cacheV! } }
}
