/**
 * The k-th largest log-probability of each row, without sorting the vocabulary: the interval of `range` below the largest is
 * halved until nothing of float32 lies between its ends; `low` keeps at least k tokens, `high` fewer. What is further below the
 * largest counts as lying at the interval's end: exp(-40) of it is less than float32 resolves.
 */
import { loop } from "../ops/control.ts"
import { add, cast, greaterEqual, mul, select, sub } from "../ops/elementwise.ts"
import { reduceMax, reduceSum } from "../ops/reduce.ts"
import type { Composite, Tensor } from "../Tensor.ts"
import { applyComposite, typeText } from "../Tensor.ts"

/** Nats below the most probable token. */
export const range = 40
/** 40 / 2^41 is finer than float32 below -3e-4, and no second token is as probable as that. */
const halvings = 41

const keepDims = { keepDims: true }

export const kthLargestOp: Composite<{ readonly k: number }> = {
  name: "kthLargest",
  decompose: ([x], { k }) => {
    const logprobs = x!
    const count = (floor: Tensor) => reduceSum(cast(greaterEqual(logprobs, floor), "i32"), 1, keepDims)
    const top = reduceMax(logprobs, 1, keepDims)
    const { carried } = loop({ trips: halvings, carried: [sub(top, range), top] }, ({ carried: [low, high] }) => {
      const middle = mul(add(low!, high!), 0.5)
      const enough = greaterEqual(count(middle), k)
      return { carried: [select(enough, middle, low!), select(enough, high!, middle)] }
    })
    // as many as that may be equally good
    return [select(greaterEqual(count(top), k), top, carried[0]!)]
  }
}

/** Of log-probabilities [rows, n] the k-th largest of each row, [rows, 1]. Throws a RangeError for other ranks and a k below 1. */
export const kthLargest = (logprobs: Tensor, k: number): Tensor => {
  if (logprobs.shape.length !== 2 || !(Number.isInteger(k) && k >= 1))
    throw new RangeError(`kthLargest: ${typeText(logprobs)} has no ${k} largest in each row`)
  return applyComposite(kthLargestOp, [logprobs], { k })[0]!
}
