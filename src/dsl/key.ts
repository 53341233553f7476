/**
 * Keys (`docs/formats.md`): the task key is known before anything runs, from where inputs come from; the content key
 * once the inputs exist, from their bytes. Parameters enter encoded, with every default resolved; outside files that
 * they name enter by the hash of their bytes, wherever they lie.
 */
import { Schema } from "effect"
import type { NumericClass } from "../device/numericClass.ts"
import { hashOf, type Json } from "./canonical.ts"
import { CodeRef } from "./param.ts"
import type { AnyStage } from "./Stage.ts"

/** What both keys are made of. `seed` and `class` are null where the stage uses none. */
export interface KeyParts {
  readonly stage: string
  readonly version: number
  /** As `keyParams` gives them. */
  readonly params: Json
  readonly seed: number | null
  readonly class: NumericClass | null
}

const format = 1

const common = (parts: KeyParts) => ({
  format,
  stage: parts.stage,
  version: parts.version,
  params: parts.params,
  ...(parts.seed === null ? {} : { seed: parts.seed }),
  ...(parts.class === null ? {} : { class: parts.class })
})

/** @param inputs for each input the key and output name of the task it comes from. */
export const taskKey = (
  parts: KeyParts,
  inputs: Readonly<Record<string, { readonly task: string; readonly output: string }>>
): string =>
  hashOf({
    ...common(parts),
    inputs: Object.fromEntries(Object.entries(inputs).map(([name, { task, output }]) => [name, { task, output }]))
  })

/** @param inputs for each input the SHA-256 of the artifact it is. */
export const contentKey = (parts: KeyParts, inputs: Readonly<Record<string, string>>): string =>
  hashOf({ ...common(parts), inputs })

/** A stage's decoded parameters as JSON: what its Schema encodes to, defaults resolved. A worker decodes it again. */
export const encodeParams = (stage: AnyStage, params: unknown): Json =>
  Schema.encodeUnknownSync(stage.params)(params) as Json

/** Encoded parameters as they enter a key: a file by its hash alone; a model on the hub by its revisioned name; code by its name. */
export const keyParams = (encoded: Json): Json => {
  if (typeof encoded !== "object" || encoded === null) return encoded
  if (Array.isArray(encoded)) return encoded.map(keyParams)
  const record = encoded as { readonly [key: string]: Json }
  if (record["_tag"] === "File" && typeof record["path"] === "string" && typeof record["sha256"] === "string") {
    return record["sha256"] === "" ? { file: record["path"] } : { file: `sha256:${record["sha256"]}` }
  }
  if (isCode(record)) return { code: `${record.name}#${record.export}` }
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, keyParams(value)]))
}

const isCode = Schema.is(CodeRef)

/** The users' modules that encoded parameters name: their code is the task's too. */
export const codeModules = (encoded: Json): ReadonlyArray<string> =>
  typeof encoded !== "object" || encoded === null
    ? []
    : isCode(encoded)
      ? [encoded.module]
      : [...new Set(Object.values(encoded).flatMap(codeModules))].sort()
