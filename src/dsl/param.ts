/**
 * Parameters of stages and pipelines: Schema with a default, a description and bounds in one line each, so that a
 * stage's knobs read as a table. The default is used where a key is absent (it enters the task's key resolved), the
 * description and the default go into `experiments/schema.json`. NaN and infinities are refused everywhere.
 *
 *     params: Param.struct({
 *       steps: Param.int(60, "optimizer updates", { min: 0 }),
 *       learningRate: Param.number(3e-4, "peak learning rate", { min: 0 }),
 *       shape: Param.literal(["ladder", "linear"], "ladder", "shaping of the rate"),
 *       lora: Param.optional(Lora, "train adapters instead of all weights")
 *     })
 */
import { Effect, Option, Schema, SchemaGetter } from "effect"

export interface Bounds {
  /** Inclusive. */
  readonly min?: number
  /** Inclusive. */
  readonly max?: number
  /** Exclusive lower bound. */
  readonly above?: number
  /** Exclusive upper bound. */
  readonly below?: number
}

const boundChecks = (bounds: Bounds) => [
  ...(bounds.min === undefined ? [] : [Schema.isGreaterThanOrEqualTo(bounds.min)]),
  ...(bounds.max === undefined ? [] : [Schema.isLessThanOrEqualTo(bounds.max)]),
  ...(bounds.above === undefined ? [] : [Schema.isGreaterThan(bounds.above)]),
  ...(bounds.below === undefined ? [] : [Schema.isLessThan(bounds.below)])
]

const bounded = <S extends Schema.Codec<number, number>>(schema: S, bounds: Bounds): S["Rebuild"] => {
  const [first, ...rest] = boundChecks(bounds)
  return first === undefined ? schema : schema.check(first, ...rest)
}

/** A value as it is written in YAML, used where the key is absent. */
export const withDefault = <S extends Schema.Top>(schema: S, value: S["Encoded"], description: string) =>
  schema
    .annotate({ description, default: value } as never)
    .pipe(Schema.withDecodingDefaultKey(Effect.succeed(value as never)))

/** A whole number. */
export const int = (value: number, description: string, bounds: Bounds = {}) =>
  withDefault(bounded(Schema.Int, bounds), value, description)

/** A finite number. */
export const number = (value: number, description: string, bounds: Bounds = {}) =>
  withDefault(bounded(Schema.Finite, bounds), value, description)

export const boolean = (value: boolean, description: string) => withDefault(Schema.Boolean, value, description)

/**
 * A switch that is off by default, and part of a task's parameters only where it is on: what a stage learns to do later leaves
 * the keys of what it did before as they were.
 */
export const flag = (description: string) =>
  Schema.optionalKey(Schema.Boolean.annotate({ description, default: false })).pipe(
    Schema.decodeTo(Schema.Boolean, {
      decode: SchemaGetter.withDefault(Effect.succeed(false)),
      encode: SchemaGetter.transformOptional(Option.filter((on: boolean) => on))
    })
  )

export const string = (value: string, description: string) => withDefault(Schema.String, value, description)

/** One of some words (or numbers). */
export const literal = <const L extends ReadonlyArray<string | number>>(
  values: L,
  value: L[number],
  description: string
) => withDefault(Schema.Literals(values), value, description)

/** A list; a layer that names it replaces it whole. */
export const array = <S extends Schema.Top>(item: S, value: ReadonlyArray<S["Encoded"]>, description: string) =>
  withDefault(Schema.Array(item), value as never, description)

/** A nested section whose every key has a default (or is optional): it may be left out. */
export const struct = <const F extends Schema.Struct.Fields>(fields: F, description?: string) =>
  Schema.Struct(fields)
    .annotate(description === undefined ? {} : { description })
    .pipe(Schema.withDecodingDefaultKey(Effect.succeed({} as never)))

/** A key that may be absent and then has no value (`undefined` in `params`). */
export const optional = <S extends Schema.Top>(schema: S, description: string) =>
  Schema.optionalKey(schema.annotate({ description }) as S["Rebuild"])

/** A key that must be given. Sections with one cannot be left out. */
export const required = <S extends Schema.Top>(schema: S, description: string): S["Rebuild"] =>
  schema.annotate({ description })

