/**
 * A BERT encoder as graph functions: word, position and segment embeddings, layer norm after each residual, exact GELU; on
 * top of it the mean of a text's token states scaled to length 1 (a sentence embedding), or a classifier on the first
 * token's state (`BertForSequenceClassification`). Names and shapes are transformers'.
 */
import { gelu } from "../tensor/composites/activation.ts"
import { attention } from "../tensor/composites/attention.ts"
import { linear } from "../tensor/composites/linear.ts"
import { layerNorm } from "../tensor/composites/norm.ts"
import { add, cast, div, less, max, mul, sqrt, square, tanh } from "../tensor/ops/elementwise.ts"
import { embedding } from "../tensor/ops/indexing.ts"
import { iota } from "../tensor/ops/leaf.ts"
import { reduceSum } from "../tensor/ops/reduce.ts"
import { expandDims, reshape, slice, split } from "../tensor/ops/shape.ts"
import type { Tensor } from "../tensor/Tensor.ts"
import type { EncoderConfig } from "./encoderConfig.ts"
import { type Init, type ParameterInputs, type ParameterSpec, single, stacked } from "./parameters.ts"

/** How a new encoder starts: normal draws with deviation 0.02 (BERT's), 0.1 for word embeddings of small scratch models. */
export interface EncoderInit {
  readonly wordDeviation?: number
}

/**
 * The table of parameters: without labels that of `BertModel` (no pooler), with labels that of
 * `BertForSequenceClassification`. Checkpoints may hold names with or without the prefix `bert.`, and norms as gamma, beta.
 */
export const encoderParameters = (
  config: EncoderConfig,
  { wordDeviation = 0.02 }: EncoderInit = {}
): ReadonlyArray<ParameterSpec> => {
  const { hiddenSize, intermediateSize, labels, layers, maxPositions, segments, vocabularySize } = config
  const prefix = labels.length > 0 ? "bert." : ""
  const other = labels.length > 0 ? "" : "bert."
  const normal: Init = { kind: "normal", deviation: 0.02 }
  const fan = (width: number): Init => ({ kind: "normal", deviation: width ** -0.5 })
  const zero: Init = { kind: "constant", value: 0 }
  const one: Init = { kind: "constant", value: 1 }
  const tensor = (name: string, shape: ReadonlyArray<number>, init: Init) =>
    single(`${prefix}${name}`, shape, init, [`${other}${name}`])
  const norm = (name: string) =>
    (["weight", "bias"] as const).map((kind) => {
      const old = kind === "weight" ? "gamma" : "beta"
      return single(`${prefix}${name}.${kind}`, [hiddenSize], kind === "weight" ? one : zero, [
        `${other}${name}.${kind}`,
        `${prefix}${name}.${old}`,
        `${other}${name}.${old}`
      ])
    })
  const dense = (name: string, out: number, width: number) => [
    tensor(`${name}.weight`, [out, width], fan(width)),
    tensor(`${name}.bias`, [out], zero)
  ]
  const table: Array<ParameterSpec> = [
    tensor("embeddings.word_embeddings.weight", [vocabularySize, hiddenSize], {
      kind: "normal",
      deviation: wordDeviation
    }),
    tensor("embeddings.position_embeddings.weight", [maxPositions, hiddenSize], normal),
    tensor("embeddings.token_type_embeddings.weight", [segments, hiddenSize], normal),
    ...norm("embeddings.LayerNorm")
  ]
  for (let layer = 0; layer < layers; layer++) {
    const at = `encoder.layer.${layer}`
    const qkv = (kind: "weight" | "bias", columns: ReadonlyArray<number>, init: Init) => {
      const names = ["query", "key", "value"].map((name) => `${at}.attention.self.${name}.${kind}`)
      const spec = stacked(
        `${prefix}${at}.attention.self.qkv.${kind}`,
        names.map((name) => ({ name: `${prefix}${name}`, rows: hiddenSize })),
        columns,
        init
      )
      return { ...spec, parts: spec.parts.map((part, i) => ({ ...part, aliases: [`${other}${names[i]}`] })) }
    }
    table.push(
      qkv("weight", [hiddenSize], fan(hiddenSize)),
      qkv("bias", [], zero),
      ...dense(`${at}.attention.output.dense`, hiddenSize, hiddenSize),
      ...norm(`${at}.attention.output.LayerNorm`),
      ...dense(`${at}.intermediate.dense`, intermediateSize, hiddenSize),
      ...dense(`${at}.output.dense`, hiddenSize, intermediateSize),
      ...norm(`${at}.output.LayerNorm`)
    )
  }
  if (labels.length > 0) {
    table.push(
      ...dense("pooler.dense", hiddenSize, hiddenSize),
      single("classifier.weight", [labels.length, hiddenSize], fan(hiddenSize)),
      single("classifier.bias", [labels.length], zero)
    )
  }
  return table
}

