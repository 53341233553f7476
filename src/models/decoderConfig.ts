/**
 * Decoders of the Llama family as the numbers that a graph needs. Fields and defaults of `config.json` are those of
 * transformers (`configuration_llama.py`, `configuration_mistral.py`, `configuration_qwen2.py`).
 */
import { Effect, Schema } from "effect"
import { rotaryFrequencies } from "../tensor/composites/rotary.ts"
import { badConfig, modelType, positive, unsupported } from "./config.ts"
import { BadConfig, fail, type ModelError } from "./ModelError.ts"

/** A decoder of the Llama family: RMSNorm, rotary positions, grouped-query attention, SwiGLU. */
export interface DecoderConfig {
  readonly kind: "decoder"
  readonly vocabularySize: number
  readonly hiddenSize: number
  readonly intermediateSize: number
  readonly layers: number
  readonly heads: number
  /** Heads of keys and values; divides `heads`. */
  readonly keyValueHeads: number
  readonly headSize: number
  /** The longest sequence, prompt and answer together. */
  readonly maxPositions: number
  readonly ropeTheta: number
  /** Llama 3's stretching of the slow rotary frequencies; none by default. */
  readonly ropeScaling?: Llama3Scaling
  readonly normEpsilon: number
  /** Whether the output head is the embedding. */
  readonly tied: boolean
  /** Biases of the query, key and value projections. */
  readonly qkvBias: boolean
  /** Bias of the attention's output projection. */
  readonly outputBias: boolean
  /** Biases of the three feed-forward projections. */
  readonly feedForwardBias: boolean
  readonly eosIds: ReadonlyArray<number>
  /** How the device keeps matrices that nothing trains; float32 where left out. Not a part of `config.json`. */
  readonly stored?: "bf16"
  /** How a device keeps keys and values while it generates, where not in float32: as products round them anyway. */
  readonly cached?: "bf16"
}

/** `rope_type: llama3`: wavelengths beyond `original / lowFactor` are stretched by `factor`, with a smooth transition. */
export interface Llama3Scaling {
  readonly factor: number
  readonly lowFactor: number
  readonly highFactor: number
  /** The context that the model was pretrained with. */
  readonly original: number
}

const TokenIds = Schema.NullOr(Schema.Union([Schema.Int, Schema.Array(Schema.Int)]))
const Rope = Schema.NullOr(
  Schema.Struct({
    rope_type: Schema.optionalKey(Schema.String),
    type: Schema.optionalKey(Schema.String),
    rope_theta: Schema.optionalKey(Schema.Finite),
    factor: Schema.optionalKey(Schema.Finite),
    low_freq_factor: Schema.optionalKey(Schema.Finite),
    high_freq_factor: Schema.optionalKey(Schema.Finite),
    original_max_position_embeddings: Schema.optionalKey(Schema.Int)
  })
)

const DecoderJson = Schema.fromJsonString(
  Schema.Struct({
    model_type: Schema.String,
    vocab_size: positive,
    hidden_size: positive,
    intermediate_size: positive,
    num_hidden_layers: positive,
    num_attention_heads: positive,
    num_key_value_heads: Schema.optionalKey(Schema.NullOr(positive)),
    head_dim: Schema.optionalKey(Schema.NullOr(positive)),
    max_position_embeddings: positive,
    rms_norm_eps: Schema.optionalKey(Schema.Finite),
    rope_theta: Schema.optionalKey(Schema.Finite),
    rope_scaling: Schema.optionalKey(Rope),
    rope_parameters: Schema.optionalKey(Rope),
    tie_word_embeddings: Schema.optionalKey(Schema.Boolean),
    attention_bias: Schema.optionalKey(Schema.Boolean),
    mlp_bias: Schema.optionalKey(Schema.Boolean),
    hidden_act: Schema.optionalKey(Schema.String),
    sliding_window: Schema.optionalKey(Schema.NullOr(Schema.Int)),
    use_sliding_window: Schema.optionalKey(Schema.Boolean),
    eos_token_id: Schema.optionalKey(TokenIds)
  })
)

const decoderTypes = ["llama", "mistral", "qwen2"]

