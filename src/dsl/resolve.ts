/**
 * From a pipeline's name in YAML to its module: `pipelines/NAME` of the project, else Overtone's own; `./x.ts`
 * relative to the YAML; `@scope/package/x` and `package/x` through that package's exports.
 */
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs"
import { dirname, isAbsolute, join, parse, relative, resolve, sep } from "node:path"
import { fileURLToPath } from "node:url"

/** The nearest folder at or above `from` that holds `name`. */
export const nearest = (from: string, name: string): string | undefined => {
  for (let dir = resolve(from); ; dir = dirname(dir)) {
    if (existsSync(join(dir, name))) return dir
    if (dir === parse(dir).root) return undefined
  }
}

/** The nearest folder at or above `from` that has a package.json. */
export const nearestPackage = (from: string): string | undefined => nearest(from, "package.json")

/** Overtone's own folder: the one with its package.json. */
export const ownRoot: string = nearestPackage(dirname(fileURLToPath(import.meta.url))) ?? process.cwd()

/** The project that a file or folder belongs to, else that of the working directory, else that directory. */
export const projectRootOf = (path: string): string =>
  nearestPackage(path) ?? nearestPackage(process.cwd()) ?? process.cwd()

const endings = [".ts", ".js", ".mjs"]

const pipelinesIn = (root: string): ReadonlyArray<string> => {
  const folder = join(root, "pipelines")
  if (!existsSync(folder)) return []
  return readdirSync(folder)
    .filter((file) => endings.some((ending) => file.endsWith(ending)) && !file.endsWith(".d.ts"))
    .filter((file) => /^export (default|\{ default)/m.test(readFileSync(join(folder, file), "utf8")))
    .map((file) => parse(file).name)
    .sort()
}

/** Names that `pipeline:` may have in this project, besides files and packages. */
export const availablePipelines = (projectRoot: string): ReadonlyArray<string> => [
  ...new Set([...pipelinesIn(projectRoot), ...pipelinesIn(ownRoot)])
]

/** The module of a pipeline, or why there is none. */
export const pipelineFile = (
  spec: string,
  yamlFolder: string,
  projectRoot: string
): { readonly file: string } | { readonly missing: string } => {
  if (spec.startsWith("./") || spec.startsWith("../") || isAbsolute(spec)) {
    const file = resolve(yamlFolder, spec)
    if (isFile(file)) return { file }
    return { missing: existsSync(file) ? `${file} is a folder, no module` : `no file ${file}` }
  }
  if (spec.includes("/")) {
    const found = packageExport(spec, yamlFolder)
    const meant = "missing" in found && isFile(resolve(yamlFolder, spec))
    return meant ? { missing: `${found.missing}; write ./${spec} for the file` } : found
  }
  for (const root of [projectRoot, ownRoot]) {
    for (const ending of endings) {
      const file = join(root, "pipelines", `${spec}${ending}`)
      if (existsSync(file)) return { file }
    }
  }
  return { missing: `no pipeline ${spec}` }
}

/** What `import` of a bare specifier from a folder finds. */
export const packageExport = (
  spec: string,
  from: string
): { readonly file: string; readonly packageRoot: string } | { readonly missing: string } => {
  const { name, subpath } = splitSpecifier(spec)
  const packageRoot = packageFolder(name, from)
  if (packageRoot === undefined) return { missing: `no package ${name}` }
  const manifest = manifestOf(packageRoot)
  const target =
    manifest.exports === undefined
      ? subpath === "."
        ? (manifest.main ?? "./index.js")
        : subpath
      : exportTarget(manifest.exports, subpath)
  if (target === undefined) return { missing: `package ${name} has no export ${subpath}` }
  const file = resolve(packageRoot, target)
  return existsSync(file)
    ? { file, packageRoot }
    : { missing: `package ${name} exports ${subpath} as ${target}, which does not exist` }
}

export const splitSpecifier = (spec: string): { readonly name: string; readonly subpath: string } => {
  const parts = spec.split("/")
  const n = spec.startsWith("@") ? 2 : 1
  const rest = parts.slice(n).join("/")
  return { name: parts.slice(0, n).join("/"), subpath: rest === "" ? "." : `./${rest}` }
}

export interface Manifest {
  readonly name?: string
  readonly version?: string
  readonly main?: string
  readonly exports?: unknown
  readonly imports?: unknown
}

const manifests = new Map<string, Manifest>()

/** A folder's package.json; empty where there is none. */
export const manifestOf = (folder: string): Manifest => {
  const known = manifests.get(folder)
  if (known !== undefined) return known
  const file = join(folder, "package.json")
  const read = existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as Manifest) : {}
  manifests.set(folder, read)
  return read
}

/** The folder of a package as seen from another: the package around it if it has that name, else node_modules upwards. */
export const packageFolder = (name: string, from: string): string | undefined => {
  const own = nearestPackage(from)
  if (own !== undefined && manifestOf(own).name === name) return own
  for (let dir = resolve(from); ; dir = dirname(dir)) {
    const folder = join(dir, "node_modules", ...name.split("/"))
    if (existsSync(join(folder, "package.json"))) return folder
    if (dir === parse(dir).root) return undefined
  }
}

const conditions = new Set(["node", "import", "default"])

/** Node's rules for `exports` (and `imports`), as far as import conditions and one `*` go. */
export const exportTarget = (exports: unknown, subpath: string): string | undefined => {
  const pick = (target: unknown): string | undefined => {
    if (typeof target === "string") return target
    if (Array.isArray(target)) return target.map(pick).find((t) => t !== undefined)
    if (typeof target !== "object" || target === null) return undefined
    for (const [condition, inner] of Object.entries(target)) {
      if (!conditions.has(condition)) continue
      const found = pick(inner)
      if (found !== undefined) return found
    }
    return undefined
  }
  const isMap = typeof exports === "object" && exports !== null && !Array.isArray(exports)
  const table: Readonly<Record<string, unknown>> =
    isMap && Object.keys(exports).some((key) => key.startsWith(".") || key.startsWith("#"))
      ? { ...exports }
      : { ".": exports }
  if (subpath in table) return pick(table[subpath])
  const patterns = Object.keys(table)
    .filter((key) => key.includes("*"))
    .sort((a, b) => b.indexOf("*") - a.indexOf("*") || b.length - a.length)
  for (const pattern of patterns) {
    const [before, after] = pattern.split("*", 2) as [string, string]
    if (!subpath.startsWith(before) || !subpath.endsWith(after) || subpath.length < pattern.length) continue
    const star = subpath.slice(before.length, subpath.length - after.length)
    return pick(table[pattern])?.replaceAll("*", star)
  }
  return undefined
}

/** The file of a path, with the endings that CommonJS leaves out; undefined where there is none. */
export const fileOrNothing = (path: string): string | undefined =>
  [path, ...[".ts", ".js", ".mjs", ".cjs", ".json", "/index.ts", "/index.js"].map((ending) => path + ending)].find(
    isFile
  )

export const isFile = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isFile() === true

/** A path for people: relative to the working directory where that is shorter to read. */
export const shownPath = (file: string): string => {
  const short = relative(process.cwd(), file)
  return short.startsWith(`..${sep}`) || isAbsolute(short) ? file : short
}