/** Texts of a micro-batch, padded on the right. */
export interface EncoderInputs {
  /** i32 [batch, time]. */
  readonly ids: Tensor
  /** i32 [batch, time]. */
  readonly segments: Tensor
  /** Tokens of each text, i32 [batch], >= 1. */
  readonly lengths: Tensor
}

const names = (config: EncoderConfig, parameters: ParameterInputs) => {
  const prefix = config.labels.length > 0 ? "bert." : ""
  const of = (name: string) => parameters.of(`${prefix}${name}`)
  return {
    of,
    dense: (x: Tensor, name: string) => linear(x, of(`${name}.weight`), { bias: of(`${name}.bias`) }),
    norm: (x: Tensor, name: string) => layerNorm(x, of(`${name}.weight`), of(`${name}.bias`), config.normEpsilon)
  }
}

/** Whether a token is there: bool [batch, time]. */
const present = ({ ids, lengths }: EncoderInputs): Tensor => less(iota([ids.shape[1]!]), expandDims(lengths, 1))

/** The states of all tokens, [batch, time, hidden]; those of padding mean nothing. */
export const encoderHidden = (config: EncoderConfig, parameters: ParameterInputs, inputs: EncoderInputs): Tensor => {
  const { heads, hiddenSize, layers } = config
  const { dense, norm, of } = names(config, parameters)
  const [batch, time] = [inputs.ids.shape[0]!, inputs.ids.shape[1]!]
  const headSize = hiddenSize / heads
  const mask = reshape(present(inputs), [batch, 1, 1, time])
  const positions = slice(of("embeddings.position_embeddings.weight"), 0, 0, time)
  const words = embedding(of("embeddings.word_embeddings.weight"), inputs.ids)
  const kinds = embedding(of("embeddings.token_type_embeddings.weight"), inputs.segments)
  let x = norm(add(add(words, kinds), positions), "embeddings.LayerNorm")
  for (let layer = 0; layer < layers; layer++) {
    const at = `encoder.layer.${layer}`
    const split3 = split(dense(x, `${at}.attention.self.qkv`), -1, [hiddenSize, hiddenSize, hiddenSize])
    const [q, k, v] = split3.map((part) => reshape(part, [batch, time, heads, headSize]))
    const out = reshape(attention(q!, k!, v!, { mask }).out, [batch, time, hiddenSize])
    const attended = norm(add(dense(out, `${at}.attention.output.dense`), x), `${at}.attention.output.LayerNorm`)
    const inner = gelu(dense(attended, `${at}.intermediate.dense`))
    x = norm(add(dense(inner, `${at}.output.dense`), attended), `${at}.output.LayerNorm`)
  }
  return x
}

/** Sentence embeddings of length 1: the mean over a text's tokens, scaled. [batch, hidden]. */
export const embed = (config: EncoderConfig, parameters: ParameterInputs, inputs: EncoderInputs): Tensor => {
  const states = encoderHidden(config, parameters, inputs)
  const keep = cast(present(inputs), "f32")
  const mean = div(reduceSum(mul(states, expandDims(keep, -1)), 1), expandDims(cast(inputs.lengths, "f32"), 1))
  // as torch's normalize: a vector shorter than 1e-12 is left short
  const length = max(sqrt(reduceSum(square(mean), 1, { keepDims: true })), 1e-12)
  return div(mean, length)
}

/** Class scores from the first token's state: W tanh(P h + p) + w. [batch, labels]. */
export const classify = (config: EncoderConfig, parameters: ParameterInputs, inputs: EncoderInputs): Tensor => {
  if (config.labels.length === 0) throw new RangeError("the encoder has no labels: it is no classifier")
  const states = encoderHidden(config, parameters, inputs)
  const first = reshape(slice(states, 1, 0, 1), [inputs.ids.shape[0]!, config.hiddenSize])
  const pooled = tanh(names(config, parameters).dense(first, "pooler.dense"))
  return linear(pooled, parameters.of("classifier.weight"), { bias: parameters.of("classifier.bias") })
}
