/** A stack of equal layers, written once. */
import type { Tensor } from "../Tensor.ts"

/** Applies `layer` to a carry once per set of weights, in order; gives the last carry. */
export const repeat = <W, C = Tensor>(
  weights: readonly W[],
  carry: C,
  layer: (carry: C, weights: W, index: number) => C
): C => weights.reduce<C>(layer, carry)
