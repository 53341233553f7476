/**
 * Code digests (`docs/formats.md`): a stage's module and everything it imports inside its package, each as the hash of
 * its source without types, comments and layout; outside packages by name and version. An edited comment changes
 * nothing, an edited line changes exactly the stages that can reach it.
 *
 * Followed: static imports and re-exports, `import("literal")`, JSON, `name-of-this-package/...` and `#internal`
 * specifiers. Not followed: type-only imports, Node's own modules, files opened by path.
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs"
import { isBuiltin } from "node:module"
import { dirname, join, relative, resolve, sep } from "node:path"
import { fileURLToPath } from "node:url"
import { Schema } from "effect"
import { hashOf } from "./canonical.ts"
import type { CodeManifest } from "./Planned.ts"
import {
  exportTarget,
  fileOrNothing,
  manifestOf,
  nearestPackage,
  ownRoot,
  packageFolder,
  splitSpecifier
} from "./resolve.ts"
import type { AnyStage } from "./Stage.ts"
import { facts, type SourceFacts, sourceLoader } from "./source.ts"

export class CodeUnreadable extends Schema.TaggedError<CodeUnreadable>()("CodeUnreadable", {
  file: Schema.String,
  detail: Schema.String
}) {
  override get message() {
    return `cannot read the code in ${this.file}: ${this.detail}`
  }
}

type Modules = Pick<AnyStage, "module" | "parts">

/** What a file imports: files to follow, and outside packages with their versions. */
interface Edges {
  readonly files: ReadonlyArray<string>
  readonly packages: ReadonlyMap<string, string>
}

/** The manifests of stages, one for each, in their order. Files are read once; unchanged ones are not parsed again. */
export const codeManifests = async (stages: ReadonlyArray<Modules>): Promise<ReadonlyArray<CodeManifest>> => {
  const roots = stages.map((stage) => [...new Set([stage.module, ...stage.parts].map(modulePath))])
  const known = new Map<string, SourceFacts>()
  const edges = new Map<string, Edges>()
  const memo = readMemo()
  let frontier = [...new Set(roots.flat())]
  while (frontier.length > 0) {
    const sources = frontier.map((file) => ({ file, source: sourceOf(file) }))
    for (const [file, found] of await facts(sources, memo.entries)) known.set(file, found)
    for (const file of frontier) edges.set(file, edgesOf(file, known.get(file)?.imports ?? []))
    frontier = [...new Set(frontier.flatMap((file) => edges.get(file)!.files))].filter((file) => !known.has(file))
  }
  memo.write()
  return roots.map((files) => manifestOfFiles(files, known, edges))
}

const modulePath = (module: string): string => {
  if (!module.startsWith("file:")) return resolve(module)
  const url = new URL(module)
  url.search = ""
  url.hash = ""
  return fileURLToPath(url)
}

const sourceOf = (file: string): string => {
  try {
    return readFileSync(file, "utf8")
  } catch (cause) {
    throw new CodeUnreadable({ file, detail: String(cause) })
  }
}

const manifestOfFiles = (
  roots: ReadonlyArray<string>,
  known: ReadonlyMap<string, SourceFacts>,
  edges: ReadonlyMap<string, Edges>
): CodeManifest => {
  const reached = new Set<string>(roots)
  const packages = new Map<string, string>()
  for (const file of reached) {
    const { files, packages: outside } = edges.get(file)!
    for (const [name, version] of outside) packages.set(name, version)
    for (const next of files) reached.add(next)
  }
  const named = [...reached].map((file) => [nameOf(file), known.get(file)!.sha256] as const)
  const manifest = { files: sorted(named), packages: sorted([...packages]) }
  return { digest: hashOf(manifest), ...manifest }
}

const sorted = (entries: ReadonlyArray<readonly [string, string]>): Readonly<Record<string, string>> =>
  Object.fromEntries([...entries].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)))

/** `<package>/<path in it>`. */
const nameOf = (file: string): string => {
  const root = nearestPackage(dirname(file)) ?? "/"
  const name = (root === "/" ? undefined : manifestOf(root).name) ?? "unnamed"
  return `${name}/${relative(root, file).split(sep).join("/")}`
}

const edgesOf = (file: string, imports: ReadonlyArray<string>): Edges => {
  const files: Array<string> = []
  const packages = new Map<string, string>()
  const folder = dirname(file)
  for (const spec of imports) {
    if (isBuiltin(spec)) continue
    const inside = insideFile(spec, folder)
    if (inside !== undefined) {
      // An import of something that is not there (in a branch that copes with it) is part of the source already.
      if (inside.file !== undefined) files.push(inside.file)
      continue
    }
    const { name } = splitSpecifier(spec)
    const root = packageFolder(name, folder)
    packages.set(name, (root === undefined ? undefined : manifestOf(root).version) ?? "absent")
  }
  return { files, packages }
}

/** The file that a specifier means inside the importing package; undefined where it means another package. */
const insideFile = (spec: string, folder: string): { readonly file: string | undefined } | undefined => {
  if (spec.startsWith(".") || spec.startsWith("/")) return { file: fileOrNothing(resolve(folder, spec)) }
  if (spec.startsWith("file:")) return { file: fileOrNothing(modulePath(spec)) }
  const root = nearestPackage(folder)
  if (root === undefined) return undefined
  const manifest = manifestOf(root)
  if (spec.startsWith("#")) {
    const target = exportTarget(manifest.imports, spec)
    if (target === undefined || !target.startsWith(".")) return { file: undefined }
    return { file: fileOrNothing(resolve(root, target)) }
  }
  const { name, subpath } = splitSpecifier(spec)
  if (manifest.name !== name) return undefined
  const target = exportTarget(manifest.exports, subpath)
  return { file: target === undefined ? undefined : fileOrNothing(resolve(root, target)) }
}

/**
 * What is known of sources by their own hash, kept between commands in node_modules/.cache: a memo of a pure
 * function, so it can be deleted at any time and needs no durability.
 */
const readMemo = () => {
  const folder = join(ownRoot, "node_modules", ".cache", "overtone")
  const file = join(folder, `code-${sourceLoader}.json`)
  const entries = new Map<string, SourceFacts>()
  try {
    const read = JSON.parse(readFileSync(file, "utf8")) as Readonly<Record<string, SourceFacts>>
    for (const [key, value] of Object.entries(read)) entries.set(key, value)
  } catch {
    // Absent or torn: everything is parsed again.
  }
  const before = entries.size
  const write = (): void => {
    if (entries.size === before) return
    try {
      mkdirSync(folder, { recursive: true })
      const draft = `${file}.${process.pid}`
      writeFileSync(draft, JSON.stringify(Object.fromEntries([...entries].slice(-5000))))
      renameSync(draft, file)
    } catch {
      // A read-only installation does without.
    }
  }
  return { entries, write }
}
