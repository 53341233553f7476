/**
 * The JSON Schema of experiment files, for editors: the outer shape, and for every known pipeline its parameters in
 * nested and dotted spelling with descriptions and defaults. `exp` itself never reads it; loading checks more.
 *
 * Parameters are closed (a mistyped key is marked) where the file says which pipeline they are for: by `pipeline`
 * at the top with no arm that has another, or in an arm. Nothing is required, as any key may come from `extends`.
 */
import { join } from "node:path"
import { Schema, SchemaAST } from "effect"
import type { Json } from "./canonical.ts"
import { Experiment } from "./Experiment.ts"
import { ExecutorFile } from "./executor.ts"
import { importPipeline } from "./module.ts"
import type { AnyPipeline } from "./Pipeline.ts"
import {
  type Ast,
  defaultOf,
  descriptionOf,
  discriminator,
  encodedAst,
  fileAt,
  keysOf,
  members,
  objects,
  ownUnder,
  step,
  tagsOf
} from "./paths.ts"
import { availablePipelines, pipelineFile } from "./resolve.ts"

export interface NamedPipeline {
  /** As `pipeline:` spells it. */
  readonly name: string
  readonly pipeline: AnyPipeline
}

type JsonSchema = { readonly [key: string]: Json }

/** Every pipeline that a project's YAML can name without a path. Rejects with the message of one that cannot be imported. */
export const projectPipelines = async (projectRoot: string): Promise<ReadonlyArray<NamedPipeline>> => {
  const found: Array<NamedPipeline> = []
  for (const name of availablePipelines(projectRoot)) {
    const module = pipelineFile(name, projectRoot, projectRoot)
    const loaded = "file" in module ? await importPipeline(module.file) : module
    if ("missing" in loaded) throw new Error(loaded.missing)
    found.push({ name, pipeline: loaded.pipeline })
  }
  return found
}

/** Where the committed copy stands in a project. */
export const schemaFile = (projectRoot: string): string => join(projectRoot, "experiments", "schema.json")

/** As it is committed: two-space indentation, a newline at the end. */
export const schemaText = (pipelines: ReadonlyArray<NamedPipeline>): string =>
  `${JSON.stringify(experimentSchema(pipelines), null, 2)}\n`

/** The JSON Schema of executor files, and where the committed copy stands. */
export const executorSchemaText = (): string => {
  const schema = { $schema: dialect, title: "Overtone executor", ...document(ExecutorFile) }
  return `${JSON.stringify(schema, null, 2)}\n`
}
export const executorSchemaFile = (projectRoot: string): string =>
  join(projectRoot, "experiments", "executors", "schema.json")

const dialect = "https://json-schema.org/draft/2020-12/schema"

export const experimentSchema = (pipelines: ReadonlyArray<NamedPipeline>): JsonSchema => {
  const defs: Definitions = { schemas: {}, refs: new Map(), byText: new Map() }
  for (const { name, pipeline } of pipelines) {
    const ast = encodedAst(pipeline.params)
    section(defs, `${name}`, ast, "values")
    section(defs, `${name}!`, ast, "axes")
  }
  const outer = document(Experiment)
  const names = pipelines.map((p) => p.name)
  const named = (name: string): JsonSchema => ({ required: ["pipeline"], properties: { pipeline: { const: name } } })
  const arms = {
    additionalProperties: {
      allOf: names.map((name) => when(named(name), { properties: { params: ref(name) } }))
    }
  }
  return {
    $schema: dialect,
    title: "Overtone experiment",
    ...outer,
    allOf: [
      ...(names.length === 0
        ? []
        : [{ properties: { pipeline: suggest(names), arms: armNames(names) } }, { properties: { arms } }]),
      ...names.map((name) =>
        when(
          { ...named(name), properties: { pipeline: { const: name }, arms: noPipelines } },
          {
            properties: {
              params: ref(name),
              arms: { additionalProperties: { properties: { params: ref(name) } } },
              sweep: {
                properties: {
                  grid: ref(`${name}!`),
                  zip: ref(`${name}!`),
                  cells: { items: ref(name) },
                  include: { items: ref(name) },
                  exclude: { items: ref(name) }
                }
              }
            }
          }
        )
      )
    ],
    $defs: defs.schemas
  }
}

const consequent = "then"
const when = (condition: JsonSchema, consequence: JsonSchema): JsonSchema => ({
  if: condition,
  [consequent]: consequence
})

const noPipelines: JsonSchema = { additionalProperties: { properties: { pipeline: false } } }

/** Names that an editor offers; others (files, packages) are as good. */
const suggest = (names: ReadonlyArray<string>): JsonSchema => ({
  anyOf: [{ enum: names }, { type: "string", pattern: "/" }]
})

const armNames = (names: ReadonlyArray<string>): JsonSchema => ({
  additionalProperties: { properties: { pipeline: suggest(names) } }
})

const ref = (name: string): JsonSchema => ({ $ref: `#/$defs/${name.replaceAll("~", "~0").replaceAll("/", "~1")}` })

/** Effect's JSON Schema of a leaf, without the bounds of a double's integers. */
const document = (schema: Schema.Top): JsonSchema =>
  tidy(Schema.toJsonSchemaDocument(schema, { onExcessProperty: "error" }).schema as Json) as JsonSchema