/** Decodes the text of a `config.json` of the Llama family. `file` is for messages. */
export const decoderConfig = Effect.fnUntraced(function* (
  file: string,
  text: string
): Effect.fn.Return<DecoderConfig, ModelError> {
  const model_type = yield* modelType(file, text)
  if (!decoderTypes.includes(model_type)) {
    return yield* unsupported(file, "model_type", model_type, `${decoderTypes.join(", ")} for a policy`)
  }
  const json = yield* Schema.decodeEffect(DecoderJson, { errors: "all" })(text).pipe(Effect.mapError(badConfig(file)))
  const act = json.hidden_act ?? "silu"
  if (act !== "silu" && act !== "swish") return yield* unsupported(file, "hidden_act", act, "silu")
  let ropeScaling: Llama3Scaling | undefined
  for (const field of ["rope_scaling", "rope_parameters"] as const) {
    const rope = json[field] ?? undefined
    const type = rope?.rope_type ?? rope?.type ?? "default"
    if (rope === undefined || type === "default") continue
    const { factor, high_freq_factor, low_freq_factor, original_max_position_embeddings } = rope
    if (type !== "llama3") return yield* unsupported(file, `${field}.rope_type`, type, "default, llama3")
    if (!factor || !high_freq_factor || !low_freq_factor || !original_max_position_embeddings) {
      return yield* fail(
        new BadConfig({
          file,
          detail: `${field} of type llama3 needs factor, low_freq_factor, high_freq_factor and original_max_position_embeddings`
        })
      )
    }
    ropeScaling = {
      factor,
      lowFactor: low_freq_factor,
      highFactor: high_freq_factor,
      original: original_max_position_embeddings
    }
  }
  const slides = model_type === "qwen2" ? json.use_sliding_window === true : true
  const window = json.sliding_window ?? undefined
  if (slides && window !== undefined && window < json.max_position_embeddings) {
    return yield* unsupported(file, "sliding_window", window, "null, or at least max_position_embeddings")
  }
  const heads = json.num_attention_heads
  const keyValueHeads = json.num_key_value_heads ?? heads
  const headSize = json.head_dim ?? json.hidden_size / heads
  if (!Number.isInteger(headSize) || headSize % 2 !== 0 || heads % keyValueHeads !== 0) {
    return yield* fail(
      new BadConfig({
        file,
        detail: `hidden_size ${json.hidden_size}, ${heads} heads and ${keyValueHeads} key-value heads do not divide into heads of an even size`
      })
    )
  }
  const bias = json.attention_bias ?? false
  const eos = json.eos_token_id ?? []
  return {
    kind: "decoder",
    vocabularySize: json.vocab_size,
    hiddenSize: json.hidden_size,
    intermediateSize: json.intermediate_size,
    layers: json.num_hidden_layers,
    heads,
    keyValueHeads,
    headSize,
    maxPositions: json.max_position_embeddings,
    ropeTheta: json.rope_parameters?.rope_theta ?? json.rope_theta ?? 10000,
    ...(ropeScaling === undefined ? {} : { ropeScaling }),
    normEpsilon: json.rms_norm_eps ?? 1e-6,
    tied: json.tie_word_embeddings ?? false,
    qkvBias: model_type === "qwen2" || bias,
    outputBias: model_type === "llama" && bias,
    feedForwardBias: json.mlp_bias ?? false,
    eosIds: typeof eos === "number" ? [eos] : eos
  }
})

/** The rotary frequencies of a decoder, [headSize / 2]; transformers' `_compute_llama3_parameters` where they are scaled. */
export const ropeFrequencies = ({ headSize, ropeScaling, ropeTheta }: DecoderConfig): ReadonlyArray<number> => {
  const plain = rotaryFrequencies(headSize, ropeTheta)
  if (ropeScaling === undefined) return plain
  const { factor, highFactor, lowFactor, original } = ropeScaling
  return plain.map((frequency) => {
    const turns = (original * frequency) / (2 * Math.PI) // over the original context
    if (turns < lowFactor) return frequency / factor
    if (turns > highFactor) return frequency
    const smooth = (turns - lowFactor) / (highFactor - lowFactor)
    return ((1 - smooth) * frequency) / factor + smooth * frequency
  })
}

/** The `config.json` of a decoder that was made here, as transformers reads it. */
export const decoderConfigJson = (config: DecoderConfig): string => {
  const biased = config.qkvBias && !config.outputBias
  return `${JSON.stringify(
    {
      architectures: [biased ? "Qwen2ForCausalLM" : "LlamaForCausalLM"],
      model_type: biased ? "qwen2" : "llama",
      hidden_act: "silu",
      ...(biased ? {} : { attention_bias: config.outputBias, mlp_bias: config.feedForwardBias }),
      hidden_size: config.hiddenSize,
      intermediate_size: config.intermediateSize,
      num_hidden_layers: config.layers,
      num_attention_heads: config.heads,
      num_key_value_heads: config.keyValueHeads,
      head_dim: config.headSize,
      max_position_embeddings: config.maxPositions,
      rope_theta: config.ropeTheta,
      ...(config.ropeScaling === undefined
        ? {}
        : {
            rope_scaling: {
              rope_type: "llama3",
              factor: config.ropeScaling.factor,
              low_freq_factor: config.ropeScaling.lowFactor,
              high_freq_factor: config.ropeScaling.highFactor,
              original_max_position_embeddings: config.ropeScaling.original
            }
          }),
      rms_norm_eps: config.normEpsilon,
      vocab_size: config.vocabularySize,
      tie_word_embeddings: config.tied,
      ...(config.eosIds.length === 0
        ? {}
        : { eos_token_id: config.eosIds.length === 1 ? config.eosIds[0] : config.eosIds }),
      torch_dtype: "float32"
    },
    null,
    2
  )}\n`
}
