/**
 * Schema issues as placed problems: each is mapped back to where its value, or the key above a missing one, was written.
 */
import { SchemaAST, type SchemaIssue } from "effect"
import { parse as parseWord } from "yaml"
import { follow, type Located, plain } from "./located.ts"
import { type Ast, at, fileAt, keysOf, members, objects, tagsOf } from "./paths.ts"
import { didYouMean, type Place, type Problem, problemAt } from "./problems.ts"

export interface Found {
  readonly path: ReadonlyArray<PropertyKey>
  readonly message: string
  readonly kind: "type" | "missing" | "excess"
}

/** The issues of a tree, flat. A union that nothing fits is one finding that names what would fit. */
export const findings = (
  issue: SchemaIssue.Issue,
  path: ReadonlyArray<PropertyKey> = [],
  override?: string
): ReadonlyArray<Found> => {
  switch (issue._tag) {
    case "Pointer":
      return findings(issue.issue, [...path, ...issue.path], override)
    case "Encoding":
      return findings(issue.issue, path, override)
    case "Composite":
      return issue.issues.flatMap((inner) => findings(inner, path, override))
    case "Filter":
      return findings(issue.issue, path, override ?? filterText(issue))
    case "AnyOf": {
      const inner = issue.issues.flatMap((one) => findings(one, path, override))
      // Where the alternatives fail at the value itself, none was meant more than another.
      if (inner.length > 0 && !inner.some((one) => one.path.length === path.length)) return inner
      return [{ path, kind: "type", message: override ?? `expected ${describe(issue.ast)}` }]
    }
    case "InvalidType":
      return [{ path, kind: "type", message: override ?? `expected ${describe(issue.ast)}` }]
    case "InvalidValue": {
      const text = issue.annotations?.message ?? issue.annotations?.expected
      return [
        {
          path,
          kind: "type",
          message: override ?? (typeof text === "string" ? text : "not a value that is allowed here")
        }
      ]
    }
    case "MissingKey":
      return [{ path, kind: "missing", message: "is missing" }]
    case "UnexpectedKey":
      return [{ path, kind: "excess", message: "no such key" }]
    case "Forbidden":
      return [{ path, kind: "type", message: "not allowed here" }]
    case "OneOf":
      return [{ path, kind: "type", message: "fits more than one of the alternatives" }]
  }
}

const filterText = (issue: SchemaIssue.Filter): string | undefined => {
  const own = issue.filter.annotations?.message
  if (typeof own === "string") return own
  if (issue.issue._tag !== "InvalidValue") return undefined
  const said = issue.issue.annotations?.message
  if (typeof said === "string") return said
  const expected = issue.issue.annotations?.expected ?? issue.filter.annotations?.expected
  return typeof expected === "string" ? `expected ${expected}` : undefined
}

/** What a Schema wants, in words: `one of ladder, linear`, `a number`, `a section with kind: world or file`. */
export const describe = (ast: Ast): string => {
  if (fileAt(ast) !== undefined) return fileAt(ast)?.hub ? "a path or hf://org/name@revision" : "a path"
  const parts = members(ast)
  const literals = parts.filter(SchemaAST.isLiteral).map((m) => String(m.literal))
  const sections = objects(ast)
  const tags = sections.flatMap((s) => [...tagsOf(s)].slice(0, 1))
  const words = [
    ...(literals.length === 0 ? [] : [literals.length === 1 ? literals[0]! : `one of ${literals.join(", ")}`]),
    ...(sections.length === 0
      ? []
      : tags.length === sections.length && sections.length > 1
        ? [`a section with ${tags[0]![0]}: ${tags.map(([, value]) => String(value)).join(" or ")}`]
        : [...new Set(sections.map(sectionText))]),
    ...parts.flatMap((m) => (SchemaAST.isLiteral(m) || SchemaAST.isObjects(m) ? [] : [plainText(m)]))
  ]
  return [...new Set(words)].join(" or ")
}

