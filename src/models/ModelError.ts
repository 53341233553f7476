/**
 * What can go wrong between a model folder and a model: one error, `ModelError`, whose `reason` says which. Every message
 * names the file, field or tensor and what to do about it.
 */
import { Effect, Schema } from "effect"

const shape = (dims: ReadonlyArray<number>) => `[${dims.join(", ")}]`

/** A file or folder of a model cannot be read or written. */
export class FileProblem extends Schema.TaggedError<FileProblem>()("FileProblem", {
  file: Schema.String,
  detail: Schema.String
}) {
  override get message() {
    return `${this.file}: ${this.detail}`
  }
}

/** A safetensors file breaks the format: truncated, overlapping, unknown dtype, malformed header. */
export class BadSafetensors extends Schema.TaggedError<BadSafetensors>()("BadSafetensors", {
  file: Schema.String,
  tensor: Schema.optionalKey(Schema.String),
  detail: Schema.String
}) {
  override get message() {
    const where = this.tensor === undefined ? this.file : `${this.file}: tensor "${this.tensor}"`
    return `${where}: ${this.detail}`
  }
}

/** The checkpoint lacks a tensor that its `config.json` calls for. */
export class MissingTensor extends Schema.TaggedError<MissingTensor>()("MissingTensor", {
  file: Schema.String,
  tensor: Schema.String,
  expected: Schema.Array(Schema.Int)
}) {
  override get message() {
    return `${this.file}: tensor "${this.tensor}" with shape ${shape(this.expected)} is missing; the weights do not belong to this config.json, or the file is incomplete: fetch the model again`
  }
}

/** A tensor has another shape than its `config.json` calls for. */
export class WrongShape extends Schema.TaggedError<WrongShape>()("WrongShape", {
  file: Schema.String,
  tensor: Schema.String,
  expected: Schema.Array(Schema.Int),
  found: Schema.Array(Schema.Int)
}) {
  override get message() {
    return `${this.file}: tensor "${this.tensor}" has shape ${shape(this.found)}, config.json asks for ${shape(this.expected)}; the weights do not belong to this config.json`
  }
}

/** The folder is a model of a kind that is not implemented. */
export class UnsupportedModel extends Schema.TaggedError<UnsupportedModel>()("UnsupportedModel", {
  file: Schema.String,
  field: Schema.String,
  found: Schema.String,
  supported: Schema.String
}) {
  override get message() {
    return `${this.file}: ${this.field} is ${this.found}, which is not supported; supported: ${this.supported}`
  }
}

/** A JSON file of a model folder does not decode. */
export class BadConfig extends Schema.TaggedError<BadConfig>()("BadConfig", {
  file: Schema.String,
  detail: Schema.String
}) {
  override get message() {
    return `${this.file}: ${this.detail}`
  }
}

/** A text does not fit the model's context. */
export class TextTooLong extends Schema.TaggedError<TextTooLong>()("TextTooLong", {
  text: Schema.String,
  tokens: Schema.Int,
  limit: Schema.Int,
  /** Whether it is a limit that was asked for, not the model's. */
  asked: Schema.optionalKey(Schema.Boolean)
}) {
  override get message() {
    const [limit, remedy] = this.asked
      ? [`the ${this.limit} of maxLength`, "shorten it or raise maxLength"]
      : [`the model's ${this.limit}`, "shorten it, generate fewer tokens or take a model with a longer context"]
    return `a text of ${this.tokens} tokens does not fit ${limit}: ${JSON.stringify(this.text.slice(0, 80))}; ${remedy}`
  }
}

/** The hub, or what stands in for it, did not give what was asked for. */
export class HubProblem extends Schema.TaggedError<HubProblem>()("HubProblem", {
  url: Schema.String,
  detail: Schema.String,
  remedy: Schema.String
}) {
  override get message() {
    return `${this.url}: ${this.detail}; ${this.remedy}`
  }
}

/** A loss, a gradient norm or a log-probability is NaN or infinite. */
export class NonFinite extends Schema.TaggedError<NonFinite>()("NonFinite", {
  what: Schema.String,
  value: Schema.String,
  /** `update 3`, `token 5`: counted from 0. */
  where: Schema.String
}) {
  override get message() {
    return `${this.what} is ${this.value} at ${this.where}; lower the learning rate, clip the gradient, or look at the data of that place`
  }
}

/** What callers asked of a model cannot be: an option out of range, an empty batch, a token that does not exist. */
export class BadRequest extends Schema.TaggedError<BadRequest>()("BadRequest", { detail: Schema.String }) {
  override get message() {
    return this.detail
  }
}

export const ModelReason = Schema.Union([
  FileProblem,
  BadSafetensors,
  MissingTensor,
  WrongShape,
  UnsupportedModel,
  BadConfig,
  TextTooLong,
  HubProblem,
  NonFinite,
  BadRequest
])
export type ModelReason = typeof ModelReason.Type

/** The error of everything in `src/models`. */
export class ModelError extends Schema.TaggedError<ModelError>()("ModelError", { reason: ModelReason }) {
  override get message() {
    return this.reason.message
  }
}

/** Wraps a reason: `yield* fail(new MissingTensor({...}))`. */
export const fail = (reason: ModelReason): ModelError => new ModelError({ reason })

/** What makes a `RangeError` of what callers ask for, as a `BadRequest`. */
export const asked = <A>(make: () => A): Effect.Effect<A, ModelError> =>
  Effect.try({
    try: make,
    catch: (cause) => fail(new BadRequest({ detail: cause instanceof Error ? cause.message : String(cause) }))
  })
