/**
 * One token per row by inverse transform from one uniform number, so that a row's token depends on nothing but its own
 * logits and number. The distribution is softmax(logits / temperature) cut down in this order: allowed tokens, top-k,
 * top-p (the smallest set with at least that share of what top-k left; https://arxiv.org/abs/1904.09751), min-p (at
 * least that share of the best token's probability; https://arxiv.org/abs/2407.01082). Each cut is a threshold on the
 * log-probability and keeps ties; those of top-k and top-p are found by bisection, without sorting the vocabulary.
 */
import { subtractDims } from "../Dim.ts"
import { loop } from "../ops/control.ts"
import {
  add,
  cast,
  div,
  exp,
  greater,
  greaterEqual,
  lessEqual,
  log,
  max,
  min,
  mul,
  select,
  sub
} from "../ops/elementwise.ts"
import { takeAlong } from "../ops/indexing.ts"
import { constant, iota, ones } from "../ops/leaf.ts"
import { argMax, cumulativeSum, reduceMax, reduceSum } from "../ops/reduce.ts"
import { expandDims, reshape, slice } from "../ops/shape.ts"
import type { Composite, Tensor } from "../Tensor.ts"
import { applyComposite, mismatch } from "../Tensor.ts"
import { kthLargest, range } from "./kthLargest.ts"
import { atLeastF32 } from "./norm.ts"
import { logSoftmax } from "./softmax.ts"

type SampleAttributes = {
  readonly topK: number | null
  readonly topP: number | null
  readonly minP: number | null
  /** Whether there is an input that says which tokens are allowed. */
  readonly mask: boolean
}

const keepDims = { keepDims: true }
/** The log-probability of forbidden tokens. */
const FORBIDDEN = -1e30
/** Halvings of the range of log-probabilities that matter, down to float32's resolution. */
const HALVINGS = 27

/** The largest threshold whose kept tokens have `share` of the mass, [rows, 1]. */
const nucleus = (logprobs: Tensor, floor: Tensor | undefined, share: number): Tensor => {
  const kept = floor === undefined ? logprobs : select(greaterEqual(logprobs, floor), logprobs, FORBIDDEN)
  const p = exp(kept)
  const wanted = mul(reduceSum(p, 1, keepDims), share)
  const top = reduceMax(kept, 1, keepDims)
  const { carried } = loop({ trips: HALVINGS, carried: [sub(top, range), top] }, ({ carried: [low, high] }) => {
    const middle = mul(add(low!, high!), 0.5)
    const mass = reduceSum(select(greaterEqual(kept, middle), p, 0), 1, keepDims)
    const enough = greaterEqual(mass, wanted)
    return { carried: [select(enough, middle, low!), select(enough, high!, middle)] }
  })
  // if the best tokens alone suffice the bisection only comes near them
  const best = reduceSum(select(greaterEqual(kept, top), p, 0), 1, keepDims)
  return select(greaterEqual(best, wanted), top, carried[0]!)
}

/** Log-probabilities [rows, vocabulary] of the temperature, with what is not kept at -1e30. */
const truncated = (logprobs: Tensor, mask: Tensor | undefined, { topK, topP, minP }: SampleAttributes): Tensor => {
  const allowed = mask === undefined ? logprobs : select(mask, logprobs, FORBIDDEN)
  let floor: Tensor | undefined
  const raise = (to: Tensor) => {
    floor = floor === undefined ? to : max(floor, to)
  }
  if (topK !== null) {
    const size = allowed.shape[1]!
    const k = typeof size === "number" ? Math.min(topK, size) : topK
    raise(kthLargest(allowed, k))
  }
  if (topP !== null) raise(nucleus(allowed, floor, topP))
  if (minP !== null) raise(add(reduceMax(allowed, 1, keepDims), Math.log(minP)))
  return floor === undefined ? allowed : select(greaterEqual(allowed, floor), allowed, FORBIDDEN)
}

/**
 * Inputs (logits [rows, vocabulary], uniform [rows], temperature (scalar or [rows]), mask? bool [rows or 1, vocabulary]);
 * outputs (token i32, logprob, truncatedLogprob, mass), each [rows].
 */
