/**
 * Sections of a user's own (`grpo.reward.<name>: { from: ./mine.ts#name, ... }`): the module is found and imported when
 * the experiment is loaded, and its own Schema checks what stands beside `from`, so that a missing file, a mistyped
 * export or a wrong parameter is told with its place before anything runs. The key holds the module's name, the code
 * digest its code.
 */
import { dirname, isAbsolute, relative, resolve, sep } from "node:path"
import { pathToFileURL } from "node:url"
import { Result, Schema } from "effect"
import { problemsOf } from "./issues.ts"
import { type Entry, type Located, type LocatedMap, locate, plain } from "./located.ts"
import { thrown } from "./module.ts"
import type { OwnSection } from "./param.ts"
import { nameVariants } from "./params.ts"
import { type Ast, at, encodedAst, keysOf, objects, ownUnder, step } from "./paths.ts"
import { closest, didYouMean, type Problem, problemAt } from "./problems.ts"
import { isFile, manifestOf, nearestPackage, packageExport } from "./resolve.ts"

const strict = { errors: "all", onExcessProperty: "error" } as const

/** Dotted paths of the sections whose origin some layer gives: the others are mistyped names. */
export const declaredSections = (layers: ReadonlyArray<Located>, asts: ReadonlyArray<Ast>): ReadonlySet<string> => {
  const found = new Set<string>()
  const visit = (node: Located, ast: Ast, path: ReadonlyArray<string>): void => {
    if (node._tag !== "Map") return
    for (const [key, { value }] of node.entries) {
      const here = [...path, key]
      const own = ownUnder(ast, key)
      const inner = step(ast, key)
      if (own === undefined && inner !== undefined) visit(value, inner, here)
      else if (own !== undefined && value._tag === "Map" && own.origins.some((origin) => value.entries.has(origin))) {
        found.add(here.join("."))
      }
    }
  }
  for (const layer of layers) for (const ast of asts) visit(layer, ast, [])
  return found
}

/** Whether a dotted path leads through a section of a user's own that no layer gives the origin of. */
export const undeclared = (ast: Ast, path: ReadonlyArray<string>, declared: ReadonlySet<string>): boolean => {
  let here: Ast | undefined = ast
  for (const [i, key] of path.entries()) {
    if (here === undefined) return false
    if (ownUnder(here, key) !== undefined) return !declared.has(path.slice(0, i + 1).join("."))
    here = step(here, key)
  }
  return false
}

/**
 * Whether an entry is a section of a user's own whose origin some other arm or point gives: as keys apply to the arms
 * that have them, this one does without it. (One that nothing gives the origin of is an unknown key.)
 */
export const elsewhere = (ast: Ast, key: string, value: Located): boolean => {
  const own = ownUnder(ast, key)
  return own !== undefined && value._tag === "Map" && !own.origins.some((origin) => value.entries.has(origin))
}

/** What a section of a user's own needs, where an unknown key could be one and resembles no known key beside it. */
export const originHint = (path: ReadonlyArray<string>, asts: ReadonlyArray<Ast>): string | null => {
  const above = asts.map((ast) => at(ast, path.slice(0, -1))).filter((ast) => ast !== undefined)
  const name = path.at(-1) ?? ""
  const own = above.flatMap((ast) => ownUnder(ast, name) ?? [])[0]
  if (own === undefined || closest(name, above.flatMap(keysOf)) !== undefined) return null
  return `a ${own.what} of your own says where it is: ${own.origins.join(", ")}`
}

/** The module and the export that `./mine.ts#name` or `package/path#name` means, seen from a folder. */
const target = (
  word: string,
  folder: string
): { readonly file: string; readonly name: string } | { readonly missing: string } => {
  const hash = word.lastIndexOf("#")
  const spec = hash < 0 ? word : word.slice(0, hash)
  const name = hash < 0 ? "default" : word.slice(hash + 1)
  if (spec === "" || name === "") return { missing: `${JSON.stringify(word)} names no module's export` }
  if (spec.startsWith("./") || spec.startsWith("../") || isAbsolute(spec)) {
    const file = resolve(folder, spec)
    return isFile(file) ? { file, name } : { missing: `no file ${file}` }
  }
  const found = packageExport(spec, folder)
  if ("missing" in found && isFile(resolve(folder, spec))) {
    return { missing: `${found.missing}; write ./${word} for the file` }
  }
  return "missing" in found ? found : { file: found.file, name }
}

