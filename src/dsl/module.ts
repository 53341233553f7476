/**
 * A pipeline's module, imported: its default export, or what keeps it from being used, with the line to look at and
 * what to do there.
 */
import { readFileSync } from "node:fs"
import { dirname, resolve } from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"
import type { AnyPipeline } from "./Pipeline.ts"

/** Why a module gives no pipeline, and what to do about it. */
export interface Missing {
  readonly missing: string
  readonly hint: string
}

/** What was thrown, and at which line of which file: Node heads a syntax error with it, and ends others' first frame so. */
export const thrown = (cause: unknown): string => {
  if (!(cause instanceof Error)) return String(cause)
  const stack = cause.stack ?? ""
  const head = /^(.*[\\/].*):\d+$/.exec(stack.split("\n", 1)[0] ?? "")?.[0]
  const place =
    (head?.startsWith("file:") === false ? head : undefined) ??
    asPath(stack.match(/^file:\/\/\S+:\d+$/m)?.[0]) ??
    asPath(stack.match(/^ {4}at .*?(file:\/\/[^\s)]+:\d+):\d+\)?$/m)?.[1])
  return place === undefined ? cause.message : `${cause.message}, at ${place}`
}

const asPath = (url: string | undefined): string | undefined => (url === undefined ? undefined : fileURLToPath(url))

const lineOf = (file: string, fits: (line: string) => boolean): number | undefined => {
  try {
    const line = readFileSync(file, "utf8").split("\n").findIndex(fits)
    return line < 0 ? undefined : line + 1
  } catch {
    return undefined
  }
}

/** `FILE:LINE` of the first line that fits, or the file alone. */
const placeIn = (file: string, fits: (line: string) => boolean): string => {
  const line = lineOf(file, fits)
  return line === undefined ? file : `${file}:${line}`
}

/** An import of what is not there: Node names the two files, the line is looked up. */
const absent = (message: string): Missing | undefined => {
  const found = /^Cannot find (module|package) '([^']+)' imported from (\S.*)$/.exec(message)
  if (found === null) return undefined
  const [, what = "", name = "", given = ""] = found
  const importer = given.startsWith("file:") ? fileURLToPath(given) : given
  const means = (specifier: string) =>
    what === "package"
      ? specifier === name || specifier.startsWith(`${name}/`)
      : resolve(dirname(importer), specifier) === name
  const place = placeIn(importer, (line) =>
    [...line.matchAll(/(?:from|import)\s*\(?\s*["']([^"']+)["']/g)].some(([, specifier]) => means(specifier!))
  )
  return what === "package"
    ? { missing: `there is no package ${name}, imported at ${place}`, hint: `install it, or correct the import` }
    : { missing: `there is no file ${name}, imported at ${place}`, hint: "correct the import; endings are written out" }
}

const unusable = (file: string, cause: unknown): Missing => {
  const code = cause instanceof Error && "code" in cause ? cause.code : undefined
  const message = cause instanceof Error ? cause.message : ""
  const gone = code === "ERR_MODULE_NOT_FOUND" ? absent(message) : undefined
  if (gone !== undefined) return { ...gone, missing: `${file} cannot be imported: ${gone.missing}` }
  const why = `${file} cannot be imported: ${thrown(cause)}`
  if (code === "ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX") {
    return { missing: why, hint: "types are stripped, not compiled: no enums, namespaces or parameter properties" }
  }
  if (cause instanceof SyntaxError) return { missing: why, hint: "mend it there" }
  return { missing: why, hint: "the module itself threw: mend it there" }
}

const isPipeline = (value: unknown): value is AnyPipeline =>
  typeof value === "object" && value !== null && "_tag" in value && value._tag === "Pipeline"

const kindOf = (value: unknown): string =>
  value === null || value === undefined
    ? String(value)
    : Array.isArray(value)
      ? "a list"
      : typeof value === "object"
        ? "an object"
        : `a ${typeof value}`

/** A module that waits for ever (a top-level await) would keep the command waiting without a word. */
const patienceMs = 60_000
const tooLong = () => new Promise<undefined>((late) => setTimeout(() => late(undefined), patienceMs).unref())

/** Imports a module and takes its default export, if that is a Pipeline. */
export const importPipeline = async (file: string): Promise<{ readonly pipeline: AnyPipeline } | Missing> => {
  let module: Readonly<Record<string, unknown>> | undefined
  try {
    const imported: Promise<Readonly<Record<string, unknown>>> = import(/* @vite-ignore */ pathToFileURL(file).href)
    module = await Promise.race([imported, tooLong()])
  } catch (cause) {
    return unusable(file, cause)
  }
  if (module === undefined) {
    const missing = `${file} was not imported within ${patienceMs / 1000} s`
    return { missing, hint: "a top-level await in it, or in what it imports, does not end" }
  }
  const value = module["default"]
  if (isPipeline(value)) return { pipeline: value }
  if ("default" in module) {
    const place = placeIn(file, (line) => /\bexport\s+default\b|\bas\s+default\b/.test(line))
    const hint = "write `export default Pipeline.make(...)`"
    return { missing: `the default export of ${place} is ${kindOf(value)}, no pipeline`, hint }
  }
  const named = Object.keys(module).find((name) => isPipeline(module[name]))
  return named === undefined
    ? { missing: `${file} has no default export`, hint: "write `export default Pipeline.make(...)`" }
    : {
        missing: `${file} has no default export, but a pipeline \`${named}\``,
        hint: `write \`export default ${named}\``
      }
}