export const sampleOp: Composite<SampleAttributes> = {
  name: "sample",
  decompose: (inputs, attributes) => {
    const [logits, uniform, temperature, mask] = [atLeastF32(inputs[0]!), inputs[1]!, inputs[2]!, inputs[3]]
    const [rows, vocabulary] = logits.shape
    if (logits.shape.length !== 2 || uniform.shape.length !== 1)
      throw mismatch("sample", inputs, "logits must be [rows, vocabulary] and uniform [rows]")
    const column = (x: Tensor) => reshape(x, [rows!, 1])
    const row = (x: Tensor) => reshape(x, [rows!])
    const scale = temperature.shape.length === 0 ? temperature : column(temperature)
    const logprobs = logSoftmax(div(logits, scale))
    const kept = truncated(logprobs, mask, attributes)
    const p = exp(kept)
    const sums = cumulativeSum(p, 1)
    const total = slice(sums, 1, subtractDims(vocabulary!, 1), vocabulary!)
    const target = mul(column(uniform), total)
    // the first token whose sum exceeds the target; rounding may leave none, then the last possible one
    const before = reduceSum(cast(lessEqual(sums, target), "i32"), 1, keepDims)
    const last = reduceMax(select(greater(p, 0), iota([1, vocabulary!], 1), 0), 1, keepDims)
    const token = min(before, last)
    const logprob = row(takeAlong(logprobs, token, 1))
    const whole = mask === undefined && [attributes.topK, attributes.topP, attributes.minP].every((x) => x === null)
    if (whole) return [row(token), logprob, logprob, ones([rows!], logprob.dtype)]
    return [row(token), logprob, sub(logprob, row(log(total))), row(total)]
  }
}

export interface SampleOptions {
  /** A positive number, or a tensor: scalar, or one per row (default 1). */
  readonly temperature?: number | Tensor
  /** Keep the k most probable tokens. */
  readonly topK?: number | undefined
  /** Keep the smallest set with this share of the probability, in (0, 1); 1 keeps all. */
  readonly topP?: number | undefined
  /** Keep tokens with at least this share of the best one's probability, in (0, 1); 0 keeps all. */
  readonly minP?: number | undefined
  /** bool [vocabulary], [1, vocabulary] or [rows, vocabulary]: the allowed tokens, at least one a row. */
  readonly mask?: Tensor | undefined
}

export interface Sampled {
  /** i32 [rows] */
  readonly token: Tensor
  /** Under the full softmax at the temperature, [rows]. */
  readonly logprob: Tensor
  /** Under the distribution that was sampled from, [rows]. */
  readonly truncatedLogprob: Tensor
  /** The share of the full distribution that could be sampled, [rows]. */
  readonly mass: Tensor
}

/** A token per row of logits [rows, vocabulary] from uniform numbers [rows] in [0, 1). It has no derivative. */
export const sample = (logits: Tensor, uniform: Tensor, options: SampleOptions = {}): Sampled => {
  const { temperature = 1, topK, topP, minP, mask } = options
  const wide = atLeastF32(logits)
  if (typeof temperature === "number" && !(temperature > 0))
    throw new RangeError(
      `sample: the temperature must be positive, not ${temperature}: take argMax for greedy decoding`
    )
  const degree = typeof temperature === "number" ? constant(temperature, wide.dtype) : temperature
  const allowed = mask && (mask.shape.length === 1 ? expandDims(mask, 0) : mask)
  const [token, logprob, truncatedLogprob, mass] = applyComposite(
    sampleOp,
    [logits, uniform, degree, ...(allowed ? [allowed] : [])],
    {
      topK: topK ?? null,
      topP: topP === undefined || topP >= 1 ? null : topP,
      minP: minP === undefined || minP <= 0 ? null : minP,
      mask: mask !== undefined
    }
  )
  return { token: token!, logprob: logprob!, truncatedLogprob: truncatedLogprob!, mass: mass! }
}

/** The most probable (allowed) token of each row [rows, vocabulary] and its log-probability under the full softmax. */
export const greedy = (logits: Tensor, mask?: Tensor): Pick<Sampled, "token" | "logprob"> => {
  const logprobs = logSoftmax(atLeastF32(logits))
  const token = argMax(mask === undefined ? logprobs : select(mask, logprobs, FORBIDDEN), 1)
  return { token, logprob: reshape(takeAlong(logprobs, expandDims(token, 1), 1), token.shape) }
}