const nameOf = (file: string): string => {
  const root = nearestPackage(dirname(file))
  const name = root === undefined ? undefined : manifestOf(root).name
  return `${name ?? "unnamed"}/${relative(root ?? dirname(file), file)
    .split(sep)
    .join("/")}`
}

type Opened = { readonly value: Located; readonly problems: ReadonlyArray<Problem> }

/** Stands for a section whose problems have been told, so that decoding finds no second fault in it. */
const told = (section: LocatedMap, problems: ReadonlyArray<Problem>): Opened => {
  const from = locate({ _tag: "Code", module: "", export: "", name: "" }, section.at)
  return { value: { ...section, entries: new Map([["from", { key: section.at, value: from }]]) }, problems }
}

/**
 * A section of a user's own, checked by itself: with `from`, the module's export stands in place of the string and every
 * default is filled in; else the variant with the origin that it gives says what may stand there.
 * @param files resolves the files that parameters name
 */
export const openSection = async (
  section: LocatedMap,
  own: OwnSection,
  ast: Ast,
  folderOf: (file: string) => string,
  files: (node: Located, ast: Ast) => Promise<Located>
): Promise<Opened> => {
  const given = own.origins.filter((origin) => section.entries.has(origin))
  const [origin] = given
  if (given.length > 1) {
    const message = `a ${own.what} of your own has one of ${own.origins.join(", ")}; this has ${given.join(" and ")}`
    return told(section, [problemAt(section.at, message, "keep one of them")])
  }
  if (origin === "from") return openModule(section, own, folderOf, files)
  const variant = objects(ast).find((member) => member.propertySignatures.some(({ name }) => name === origin))
  if (variant === undefined) return { value: section, problems: [] }
  const tree = await files(section, variant)
  const fits = Schema.decodeUnknownResult(Schema.make<Schema.Codec<unknown, unknown>>(variant), strict)(plain(tree))
  return Result.isSuccess(fits)
    ? { value: tree, problems: [] }
    : told(section, problemsOf(fits.failure.issue, tree, variant, section.at))
}

const openModule = async (
  section: LocatedMap,
  own: OwnSection,
  folderOf: (file: string) => string,
  files: (node: Located, ast: Ast) => Promise<Located>
): Promise<Opened> => {
  const from = section.entries.get("from")!
  const place = from.value.at
  const failed = (message: string, hint: string | null): Opened => told(section, [problemAt(place, message, hint)])
  if (from.value._tag !== "Leaf" || typeof from.value.value !== "string") {
    return failed("expected a module and its export", "write from: ./mine.ts#name")
  }
  const found = target(from.value.value, folderOf(place.file))
  if ("missing" in found) return failed(found.missing, "paths are relative to the file that says them: ./mine.ts#name")
  let module: Readonly<Record<string, unknown>>
  try {
    module = (await import(/* @vite-ignore */ pathToFileURL(found.file).href)) as Readonly<Record<string, unknown>>
  } catch (cause) {
    return failed(`${found.file} cannot be imported: ${thrown(cause)}`, "mend the module there")
  }
  const exported = module[found.name]
  if (!(found.name in module)) {
    const names = Object.keys(module)
    const all = names.length === 0 ? "it exports nothing" : `it exports ${names.join(", ")}`
    return failed(`${found.file} has no export ${found.name}`, didYouMean(found.name, names) ?? all)
  }
  const accepted = own.accepts(exported)
  if ("wrong" in accepted) return failed(`${found.name} of ${found.file} is no ${own.what}: ${accepted.wrong}`, null)

  const ast = encodedAst(accepted.params)
  const rest = new Map([...section.entries].filter(([key]) => key !== "from"))
  const tree = await files(nameVariants({ ...section, entries: rest }, ast), ast)
  const decoded = Schema.decodeUnknownResult(accepted.params, strict)(plain(tree))
  if (Result.isFailure(decoded)) return told(section, problemsOf(decoded.failure.issue, tree, ast, section.at))
  const code = locate({ _tag: "Code", module: found.file, export: found.name, name: nameOf(found.file) }, place)
  const entries = new Map<string, Entry>([["from", { key: from.key, value: code }]])
  const encoded = Schema.encodeUnknownSync(accepted.params)(decoded.success) as Readonly<Record<string, unknown>>
  for (const [key, value] of Object.entries(encoded)) {
    const given = tree._tag === "Map" ? tree.entries.get(key) : undefined
    entries.set(key, { key: given?.key ?? section.at, value: locate(value, given?.value.at ?? section.at) })
  }
  return { value: { ...section, entries }, problems: [] }
}
