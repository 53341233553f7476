/**
 * Softmax attention with grouped key/value heads and its log-sum-exp.
 *   P = softmax(scale q k^T, hidden keys left out),  out = P v
 *   q [batch, time, heads, d], k [batch, keys, kvHeads, d], v [batch, keys, kvHeads, e], out [batch, time, heads, e]
 * Query head h reads key/value head floor(h / (heads / kvHeads)). Derivatives (as in https://arxiv.org/abs/2205.14135),
 * with D = rowsum(dO * O):  dV = P^T dO,  dS = P * (dO V^T - D),  dQ = scale dS K,  dK = scale dS^T Q.
 */
import type { Dim } from "../Dim.ts"
import { divideDims, multiplyDims, subtractDims } from "../Dim.ts"
import { dot } from "../ops/dot.ts"
import { add, and, cast, div, exp, lessEqual, log, mul, select, sub } from "../ops/elementwise.ts"
import { constant, iota, size, zeros } from "../ops/leaf.ts"
import { reduceMax, reduceSum } from "../ops/reduce.ts"
import { reshape, transpose } from "../ops/shape.ts"
import type { Composite, Tensor } from "../Tensor.ts"
import { applyComposite, mismatch } from "../Tensor.ts"
import { atLeastF32 } from "./norm.ts"
import { softmax } from "./softmax.ts"

export type AttentionAttributes = {
  /** Query i sees keys up to `i + keys - time`. */
  readonly causal: boolean
  readonly scale: number
  /** Whether there is an input that says which keys are seen. */
  readonly mask: boolean
  /** What the derivative reuses: the log-sum-exp (probabilities are computed again), or the probabilities. */
  readonly saved: "logSumExp" | "probabilities"
}

const keepDims = { keepDims: true }

/** The score of a hidden key: finite, so that a row that sees no key gives numbers (of no meaning) instead of NaN. */
const HIDDEN = -1e30

/** [batch, time, heads, d] <-> [batch, heads, time, d]. */
export const swapHeads = (x: Tensor): Tensor => transpose(x, [0, 2, 1, 3])

/** [batch, time, heads, d] -> [batch, kvHeads, (heads / kvHeads) * time, d]: the rows that read one key/value head. */
const grouped = (x: Tensor, kvHeads: Dim): Tensor => {
  const [batch, time, heads, d] = x.shape
  return reshape(swapHeads(x), [batch!, kvHeads, multiplyDims(divideDims(heads!, kvHeads), time!), d!])
}

/** The inverse of `grouped`. */
const ungrouped = (x: Tensor, time: Dim, heads: Dim): Tensor =>
  swapHeads(reshape(x, [x.shape[0]!, heads, time, x.shape[3]!]))

/** Which keys queries see: bool, broadcastable to [batch, heads, time, keys]; undefined where they see all. */
const visibility = (time: Dim, keys: Dim, mask: Tensor | undefined, causal: boolean): Tensor | undefined => {
  if (!causal) return mask
  const last = add(iota([time, keys], 0), size(subtractDims(keys, time)))
  const behind = lessEqual(iota([time, keys], 1), last)
  return mask === undefined ? behind : and(mask, behind)
}

/** scale q k^T: [batch, heads, time, keys], at least float32. */
const scoresOf = (q: Tensor, k: Tensor, visible: Tensor | undefined, scale: number): Tensor => {
  const [batch, time, heads] = q.shape
  const dtype = atLeastF32(q).dtype
  const flat = dot(grouped(mul(q, scale), k.shape[2]!), swapHeads(k), { transposeRight: true, dtype })
  const scores = reshape(flat, [batch!, heads!, time!, k.shape[1]!])
  if (visible === undefined) return scores
  // without a mask of the batch, a bias [time, keys] that is the same in every layer
  if (visible.shape.length === 2) return add(scores, select(visible, constant(0, dtype), constant(HIDDEN, dtype)))
  return select(visible, scores, HIDDEN)
}

/** [batch, heads, time, keys] -> [batch, kvHeads, rows, keys], in a dtype. */
const asGroups = (x: Tensor, kvHeads: Dim, dtype: Tensor["dtype"]): Tensor => {
  const [batch, heads, time, keys] = x.shape
  return cast(reshape(x, [batch!, kvHeads, multiplyDims(divideDims(heads!, kvHeads), time!), keys!]), dtype)
}

