/**
 * The operations of a decoder's programs by closed formula, multiplications and additions counted apart: what measured rates
 * and compilers' counts are held against. A product of [m, k] and [k, n] is 2 m k n; all else is left out.
 *
 *   a layer's weights w, n places of tokens      forward 2 n w, derivative by the states 2 n w, by the weights 2 n w
 *   attention over rows of t places, causal      2 products of rows t^2 / 2 heads d forward, 5 in a derivative that keeps no scores
 *   the head, c completion tokens                forward 2 c v h; derivative: logits again, by the states, by the weight
 */
import { decoderParameters } from "./decoder.ts"
import type { DecoderConfig } from "./decoderConfig.ts"

export interface TrainingWork {
  readonly rows: number
  /** Places of a row. */
  readonly time: number
  /** Places whose next token is scored. */
  readonly tokens: number
  /** Layers are computed again in the derivative. */
  readonly rematerialised: boolean
  /** Ranks of adapters on all linear layers, the rest frozen; null: everything is trained. */
  readonly rank: number | null
}

/**
 * Elements of the matrices of all layers, and what adapters of rank 1 on each of their parts have; `again` are those that a
 * rematerialised layer multiplies twice: all but the last, whose result no derivative needs.
 */
const layerMatrices = (config: DecoderConfig) => {
  const matrices = decoderParameters(config).filter(
    ({ name, shape }) => shape.length === 2 && name.startsWith("model.layers.")
  )
  const weights = matrices.reduce((n, { shape }) => n + shape[0]! * shape[1]!, 0)
  const perRank = matrices.reduce((n, { parts, shape }) => n + parts.length * shape[1]! + shape[0]!, 0)
  const { hiddenSize, intermediateSize, layers } = config
  return {
    weights,
    perRank,
    again: { weights: weights - layers * hiddenSize * intermediateSize, perRank: perRank - layers * hiddenSize }
  }
}

/** Of one forward and backward pass. */
export const trainingFlops = (config: DecoderConfig, work: TrainingWork) => {
  const { rank, rematerialised, rows, time, tokens } = work
  const { heads, headSize, hiddenSize, layers, vocabularySize } = config
  const places = rows * time
  const { again, perRank, weights } = layerMatrices(config)
  const frozen = rank !== null
  const repeated = rematerialised ? again : { weights: 0, perRank: 0 }
  const linear = 2 * places * (weights * (frozen ? 2 : 3) + repeated.weights)
  const adapters = frozen ? 2 * places * rank * (perRank * 3 + repeated.perRank) : 0
  const head = 2 * tokens * vocabularySize * hiddenSize * (1 + (frozen ? 2 : 3))
  const square = layers * rows * heads * headSize * time ** 2
  return { products: linear + adapters + head, attention: square * (rematerialised ? 9 : 7) }
}

/** Of one step of cached generation: `places` of cache are looked at for each row. */
export const decodeFlops = (
  config: DecoderConfig,
  { places, rows }: { readonly rows: number; readonly places: number }
) => {
  const { heads, headSize, hiddenSize, layers, vocabularySize } = config
  const linear = 2 * rows * (layerMatrices(config).weights + vocabularySize * hiddenSize)
  return { products: linear + layers * rows * heads * headSize * places * 4, attention: 0 }
}
