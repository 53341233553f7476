/** `code/<digest>.json`: the files behind a code digest, kept so that a later plan can name the one that changed. */
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { Schema } from "effect"
import type { CodeManifest, Plan } from "../dsl/Planned.ts"

const Kept = Schema.fromJsonString(
  Schema.Struct({
    files: Schema.Record(Schema.String, Schema.String),
    packages: Schema.Record(Schema.String, Schema.String)
  })
)
const decode = Schema.decodeUnknownOption(Kept)
const fileOf = (root: string, digest: string): string => join(root, "code", `${digest}.json`)

/** Writes what is not there yet. It explains and decides nothing, so it is not made durable. */
export const keepCode = (root: string, plan: Pick<Plan, "tasks">): void => {
  const manifests = new Map(plan.tasks.map(({ code }) => [code.digest, code]))
  for (const { digest, files, packages } of manifests.values()) {
    const path = fileOf(root, digest)
    if (existsSync(path)) continue
    mkdirSync(join(root, "code"), { recursive: true })
    writeFileSync(`${path}.tmp`, `${JSON.stringify({ files, packages }, null, 1)}\n`)
    renameSync(`${path}.tmp`, path)
  }
}

/** The files and packages behind a digest, if they were kept. */
export const keptCode = (root: string, digest: string): Pick<CodeManifest, "files" | "packages"> | null => {
  const path = fileOf(root, digest)
  if (!existsSync(path)) return null
  const found = decode(readFileSync(path, "utf8"))
  return found._tag === "Some" ? found.value : null
}
