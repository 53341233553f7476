/**
 * `config.json` of a Hugging Face folder: reading it, and what every architecture's part (`decoderConfig.ts`,
 * `encoderConfig.ts`) does with it. Fields and defaults are those of transformers; what is not implemented is refused by
 * name instead of being ignored.
 */
import { Effect, Schema } from "effect"
import { FileSystem } from "effect/FileSystem"
import { BadConfig, FileProblem, fail, type ModelError, UnsupportedModel } from "./ModelError.ts"
import { refused } from "./refused.ts"

/** A count in a configuration. */
export const positive = Schema.Int.check(Schema.isGreaterThan(0))

const ModelType = Schema.fromJsonString(Schema.Struct({ model_type: Schema.String }))

/** The architecture that a configuration names. */
export const modelType = (file: string, text: string): Effect.Effect<string, ModelError> =>
  Schema.decodeEffect(ModelType)(text).pipe(
    Effect.mapError(badConfig(file)),
    Effect.map(({ model_type }) => model_type)
  )

/** A field whose value is not implemented. */
export const unsupported = (file: string, field: string, found: unknown, supported: string) =>
  fail(new UnsupportedModel({ file, field, found: JSON.stringify(found), supported }))

/** A configuration that does not decode. */
export const badConfig = (file: string) => (error: { readonly message: string }) =>
  fail(new BadConfig({ file, detail: `does not decode: ${error.message}` }))

/** Reads a text file of a model folder; `undefined` where it does not exist. */
export const readOptional = Effect.fnUntraced(function* (
  file: string
): Effect.fn.Return<string | undefined, ModelError, FileSystem> {
  const fs = yield* FileSystem
  const problem = refused(file, "read")
  if (!(yield* fs.exists(file).pipe(Effect.mapError(problem)))) return undefined
  return yield* fs.readFileString(file).pipe(Effect.mapError(problem))
})

/** Reads the `config.json` of a model folder. */
export const readConfigText = Effect.fnUntraced(function* (
  folder: string
): Effect.fn.Return<string, ModelError, FileSystem> {
  const file = `${folder}/config.json`
  const text = yield* readOptional(file)
  if (text === undefined) {
    return yield* fail(
      new FileProblem({ file, detail: "does not exist; a model is a Hugging Face folder with a config.json" })
    )
  }
  return text
})
