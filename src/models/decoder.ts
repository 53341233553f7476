/**
 * A decoder of the Llama family as graph functions: RMSNorm before each half of a layer, rotary positions, grouped-query
 * attention, SwiGLU. Names and shapes are those of transformers' LlamaForCausalLM and Qwen2ForCausalLM.
 *
 *   x += O attention(rotary(Q norm(x)), rotary(K norm(x)), V norm(x));   x += D swiglu(G norm(x), U norm(x))
 *
 * Rows are padded on the right: a causal model never lets padding reach a real token, so training needs no mask, unless
 * sequences share rows.
 */

import { swiglu } from "../tensor/composites/activation.ts"
import { attention } from "../tensor/composites/attention.ts"
import { linear } from "../tensor/composites/linear.ts"
import { rmsNorm } from "../tensor/composites/norm.ts"
import { type LayerTensors, repeat } from "../tensor/composites/repeat.ts"
import { type RotaryTables, rotary, rotaryTables } from "../tensor/composites/rotary.ts"
import { add, and, greaterEqual, lessEqual } from "../tensor/ops/elementwise.ts"
import { embedding } from "../tensor/ops/indexing.ts"
import { iota } from "../tensor/ops/leaf.ts"
import { reshape, split } from "../tensor/ops/shape.ts"
import type { Tensor } from "../tensor/Tensor.ts"
import { type DecoderConfig, ropeFrequencies } from "./decoderConfig.ts"
import { countParameters, type ParameterInputs, type ParameterSpec, single, stacked } from "./parameters.ts"

const embeddingName = "model.embed_tokens.weight"
const headName = "lm_head.weight"
const normName = "model.norm.weight"
/** What the names of a layer's tensors begin with. */
export const layerName = (layer: number): string => `model.layers.${layer}.`

/**
 * The table of parameters. A new model starts from normal draws: embeddings with deviation 0.05, projections with
 * fan-in^-1/2, those into the residual stream divided by sqrt(2 layers).
 */
export const decoderParameters = (config: DecoderConfig): ReadonlyArray<ParameterSpec> => {
  const { headSize, heads, hiddenSize, intermediateSize, keyValueHeads, layers, vocabularySize } = config
  const normal = (deviation: number) => ({ kind: "normal", deviation }) as const
  const one = { kind: "constant", value: 1 } as const
  const zero = { kind: "constant", value: 0 } as const
  const fan = (width: number) => normal(width ** -0.5)
  const residual = (width: number) => normal(width ** -0.5 / Math.sqrt(2 * layers))
  const table: Array<ParameterSpec> = [single(embeddingName, [vocabularySize, hiddenSize], normal(0.05))]
  for (let layer = 0; layer < layers; layer++) {
    const at = `model.layers.${layer}`
    const attention = `${at}.self_attn`
    const qkv = (kind: "weight" | "bias") => [
      { name: `${attention}.q_proj.${kind}`, rows: heads * headSize },
      { name: `${attention}.k_proj.${kind}`, rows: keyValueHeads * headSize },
      { name: `${attention}.v_proj.${kind}`, rows: keyValueHeads * headSize }
    ]
    const gateUp = (kind: "weight" | "bias") => [
      { name: `${at}.mlp.gate_proj.${kind}`, rows: intermediateSize },
      { name: `${at}.mlp.up_proj.${kind}`, rows: intermediateSize }
    ]
    table.push(
      single(`${at}.input_layernorm.weight`, [hiddenSize], one),
      stacked(`${attention}.qkv.weight`, qkv("weight"), [hiddenSize], fan(hiddenSize), headSize),
      ...(config.qkvBias ? [stacked(`${attention}.qkv.bias`, qkv("bias"), [], zero, headSize)] : []),
      single(`${attention}.o_proj.weight`, [hiddenSize, heads * headSize], residual(heads * headSize)),
      ...(config.outputBias ? [single(`${attention}.o_proj.bias`, [hiddenSize], zero)] : []),
      single(`${at}.post_attention_layernorm.weight`, [hiddenSize], one),
      stacked(`${at}.mlp.gate_up.weight`, gateUp("weight"), [hiddenSize], fan(hiddenSize)),
      ...(config.feedForwardBias ? [stacked(`${at}.mlp.gate_up.bias`, gateUp("bias"), [], zero)] : []),
      single(`${at}.mlp.down_proj.weight`, [hiddenSize, intermediateSize], residual(intermediateSize)),
      ...(config.feedForwardBias ? [single(`${at}.mlp.down_proj.bias`, [hiddenSize], zero)] : [])
    )
  }
  table.push(single(normName, [hiddenSize], one))
  if (!config.tied) table.push(single(headName, [vocabularySize, hiddenSize], normal(0.05)))
  const { stored } = config
  return stored === undefined ? table : table.map((spec) => (spec.shape.length === 2 ? { ...spec, stored } : spec))
}

/**
 * The bytes that training the layers as a loop lays on one another: float32 gradients of weights that are trained, copies of weights that are
 * not, which products in bfloat16 take so.
 */
export const loopBytes = (config: DecoderConfig, { bf16, frozen }: { bf16: boolean; frozen: boolean }): number => {
  const layers = decoderParameters(config).filter(({ name }) => /^model\.layers\.\d/.test(name))
  return countParameters(layers) * (bf16 && frozen ? 2 : 4)
}

