/**
 * What low-rank adapters add to the outputs of linear layers that read the same input and whose weights lie one after the
 * other: s (x A_i^T) B_i^T for layer i, side by side (LoRA, https://arxiv.org/abs/2106.09685). The factors A are one tensor, so
 * that x is multiplied once; B stays apart, for a block-diagonal matrix would multiply zeros.
 */
import type { DimLike } from "../Dim.ts"
import { mul } from "../ops/elementwise.ts"
import { zeros } from "../ops/leaf.ts"
import { concat, split } from "../ops/shape.ts"
import type { Tensor } from "../Tensor.ts"
import { linear } from "./linear.ts"

/** A layer's part of the output. */
export interface LowRankPart {
  /** Of the output. */
  readonly rows: DimLike
  /** B [rows, rank]; a layer without an adapter has none. */
  readonly b?: Tensor | undefined
  /** Multiplies x before A, of its shape: dropout's mask, 0 or 1 / (1 - share). */
  readonly mask?: Tensor | undefined
}

/** `x [..., in] -> [..., sum of rows]`; `a` is [ranks of the layers that have an adapter, in their order, in]. */
export const lowRank = (x: Tensor, a: Tensor, parts: ReadonlyArray<LowRankPart>, scale: number): Tensor => {
  const adapted = parts.filter(({ b }) => b !== undefined)
  const ranks = adapted.map(({ b }) => b!.shape[1]!)
  const lows = adapted.some(({ mask }) => mask !== undefined)
    ? split(a, 0, ranks).map((own, i) => {
        const { mask } = adapted[i]!
        return mul(linear(mask === undefined ? x : mul(x, mask), own), scale)
      })
    : split(mul(linear(x, a), scale), -1, ranks)
  let next = 0
  return concat(
    parts.map(({ b, rows }) => (b === undefined ? zeros([...x.shape.slice(0, -1), rows]) : linear(lows[next++]!, b))),
    -1
  )
}