const tidy = (value: Json): Json => {
  if (Array.isArray(value)) return value.map(tidy)
  if (typeof value !== "object" || value === null) return value
  return Object.fromEntries(
    Object.entries(value).flatMap(([key, inner]) =>
      (key === "maximum" || key === "minimum") && Math.abs(Number(inner)) === Number.MAX_SAFE_INTEGER
        ? []
        : [[key, tidy(inner)]]
    )
  )
}

/** `values`: what parameters may be. `axes`: the same keys with lists of such values. */
type Mode = "values" | "axes"

/** Sections under `$defs`; equal ones, of several pipelines mostly, stand there once. */
interface Definitions {
  readonly schemas: Record<string, JsonSchema>
  readonly refs: Map<string, JsonSchema>
  readonly byText: Map<string, JsonSchema>
}

/** Puts a section and all below it under `$defs`, and gives the reference. */
const section = (defs: Definitions, name: string, ast: Ast, mode: Mode): JsonSchema => {
  const known = defs.refs.get(name)
  if (known !== undefined) return known
  defs.refs.set(name, ref(name))
  const variants = objects(ast)
  const properties: Record<string, Json> = {}
  const patterns: Record<string, Json> = {}
  for (const key of keysOf(ast)) {
    const inner = step(ast, key)
    if (inner === undefined) continue
    properties[key] = value(defs, `${name}.${key}`, inner, mode)
    for (const pattern of ownPatterns(inner, [key])) patterns[pattern] = {}
    for (const [path, deep] of below(inner, key)) properties[path] ??= value(defs, `${name}.${path}`, deep, mode)
  }
  const open = variants.flatMap((variant) => variant.indexSignatures)
  const schema: JsonSchema = {
    type: "object",
    ...describe(ast),
    properties,
    ...(Object.keys(patterns).length === 0 ? {} : { patternProperties: patterns }),
    additionalProperties: open.length === 0 ? false : value(defs, `${name}.*`, open[0]!.type, mode)
  }
  const text = JSON.stringify(schema)
  // The pipelines' own names stay, they are referred to by name.
  const equal = name.includes(".") ? defs.byText.get(text) : undefined
  if (equal === undefined) {
    defs.schemas[name] = schema
    defs.byText.set(text, ref(name))
  }
  defs.refs.set(name, equal ?? ref(name))
  return equal ?? ref(name)
}

const describe = (ast: Ast): JsonSchema => {
  const description = descriptionOf(ast)
  const tags = objects(ast).flatMap((variant) => [...tagsOf(variant)])
  return description === undefined && tags.length === 0 ? {} : { description: description ?? "one of several variants" }
}

const value = (defs: Definitions, name: string, ast: Ast, mode: Mode): JsonSchema => {
  if (objects(ast).length === 0) return mode === "values" ? leaf(ast) : { type: "array", items: leaf(ast) }
  if (mode === "values") return alternatives(section(defs, name, ast, mode), ast)
  const whole = alternatives(section(defs, name.replace("!", ""), ast, "values"), ast)
  return { anyOf: [section(defs, name, ast, mode), { type: "array", items: whole }] }
}

/** A section, or what else may stand in its place. */
const alternatives = (reference: JsonSchema, ast: Ast): JsonSchema => {
  const names = [...(discriminator(ast)?.variants.keys() ?? [])].map(String)
  const others = members(ast).filter((member) => !objects(member).length)
  const fallback = defaultOf(ast)
  const extra = fallback === undefined ? {} : { default: fallback as Json }
  const also = [...(names.length > 0 ? [{ enum: names }] : []), ...others.map(leaf)]
  return also.length === 0 ? { ...reference, ...extra } : { anyOf: [reference, ...also], ...extra }
}

const leaf = (ast: Ast): JsonSchema => {
  const file = fileAt(ast)
  if (file === undefined) return document(Schema.make(ast))
  const fallback = defaultOf(ast)
  const path =
    typeof fallback === "object" && fallback !== null && "path" in fallback ? { default: String(fallback.path) } : {}
  const words = members(ast).flatMap((m) => (SchemaAST.isLiteral(m) ? [String(m.literal)] : []))
  const description = [descriptionOf(ast), words.length > 0 ? `or ${words.join(", ")}` : undefined].filter(
    (d) => d !== undefined
  )
  return { type: "string", ...(description.length > 0 ? { description: description.join("; ") } : {}), ...path }
}

/** Of dotted keys that lead into sections of a user's own. */
const ownPatterns = (ast: Ast, path: ReadonlyArray<string>): ReadonlyArray<string> => {
  const named = keysOf(ast)
  const here = ownUnder(ast, "") === undefined ? [] : [`^${path.join("\\.")}\\.(?!(${named.join("|")})(\\.|$))`]
  const deeper = named.flatMap((key) => {
    const inner = path.length >= 8 ? undefined : step(ast, key)
    return inner === undefined ? [] : ownPatterns(inner, [...path, key])
  })
  return [...here, ...deeper]
}

/** Dotted paths below a key, up to eight deep. */
const below = (ast: Ast, prefix: string): ReadonlyArray<readonly [path: string, ast: Ast]> =>
  prefix.split(".").length >= 8
    ? []
    : keysOf(ast).flatMap((key) => {
        const inner = step(ast, key)
        if (inner === undefined) return []
        const path = `${prefix}.${key}`
        return [[path, inner] as const, ...below(inner, path)]
      })