const sectionText = (s: SchemaAST.Objects): string => {
  const keys = s.propertySignatures.map((p) => String(p.name))
  return keys.length === 0
    ? "a section of named values"
    : `a section (${keys.slice(0, 8).join(", ")}${keys.length > 8 ? ", ..." : ""})`
}

const plainText = (ast: Ast): string => {
  switch (ast._tag) {
    case "String":
      return "text"
    case "Number":
      return "a number"
    case "Boolean":
      return "true or false"
    case "Arrays":
      return "a list"
    case "Null":
      return "null"
    case "Undefined":
      return "nothing"
    default: {
      const identifier = SchemaAST.resolveIdentifier(ast)
      return identifier ?? ast._tag.toLowerCase()
    }
  }
}

/** The value in the message, short; text that YAML would read as something else keeps its quotes. */
const got = (value: unknown): string => {
  const bare = typeof value === "number" || (typeof value === "string" && reads(value) === value)
  const shown = value === null ? "nothing" : bare ? String(value) : JSON.stringify(value)
  return shown.length > 60 ? `${shown.slice(0, 57)}...` : shown
}

/** What YAML makes of a text by itself; the text where it is no YAML. */
const reads = (text: string): unknown => {
  try {
    return parseWord(text, { version: "1.2", logLevel: "silent" })
  } catch {
    return text
  }
}

/**
 * @param tree what was decoded
 * @param ast its Schema's encoded side, for suggestions
 * @param above where to put a problem that no place in the tree belongs to
 */
export const problemsOf = (issue: SchemaIssue.Issue, tree: Located, ast: Ast, above: Place): ReadonlyArray<Problem> =>
  onePerPlace(findings(issue)).map((found) => {
    const { node, key, found: exists } = follow(tree, found.path)
    const name = found.path.map(String).join(".")
    const last = String(found.path.at(-1) ?? "")
    const parent = at(ast, found.path.slice(0, -1).map(String))
    const outer = found.path.length === 0 || (!exists && key === null)
    if (found.kind === "excess") {
      const known = parent === undefined ? [] : keysOf(parent)
      const form = parent === undefined ? undefined : keyForm(parent)
      if (form !== undefined) return problemAt(key ?? above, `${form}; got ${got(last)}`)
      const hint = didYouMean(last, known) ?? (known.length === 0 ? null : `known: ${known.join(", ")}`)
      return problemAt(key ?? above, `no key ${last} here`, hint)
    }
    if (found.kind === "missing")
      return problemAt(outer ? above : (key ?? above), `${name} is missing`, wanted(ast, found.path))
    const place = outer ? above : node._tag === "Leaf" ? node.at : (key ?? node.at)
    const wrong = node._tag === "Leaf" && typeof node.value === "string" ? node.value : undefined
    return problemAt(
      place,
      exists ? `${found.message}; got ${got(plain(node))}` : found.message,
      wrong === undefined ? null : suggestion(wrong, at(ast, found.path.map(String)))
    )
  })

/** What the keys of a section of named values have to look like, where they have to. */
const keyForm = (ast: Ast): string | undefined =>
  objects(ast)
    .flatMap((member) => member.indexSignatures)
    .flatMap(({ parameter }) => parameter.checks ?? [])
    .map((check) => check.annotations?.message)
    .find((message) => typeof message === "string")

/** A value that breaks several rules is told by the first. */
const onePerPlace = (all: ReadonlyArray<Found>): ReadonlyArray<Found> => {
  const told = new Set<string>()
  return all.filter(({ path, kind }) => {
    const id = JSON.stringify([kind, path.map(String)])
    return !told.has(id) && told.add(id)
  })
}

const wanted = (ast: Ast, path: ReadonlyArray<PropertyKey>): string | null => {
  const here = at(ast, path.map(String))
  return here === undefined ? null : `give ${describe(here)}`
}

const suggestion = (word: string, ast: Ast | undefined): string | null =>
  ast === undefined
    ? null
    : didYouMean(
        word,
        members(ast)
          .filter(SchemaAST.isLiteral)
          .map((m) => String(m.literal))
      )