/** The output head [vocabulary, hidden]: the embedding where the two are tied. */
export const headWeight = (config: DecoderConfig, parameters: ParameterInputs): Tensor =>
  parameters.of(config.tied ? embeddingName : headName)

/**
 * How queries [batch, time, heads, d] find their keys and values: the keys and values of this very call (training, prefill)
 * or those of a cache. Gives [batch, time, heads, d]. In a loop over layers `layer` is 0 for all.
 */
export type Attend = (q: Tensor, k: Tensor, v: Tensor, layer: number) => Tensor

/**
 * What comes out of a projection `self_attn.qkv | self_attn.o_proj | mlp.gate_up | mlp.down_proj` of a layer whose tensors are
 * `own`: y [..., out] is what its weights made of x [..., in].
 */
export type Adapt = (y: Tensor, x: Tensor, projection: string, own: LayerTensors) => Tensor

/** The longest rows whose attention keeps its probabilities. */
const keptProbabilities = 512

/**
 * Causal attention within the rows. Where contexts are short its derivative keeps the probabilities, which saves a matrix
 * product; else it keeps their sums and computes them again.
 */
export const attendCausally =
  ({ maxPositions }: DecoderConfig): Attend =>
  (q, k, v) =>
    attention(q, k, v, { causal: true, saved: maxPositions <= keptProbabilities ? "probabilities" : "logSumExp" }).out

/**
 * The same for rows of several sequences, that do not see each other: starts i32 [batch, time] is the place where the sequence of
 * each place begins, so that query i sees keys starts[i] .. i. `longest` is how long rows may be.
 */
export const attendWithin = (starts: Tensor, longest: number): Attend => {
  const [batch, time] = [starts.shape[0]!, starts.shape[1]!]
  const key = iota([1, 1, 1, time], 3)
  const own = greaterEqual(key, reshape(starts, [batch, 1, time, 1]))
  const mask = and(own, lessEqual(key, iota([1, 1, time, 1], 2)))
  const saved = longest <= keptProbabilities ? "probabilities" : "logSumExp"
  return (q, k, v) => attention(q, k, v, { mask, saved }).out
}

/** One layer: x [batch, time, hidden] to the same shape, with the layer's own tensors by their names within it. */
export const decoderLayer = (
  config: DecoderConfig,
  own: LayerTensors,
  layer: number,
  x: Tensor,
  tables: RotaryTables,
  attend: Attend,
  adapt: Adapt
): Tensor => {
  const { headSize, heads, intermediateSize, keyValueHeads, normEpsilon } = config
  const project = (input: Tensor, name: string) =>
    adapt(linear(input, own[`${name}.weight`]!, { bias: own[`${name}.bias`] }), input, name, own)
  const [batch, time] = [x.shape[0]!, x.shape[1]!]
  const normal = rmsNorm(x, own["input_layernorm.weight"]!, normEpsilon)
  const kv = keyValueHeads * headSize
  const [q, k, v] = split(project(normal, "self_attn.qkv"), -1, [heads * headSize, kv, kv])
  const out = attend(
    rotary(reshape(q!, [batch, time, heads, headSize]), tables),
    rotary(reshape(k!, [batch, time, keyValueHeads, headSize]), tables),
    reshape(v!, [batch, time, keyValueHeads, headSize]),
    layer
  )
  const attended = add(x, project(reshape(out, [batch, time, heads * headSize]), "self_attn.o_proj"))
  const inner = rmsNorm(attended, own["post_attention_layernorm.weight"]!, normEpsilon)
  const [gate, up] = split(project(inner, "mlp.gate_up"), -1, [intermediateSize, intermediateSize])
  return add(attended, project(swiglu(gate!, up!), "mlp.down_proj"))
}

export interface HiddenOptions {
  /** Positions of the tokens, i32 [time] or [batch, time]; 0, 1, 2, ... by default. */
  readonly positions?: Tensor
  readonly attend?: Attend
  /** What adapters add to a projection; nothing by default. */
  readonly adapt?: Adapt
  /** Wraps every layer: where rematerialisation goes. */
  readonly wrap?: (layer: (x: Tensor) => Tensor, x: Tensor) => Tensor
  /** What a layer has beside its parameters, by its number: what `adapt` asks for. */
  readonly more?: (layer: number) => LayerTensors
  /** The layers as a loop over their tensors laid on one another. Default false. */
  readonly loop?: boolean | undefined
}

/** ids i32 [batch, time] to the normalised hidden states [batch, time, hidden] that the head reads. */
export const hidden = (
  config: DecoderConfig,
  parameters: ParameterInputs,
  ids: Tensor,
  {
    adapt = (y) => y,
    attend = attendCausally(config),
    loop,
    more = () => ({}),
    positions = iota([ids.shape[1]!]),
    wrap = (layer, x) => layer(x)
  }: HiddenOptions = {}
): Tensor => {
  const tables = rotaryTables(positions, ropeFrequencies(config))
  const layers = Array.from({ length: config.layers }, (_, layer) => ({
    ...parameters.under(layerName(layer)),
    ...more(layer)
  }))
  const x = repeat(
    layers,
    embedding(parameters.of(embeddingName), ids),
    (states, own, layer) => wrap((y) => decoderLayer(config, own, layer, y, tables, attend, adapt), states),
    { loop }
  )
  return rmsNorm(x, parameters.of(normName), config.normEpsilon)
}
