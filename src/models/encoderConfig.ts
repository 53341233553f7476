/**
 * BERT encoders and sequence classifiers as the numbers that a graph needs. Fields and defaults of `config.json` are those
 * of transformers (`configuration_bert.py`).
 */
import { Effect, Schema } from "effect"
import { badConfig, modelType, positive, unsupported } from "./config.ts"
import { BadConfig, fail, type ModelError } from "./ModelError.ts"

/** A BERT encoder: learned positions, token types, layer norm after each residual, exact GELU. */
export interface EncoderConfig {
  readonly kind: "encoder"
  readonly vocabularySize: number
  readonly hiddenSize: number
  readonly intermediateSize: number
  readonly layers: number
  readonly heads: number
  readonly maxPositions: number
  readonly segments: number
  readonly normEpsilon: number
  /** Names of the classes of a sequence classifier, in order of its outputs; none for a sentence encoder. */
  readonly labels: ReadonlyArray<string>
}

const EncoderJson = Schema.fromJsonString(
  Schema.Struct({
    model_type: Schema.String,
    vocab_size: positive,
    hidden_size: positive,
    intermediate_size: positive,
    num_hidden_layers: positive,
    num_attention_heads: positive,
    max_position_embeddings: positive,
    type_vocab_size: Schema.optionalKey(positive),
    layer_norm_eps: Schema.optionalKey(Schema.Finite),
    hidden_act: Schema.optionalKey(Schema.String),
    position_embedding_type: Schema.optionalKey(Schema.String),
    architectures: Schema.optionalKey(Schema.NullOr(Schema.Array(Schema.String))),
    id2label: Schema.optionalKey(Schema.Record(Schema.String, Schema.String))
  })
)

const encoderTypes = ["bert"]

/** Decodes the text of a `config.json` of a BERT encoder or sequence classifier. `file` is for messages. */
export const encoderConfig = Effect.fnUntraced(function* (
  file: string,
  text: string
): Effect.fn.Return<EncoderConfig, ModelError> {
  const model_type = yield* modelType(file, text)
  if (!encoderTypes.includes(model_type)) {
    const note = model_type === "mpnet" ? " (MPNet's relative attention bias is not implemented yet)" : ""
    return yield* unsupported(file, "model_type", model_type, `${encoderTypes.join(", ")} for an encoder${note}`)
  }
  const json = yield* Schema.decodeEffect(EncoderJson, { errors: "all" })(text).pipe(Effect.mapError(badConfig(file)))
  const act = json.hidden_act ?? "gelu"
  if (act !== "gelu") return yield* unsupported(file, "hidden_act", act, "gelu")
  const positions = json.position_embedding_type ?? "absolute"
  if (positions !== "absolute") return yield* unsupported(file, "position_embedding_type", positions, "absolute")
  if (json.hidden_size % json.num_attention_heads !== 0) {
    return yield* fail(
      new BadConfig({
        file,
        detail: `hidden_size ${json.hidden_size} does not divide into ${json.num_attention_heads} heads`
      })
    )
  }
  const classifies = (json.architectures ?? []).some((name) => name.endsWith("ForSequenceClassification"))
  const labels = Object.entries(json.id2label ?? {}).sort(([a], [b]) => Number(a) - Number(b))
  return {
    kind: "encoder",
    vocabularySize: json.vocab_size,
    hiddenSize: json.hidden_size,
    intermediateSize: json.intermediate_size,
    layers: json.num_hidden_layers,
    heads: json.num_attention_heads,
    maxPositions: json.max_position_embeddings,
    segments: json.type_vocab_size ?? 2,
    normEpsilon: json.layer_norm_eps ?? 1e-12,
    labels: classifies ? labels.map(([, label]) => label) : []
  }
})

/** The `config.json` of an encoder that was made here, as transformers reads it. */
export const encoderConfigJson = (config: EncoderConfig): string =>
  `${JSON.stringify(
    {
      architectures: [config.labels.length > 0 ? "BertForSequenceClassification" : "BertModel"],
      model_type: "bert",
      hidden_act: "gelu",
      position_embedding_type: "absolute",
      attention_probs_dropout_prob: 0,
      hidden_dropout_prob: 0,
      hidden_size: config.hiddenSize,
      intermediate_size: config.intermediateSize,
      num_hidden_layers: config.layers,
      num_attention_heads: config.heads,
      max_position_embeddings: config.maxPositions,
      type_vocab_size: config.segments,
      layer_norm_eps: config.normEpsilon,
      vocab_size: config.vocabularySize,
      ...(config.labels.length > 0
        ? {
            id2label: Object.fromEntries(config.labels.map((label, i) => [i, label])),
            label2id: Object.fromEntries(config.labels.map((label, i) => [label, i]))
          }
        : {}),
      torch_dtype: "float32"
    },
    null,
    2
  )}\n`