/** Inputs (q, k, v, mask?); outputs (out, logSumExp [batch, heads, time], probabilities where those are saved). */
export const attentionOp: Composite<AttentionAttributes> = {
  name: "attention",
  decompose: (inputs, { causal, scale, saved }) => {
    const [q, k, v, mask] = [inputs[0]!, inputs[1]!, inputs[2]!, inputs[3]]
    if ([q, k, v].some((x) => x.shape.length !== 4))
      throw mismatch("attention", [q, k, v], "each must be [batch, time, heads, width]")
    const [, time, heads] = q.shape
    const kvHeads = k.shape[2]!
    const scores = scoresOf(q, k, visibility(time!, k.shape[1]!, mask, causal), scale)
    const top = reduceMax(scores, -1, keepDims)
    const e = exp(sub(scores, top))
    const sum = reduceSum(e, -1, keepDims)
    const logSumExp = reshape(add(top, log(sum)), scores.shape.slice(0, -1))
    const weigh = (weights: Tensor, dtype: Tensor["dtype"]) =>
      dot(asGroups(weights, kvHeads, v.dtype), swapHeads(v), { dtype })
    if (saved === "probabilities") {
      const probabilities = softmax(scores)
      return [ungrouped(weigh(probabilities, v.dtype), time!, heads!), logSumExp, probabilities]
    }
    const mean = div(weigh(e, sum.dtype), asGroups(sum, kvHeads, sum.dtype))
    return [ungrouped(cast(mean, v.dtype), time!, heads!), logSumExp]
  },
  vjp: ({ inputs, outputs, cotangents: [dOut, dLogSumExp], needs }, attributes) => {
    const [q, k, v, mask] = [inputs[0]!, inputs[1]!, inputs[2]!, inputs[3]]
    const out = outputs[0]!
    const residual = outputs[attributes.saved === "probabilities" ? 2 : 1]!
    const [dq, dk, dv] = applyComposite(
      attentionGradOp,
      [
        ...[dOut ?? zeros(out.shape, out.dtype), q, k, v, out, residual],
        ...(mask ? [mask] : []),
        ...(dLogSumExp ? [dLogSumExp] : [])
      ],
      { ...attributes, byLogSumExp: dLogSumExp !== undefined }
    )
    return [needs[0] ? dq : undefined, needs[1] ? dk : undefined, needs[2] ? dv : undefined]
  }
}

/**
 * Inputs (dOut, q, k, v, out, logSumExp or probabilities, mask?, dLogSumExp?); outputs (dq, dk, dv). The sixth input
 * is what attribute `saved` says.
 */
export const attentionGradOp: Composite<AttentionAttributes & { readonly byLogSumExp: boolean }> = {
  name: "attentionGrad",
  decompose: (inputs, { causal, scale, mask: masked, saved, byLogSumExp }) => {
    const [dOut, q, k, v, out, residual] = [inputs[0]!, inputs[1]!, inputs[2]!, inputs[3]!, inputs[4]!, inputs[5]!]
    const mask = masked ? inputs[6] : undefined
    const [batch, time, heads] = q.shape
    const kvHeads = k.shape[2]!
    const thin = [batch!, heads!, time!, 1]
    const probabilities =
      saved === "probabilities"
        ? residual
        : exp(sub(scoresOf(q, k, visibility(time!, k.shape[1]!, mask, causal), scale), reshape(residual, thin)))
    // rowsum(dO * O), less what the log-sum-exp passes on: dS = P * (dP - rows)
    const products = reduceSum(mul(atLeastF32(dOut), atLeastF32(out)), -1)
    const rowsum = reshape(transpose(products, [0, 2, 1]), thin)
    const rows = byLogSumExp ? sub(rowsum, reshape(inputs.at(-1)!, thin)) : rowsum
    const wide = probabilities.dtype
    const dOutRows = grouped(dOut, kvHeads)
    const dProbabilities = dot(dOutRows, swapHeads(v), { transposeRight: true, dtype: wide })
    const p = asGroups(probabilities, kvHeads, wide)
    const dScores = cast(mul(p, sub(dProbabilities, asGroups(rows, kvHeads, wide))), q.dtype)
    const dq = mul(ungrouped(dot(dScores, swapHeads(k)), time!, heads!), scale)
    const dk = swapHeads(dot(dScores, grouped(mul(q, scale), kvHeads), { transposeLeft: true }))
    const dv = swapHeads(dot(cast(p, v.dtype), dOutRows, { transposeLeft: true }))
    return [dq, dk, dv]
  }
}

export interface AttentionOptions {
  /** Query i sees keys up to `i + keys - time` only (default false). */
  readonly causal?: boolean
  /** Default 1 / sqrt(d). */
  readonly scale?: number
  /** bool, broadcastable to [batch, heads, time, keys]: true where a query sees a key. */
  readonly mask?: Tensor | undefined
  /**
   * What is kept for the derivative. `logSumExp` (default) needs little memory; `probabilities` [batch, heads, time,
   * keys] saves a matrix product, which pays for short sequences.
   */
  readonly saved?: AttentionAttributes["saved"]
}

/** `1 / sqrt(d)` for heads of a known width. */
export const headScale = (q: Tensor): number => {
  const width = q.shape.at(-1)
  if (typeof width !== "number") throw mismatch("attention", [q], "the width of a head must be a number")
  return 1 / Math.sqrt(width)
}

/** Attention; shapes at the head of this file. `logSumExp` is [batch, heads, time], of `scale q k^T`. */
export const attention = (
  q: Tensor,
  k: Tensor,
  v: Tensor,
  { causal = false, scale = headScale(q), mask, saved = "logSumExp" }: AttentionOptions = {}
): { readonly out: Tensor; readonly logSumExp: Tensor } => {
  const inputs = [q, k, v, ...(mask ? [mask] : [])]
  const [out, logSumExp] = applyComposite(attentionOp, inputs, { causal, scale, mask: mask !== undefined, saved })
  return { out: out!, logSumExp: logSumExp! }
}
