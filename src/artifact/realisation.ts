/**
 * A realisation says what a task's content and code came to: `realisations/<content key>/<code digest>.json` binds them
 * to output hashes and to the attempt whose rows belong to them. Reuse is one small read by key.
 */
import { existsSync, mkdirSync, readFileSync } from "node:fs"
import { mkdir, open, rename } from "node:fs/promises"
import { dirname, join, resolve } from "node:path"
import { Effect, Schema } from "effect"
import { errnoOf, type FileFailure, fileFailure } from "./FileFailure.ts"
import { syncFolder } from "./folder.ts"

export const Output = Schema.Struct({ kind: Schema.String, sha256: Schema.String, bytes: Schema.Int })
export type Output = typeof Output.Type

export const Realisation = Schema.Struct({
  format: Schema.Literal(1),
  contentKey: Schema.String,
  codeDigest: Schema.String,
  /** The task that was run; others with equal content share it. */
  task: Schema.String,
  stage: Schema.String,
  attempt: Schema.String,
  outputs: Schema.Record(Schema.String, Output)
})
export type Realisation = typeof Realisation.Type

const decode = Schema.decodeUnknownOption(Schema.fromJsonString(Realisation))

const fileOf = (root: string, contentKey: string, codeDigest: string): string =>
  join(root, "realisations", contentKey, `${codeDigest}.json`)

/** The realisation of a content key under a code digest; `undefined` when there is none (or it is unreadable). */
export const readRealisation = (root: string, contentKey: string, codeDigest: string): Realisation | undefined => {
  let text: string
  try {
    text = readFileSync(fileOf(root, contentKey, codeDigest), "utf8")
  } catch (cause) {
    if (errnoOf(cause) === "ENOENT") return undefined
    throw fileFailure("reading", fileOf(root, contentKey, codeDigest))(cause)
  }
  const found = decode(text)
  return found._tag === "Some" ? found.value : undefined
}

/** Writes a realisation whole and durable, in place of an older one. */
export const writeRealisation = (root: string, realisation: Realisation): Effect.Effect<void, FileFailure> => {
  const path = fileOf(root, realisation.contentKey, realisation.codeDigest)
  const dir = join(root, "realisations", realisation.contentKey)
  return Effect.tryPromise({
    try: async () => {
      await mkdir(dir, { recursive: true })
      const draft = join(dir, `.${realisation.codeDigest}.tmp`)
      const file = await open(draft, "w")
      try {
        await file.writeFile(`${JSON.stringify(realisation)}\n`)
        await file.sync()
      } finally {
        await file.close()
      }
      await rename(draft, path)
      await syncFolder(dir)
    },
    catch: fileFailure("writing", path)
  })
}

/**
 * Makes a folder and what is missing above it, one by one: Node's own recursion never ends where a file system denies
 * that a folder is there in which nothing can be made (`/proc`, an automount).
 */
export const makeFolder = (path: string): void => {
  const missing: Array<string> = []
  for (let at = resolve(path); !existsSync(at); at = dirname(at)) missing.push(at)
  for (const at of missing.reverse()) {
    try {
      mkdirSync(at)
    } catch (cause) {
      if (errnoOf(cause) !== "EEXIST") throw cause
    }
  }
}

/** Makes the warehouse's folders. */
export const makeFolders = (root: string): void => {
  try {
    for (const name of ["runs", "attempts", "artifacts", "realisations"]) makeFolder(join(root, name))
  } catch (cause) {
    throw fileFailure("creating", root)(cause)
  }
}
