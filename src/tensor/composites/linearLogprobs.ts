/**
 * Log-probabilities of target tokens, and entropies, under softmax(hidden W^T): the vocabulary head and its loss in one,
 * computed in chunks of tokens so that [tokens, vocabulary] never exists (as in https://arxiv.org/abs/2411.09009).
 *   z = h W^T,  l = log sum exp z,  logprob = z[target] - l,  entropy = l - sum(p z),  p = exp(z - l)
 * Derivatives by the cotangents a (logprob) and b (entropy): dz = a onehot - p (a + b (z - l + entropy)). The one-hot
 * part is a row of W and a scatter of rows of h, outside the loop; the rest is three products a chunk: the logits again,
 * dh and dW. Without b the factor a is moved to the rows of h and dh, so that p is all that is computed per element.
 */
import type { Dim } from "../Dim.ts"
import { ceilDivideDims, multiplyDims, subtractDims } from "../Dim.ts"
import { loop } from "../ops/control.ts"
import { dot } from "../ops/dot.ts"
import { add, cast, div, exp, mul, neg, select, sub } from "../ops/elementwise.ts"
import { gather, segmentSum, takeAlong } from "../ops/indexing.ts"
import { zeros } from "../ops/leaf.ts"
import { reduceSum } from "../ops/reduce.ts"
import { expandDims, pad, reshape, slice } from "../ops/shape.ts"
import type { Composite, Tensor } from "../Tensor.ts"
import { applyComposite, mismatch } from "../Tensor.ts"
import { atLeastF32 } from "./norm.ts"
import { logSoftmax } from "./softmax.ts"

type LogprobsAttributes = {
  /** The most tokens of a chunk. */
  readonly chunk: number
  /** Whether there are two more inputs: allowed tokens bool [masks, vocabulary], and each token's mask i32 [tokens]. */
  readonly mask: boolean
}

/** `tokens` in equal chunks of at most `chunk`: how many, and how long (the last is filled up). */
const chunking = (tokens: Dim, chunk: number): { readonly trips: Dim; readonly rows: Dim } => {
  const trips = ceilDivideDims(tokens, chunk)
  return { trips, rows: ceilDivideDims(tokens, trips) }
}

/** [tokens, ...] -> [trips, rows, ...], filled up with zeros. */
const chunked = (x: Tensor, chunk: number): Tensor => {
  const [tokens, ...rest] = x.shape
  const { trips, rows } = chunking(tokens!, chunk)
  const filler = subtractDims(multiplyDims(trips, rows), tokens!)
  return reshape(pad(x, 0, 0, filler), [trips, rows, ...rest])
}

/** [trips, rows, ...] -> [tokens, ...]. */
const unchunked = (x: Tensor, tokens: Dim): Tensor => {
  const [trips, rows, ...rest] = x.shape
  return slice(reshape(x, [multiplyDims(trips!, rows!), ...rest]), 0, 0, tokens)
}

/** The logits of a chunk, at least float32; forbidden tokens at -1e30. */
const logitsOf = (hidden: Tensor, weight: Tensor, masks: Tensor | undefined, index: Tensor | undefined): Tensor => {
  const z = dot(hidden, weight, { transposeRight: true, dtype: atLeastF32(hidden).dtype })
  return masks === undefined || index === undefined ? z : select(gather(masks, index, 0), z, -1e30)
}

/**
 * Inputs (hidden [tokens, width], weight [vocabulary, width], targets [tokens], masks?, maskIndex?);
 * outputs (logprob, entropy, logSumExp), each [tokens] in at least float32.
 */
export const linearLogprobsOp: Composite<LogprobsAttributes> = {
  name: "linearLogprobs",
  decompose: (inputs, { chunk }) => {
    const [hidden, weight, targets, masks, index] = [inputs[0]!, inputs[1]!, inputs[2]!, inputs[3], inputs[4]]
    const tokens = hidden.shape[0]!
    if (hidden.shape.length !== 2 || weight.shape.length !== 2 || targets.shape.length !== 1)
      throw mismatch("linearLogprobs", inputs, "hidden [tokens, width], weight [vocabulary, width], targets [tokens]")
    const scanned = [hidden, targets, ...(index ? [index] : [])].map((x) => chunked(x, chunk))
    const { stacked } = loop({ trips: scanned[0]!.shape[0]!, scanned }, ({ scanned: [h, target, at] }) => {
      const z = logitsOf(h!, weight, masks, at)
      const logprobs = logSoftmax(z)
      const pick = (x: Tensor) => reshape(takeAlong(x, expandDims(target!, 1), 1), target!.shape)
      const logprob = pick(logprobs)
      const entropy = neg(reduceSum(mul(exp(logprobs), logprobs), 1))
      return { stacked: [logprob, entropy, sub(pick(z), logprob)] }
    })
    return stacked.map((x) => unchunked(x, tokens))
  },
  vjp: ({ inputs, outputs, cotangents, needs }, { chunk, mask }) => {
    const [, entropy, logSumExp] = outputs
    const [byLogprob, byEntropy] = cotangents
    const a = byLogprob ?? zeros(entropy!.shape, entropy!.dtype)
    const [first, second] = applyComposite(
      linearLogprobsGradOp,
      [a, ...inputs, logSumExp!, ...(byEntropy ? [byEntropy, entropy!] : [])],
      { chunk, mask, byEntropy: byEntropy !== undefined, hidden: needs[0]!, weight: needs[1]! }
    )
    return needs[0] ? [first, second] : [undefined, first]
  }
}