/**
 * One of several variants told apart by the literal under `tag`; the default is the variant `value` with its own
 * defaults. In YAML a layer that names another variant replaces the whole object.
 *
 *     Param.choice("kind", { world: { situations: Param.int(3000, "...") }, file: { path: Param.file("...") } }, "world", "...")
 */
export const choice = <
  const Tag extends string,
  const V extends Readonly<Record<string, Schema.Struct.Fields>>,
  const D extends keyof V & string
>(
  tag: Tag,
  variants: V,
  value: D,
  description: string
) => {
  const members = Object.entries(variants).map(([name, fields]) =>
    Schema.Struct({ [tag]: Schema.Literal(name), ...fields })
  )
  return withDefault(Schema.Union(members) as never as Variants<Tag, V>, { [tag]: value } as never, description)
}

type Variants<Tag extends string, V extends Readonly<Record<string, Schema.Struct.Fields>>> = Schema.Codec<
  {
    readonly [N in keyof V & string]: { readonly [K in Tag]: N } & Schema.Struct.Type<V[N]>
  }[keyof V & string],
  unknown
>

/**
 * Outside bytes that a parameter names: a file, a folder, or a model on the hub. In YAML it is one string; loading
 * resolves it (relative to the YAML file that says it, or to the working directory for `--set`) and hashes it, so that
 * an edited file is a changed input. The key holds the hash, not the path.
 */
export const FileRef = Schema.TaggedStruct("File", {
  /** Absolute, or `hf://org/name@revision`. */
  path: Schema.String,
  /** Of a file its bytes, of a folder the sorted list of (relative path, hash); empty for `hf://`. */
  sha256: Schema.String
})
export type FileRef = typeof FileRef.Type

/** What a string that names something outside may name. */
export interface FileWanted {
  /** `hf://` is accepted too. */
  readonly hub: boolean
  /** `word`: a file if there is one of that name, else just a word. `code`: a module's export, which its section reads. */
  readonly as?: "word" | "code"
}

/** A module's export as a parameter: what loading makes of `./mine.ts#name`. Its code is part of the code digest. */
export const CodeRef = Schema.TaggedStruct("Code", {
  /** Absolute path of the module. */
  module: Schema.String,
  export: Schema.String,
  /** `<package>/<path in it>`: what enters the key, as it is the same wherever the package lies. */
  name: Schema.String
})
export type CodeRef = typeof CodeRef.Type

/**
 * A section of a user's own: under any name, with one of the `origins` among its keys. Where that is `from`, the module
 * that it names decides which other keys there are.
 */
export interface OwnSection {
  /** What it is to people: `reward`. */
  readonly what: string
  readonly origins: ReadonlyArray<string>
  /** The Schema of the keys beside `from`, or why the exported value is none of these. */
  readonly accepts: (
    exported: unknown
  ) => { readonly params: Schema.Codec<unknown, unknown> } | { readonly wrong: string }
}

/** Schema annotation: loading turns the string that stands there into a `FileRef` (or `CodeRef`). */
export const fileAnnotation = "overtone/file"
/** Schema annotation: what stands there is an `OwnSection`. */
export const ownAnnotation = "overtone/own"
declare module "effect/Schema" {
  namespace Annotations {
    interface Augment {
      readonly "overtone/file"?: FileWanted | undefined
      readonly "overtone/own"?: OwnSection | undefined
    }
  }
}

/** Schemas for `required`, `optional` or inside variants: a file or folder, and the same or a model on the hub. */
export const FileParam = FileRef.annotate({ [fileAnnotation]: { hub: false } })
export const ModelParam = FileRef.annotate({ [fileAnnotation]: { hub: true } })
/** A module's export, `./mine.ts#name` or `package/path#name`; for the key `from` of an `OwnSection`. */
export const CodeParam = CodeRef.annotate({ [fileAnnotation]: { hub: false, as: "code" } })
/** A word of a command: a file that it names (relative to the YAML that says it) is hashed as others are. */
export const WordParam = Schema.Union([Schema.String, FileRef]).annotate({
  [fileAnnotation]: { hub: false, as: "word" }
})

/** A file or folder that must be given. */
export const file = (description: string) => required(FileParam, description)

/** A model folder, or `hf://org/name@revision`; the default, if any, is on the hub. */
export const model = (value: `hf://${string}@${string}`, description: string) =>
  withDefault(ModelParam, { _tag: "File", path: value, sha256: "" }, description)