type LogprobsGradAttributes = LogprobsAttributes & {
  readonly byEntropy: boolean
  /** Which derivatives are wanted. */
  readonly hidden: boolean
  readonly weight: boolean
}

/**
 * Inputs (dLogprob, hidden, weight, targets, masks?, maskIndex?, logSumExp, dEntropy?, entropy?);
 * outputs (dHidden, dWeight), those that are wanted.
 */
export const linearLogprobsGradOp: Composite<LogprobsGradAttributes> = {
  name: "linearLogprobsGrad",
  decompose: (inputs, attributes) => {
    const [a, hidden, weight, targets] = [inputs[0]!, inputs[1]!, inputs[2]!, inputs[3]!]
    const [masks, index] = attributes.mask ? [inputs[4]!, inputs[5]!] : []
    const [logSumExp, b, entropy] = inputs.slice(attributes.mask ? 6 : 4)
    const { chunk } = attributes
    const [tokens, vocabulary] = [hidden.shape[0]!, weight.shape[0]!]
    const wide = a.dtype
    const scanned = [hidden, a, logSumExp!, ...(b ? [b, entropy!] : []), ...(index ? [index] : [])]
    const { trips } = chunking(tokens, chunk)
    const pieces = scanned.map((x) => chunked(x, chunk))
    const carried = attributes.weight ? [zeros(weight.shape, wide)] : []
    const result = loop({ trips, carried, scanned: pieces }, ({ carried: [sum], scanned: chunks }) => {
      const [h, dLogprob, total] = [chunks[0]!, chunks[1]!, chunks[2]!]
      const z = logitsOf(h, weight, masks, index && chunks.at(-1))
      const logprobs = sub(z, expandDims(total, 1))
      const p = exp(logprobs)
      const rowFactor = expandDims(neg(dLogprob), 1)
      if (b === undefined) {
        // -a p, with the factor on the rows of what p is multiplied with
        const weights = cast(p, hidden.dtype)
        const dh = mul(cast(dot(weights, weight, { dtype: wide }), wide), rowFactor)
        const scaled = cast(mul(cast(h, wide), rowFactor), hidden.dtype)
        return {
          carried: sum ? [add(sum, dot(weights, scaled, { transposeLeft: true, dtype: wide }))] : [],
          stacked: attributes.hidden ? [dh] : []
        }
      }
      const [dEntropy, own] = [expandDims(chunks[3]!, 1), expandDims(chunks[4]!, 1)]
      const factor = sub(rowFactor, mul(dEntropy, add(logprobs, own)))
      const dz = cast(mul(p, factor), hidden.dtype)
      return {
        carried: sum ? [add(sum, dot(dz, h, { transposeLeft: true, dtype: wide }))] : [],
        stacked: attributes.hidden ? [dot(dz, weight, { dtype: wide })] : []
      }
    })
    const column = expandDims(a, 1)
    const dHidden = (): Tensor => {
      const ofTargets = mul(column, cast(gather(weight, targets, 0), wide))
      return cast(add(unchunked(result.stacked[0]!, tokens), ofTargets), hidden.dtype)
    }
    const dWeight = (): Tensor => {
      const ofTargets = segmentSum(mul(column, cast(hidden, wide)), targets, vocabulary)
      return cast(add(result.carried[0]!, ofTargets), weight.dtype)
    }
    return [...(attributes.hidden ? [dHidden()] : []), ...(attributes.weight ? [dWeight()] : [])]
  }
}

export interface LinearLogprobsOptions {
  /** The most tokens whose logits exist at once (default 2048). */
  readonly chunk?: number
  /** Divides the logits: a number, or a tensor that broadcasts to [tokens, 1]. */
  readonly temperature?: number | Tensor
  /** Allowed tokens: bool [vocabulary], or several masks [masks, vocabulary] and which one each token uses [tokens]. */
  readonly logitMask?: Tensor | { readonly masks: Tensor; readonly index: Tensor }
}

/**
 * Log-probabilities and entropies [tokens] of targets [tokens] (integers) for hidden [tokens, width] and a head's
 * weight [vocabulary, width], in nats and at least float32.
 */
export const linearLogprobs = (
  hidden: Tensor,
  weight: Tensor,
  targets: Tensor,
  { chunk = 2048, temperature = 1, logitMask }: LinearLogprobsOptions = {}
): { readonly logprob: Tensor; readonly entropy: Tensor } => {
  const scaled =
    typeof temperature === "number"
      ? temperature === 1
        ? hidden
        : mul(hidden, 1 / temperature)
      : cast(div(cast(hidden, temperature.dtype), temperature), hidden.dtype)
  const mask = maskInputs(logitMask, targets)
  const [logprob, entropy] = applyComposite(linearLogprobsOp, [scaled, weight, targets, ...mask], {
    chunk,
    mask: mask.length > 0
  })
  return { logprob: logprob!, entropy: entropy! }
}

const maskInputs = (mask: LinearLogprobsOptions["logitMask"], targets: Tensor): readonly Tensor[] => {
  if (mask === undefined) return []
  return "masks" in mask ? [mask.masks, mask.index] : [expandDims(mask, 0), zeros(targets.shape, "i32")]
}
