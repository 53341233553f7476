/**
 * Parameter layers: dotted keys expanded, layers merged, every leaf keeping where it was written.
 *
 * `defaults < extends < params < arm < sweep < --set`, folded from the left. Objects merge, lists and leaves replace,
 * and where a union stands an object of another member replaces the whole object.
 */
import { SchemaAST } from "effect"
import { type Entry, emptyMap, type Located, type LocatedMap, locate } from "./located.ts"
import { type Ast, defaultOf, discriminator, objects, ownUnder, step, tagsOf, under } from "./paths.ts"
import { type Place, type Problem, problemAt } from "./problems.ts"

/** Dotted keys as nested objects, in lists too. A leaf that one layer spells twice is a problem. */
export const expand = (node: Located): { readonly value: Located; readonly problems: ReadonlyArray<Problem> } => {
  const problems: Array<Problem> = []
  const go = (value: Located): Located => {
    if (value._tag === "List") return { ...value, items: value.items.map(go) }
    if (value._tag === "Leaf") return value
    const entries = new Map<string, Entry>()
    for (const [name, entry] of value.entries) {
      const segments = name.split(".")
      if (segments.some((s) => s === "")) {
        problems.push(problemAt(entry.key, `${JSON.stringify(name)} is no dotted key: a part of it is empty`))
        continue
      }
      insert(entries, segments, { key: entry.key, value: go(entry.value) }, segments.join("."))
    }
    return { ...value, entries }
  }
  const insert = (
    into: Map<string, Entry>,
    [first, ...rest]: ReadonlyArray<string>,
    entry: Entry,
    whole: string
  ): void => {
    if (first === undefined) return
    const here = into.get(first)
    if (rest.length === 0) {
      if (here === undefined) into.set(first, entry)
      else if (here.value._tag === "Map" && entry.value._tag === "Map") {
        const merged = new Map(here.value.entries)
        for (const [key, inner] of entry.value.entries) insert(merged, [key], inner, `${whole}.${key}`)
        into.set(first, { ...here, value: { ...here.value, entries: merged } })
      } else {
        const first = here.key
        problems.push(
          problemAt(
            entry.key,
            `${whole} is spelt twice, first at line ${first.line} as ${lastWords(first)}`,
            "keep one of them"
          )
        )
      }
      return
    }
    if (here !== undefined && here.value._tag !== "Map") {
      problems.push(
        problemAt(
          entry.key,
          `${whole} stands below a key that has a value already, at line ${here.key.line}`,
          "keep one of them"
        )
      )
      return
    }
    const inner = new Map(here?.value._tag === "Map" ? here.value.entries : [])
    insert(inner, rest, entry, whole)
    const at = here?.value.at ?? entry.key
    into.set(first, { key: here?.key ?? entry.key, value: { _tag: "Map", at, entries: inner } })
  }
  return { value: go(node), problems }
}

const lastWords = (place: Place): string => (place.path === "" ? "it" : place.path)

/** The leaves (and empty objects and lists) of an expanded value, by dotted path. `expand` undoes it. */
export const flatten = (node: Located, prefix = ""): ReadonlyArray<readonly [path: string, entry: Entry]> =>
  node._tag !== "Map"
    ? []
    : [...node.entries].flatMap(([key, entry]) => {
        const path = prefix === "" ? key : `${prefix}.${key}`
        const inner = entry.value
        return inner._tag === "Map" && inner.entries.size > 0 ? flatten(inner, path) : [[path, entry] as const]
      })

/** One layer over another. `ast` says where unions stand; without it objects always merge. */
export const merge = (older: Located, newer: Located, ast?: Ast): Located => {
  if (older._tag !== "Map" || newer._tag !== "Map") return newer
  if (ast !== undefined && isOther(older, newer, ast)) return newer
  const entries = new Map(older.entries)
  for (const [key, entry] of newer.entries) {
    const before = entries.get(key)
    const inner = ast === undefined ? undefined : step(ast, key)
    entries.set(key, before === undefined ? entry : { key: entry.key, value: merge(before.value, entry.value, inner) })
  }
  return { _tag: "Map", at: newer.at, entries }
}

/** Whether two objects must be of different members of a union, so that the newer one replaces the older. */
const isOther = (older: LocatedMap, newer: LocatedMap, ast: Ast): boolean => {
  const variants = objects(ast)
  if (variants.length < 2) return false
  const tag = discriminator(ast)?.tag
  if (tag !== undefined) {
    const [a, b] = [leaf(older, tag), leaf(newer, tag)]
    if (a !== undefined && b !== undefined) return a !== b
  }
  const [before, after] = [fitting(older, ast), fitting(newer, ast)]
  return before.length > 0 && after.length > 0 && !after.some((v) => before.includes(v))
}

const leaf = (map: LocatedMap, key: string): unknown => {
  const value = map.entries.get(key)?.value
  return value?._tag === "Leaf" ? value.value : undefined
}

/** The members of a union that have all of an object's keys, and no other literals than it. */
const fitting = (map: LocatedMap, ast: Ast): ReadonlyArray<SchemaAST.Objects> =>
  objects(ast).filter((member) => {
    const known = tagsOf(member)
    return [...map.entries.keys()].every(
      (key) => under(member, key).length > 0 && (!known.has(key) || known.get(key) === leaf(map, key))
    )
  })

/**
 * Variants by their full name: an object without discriminator whose keys only one variant has gets it
 * (`data: { path: x }`), and a variant's name alone stands for that variant (`data: world`).
 */
export const nameVariants = (node: Located, ast: Ast): Located => {
  const union = discriminator(ast)
  if (node._tag === "Leaf" && union?.variants.has(node.value)) {
    return { ...emptyMap(node.at), entries: new Map([[union.tag, { key: node.at, value: node }]]) }
  }
  if (node._tag !== "Map") return node
  const entries = new Map<string, Entry>()
  const fits = union === undefined || node.entries.has(union.tag) ? [] : fitting(node, ast)
  if (union !== undefined && fits.length === 1) {
    const name = [...union.variants].find(([, member]) => member === fits[0])?.[0]
    entries.set(union.tag, { key: node.at, value: { _tag: "Leaf", at: node.at, value: name } })
  }
  for (const [key, entry] of node.entries) {
    const inner = step(ast, key)
    entries.set(key, inner === undefined ? entry : { key: entry.key, value: nameVariants(entry.value, inner) })
  }
  return { ...node, entries }
}

/**
 * The lowest layer: defaults of unions, so that a file may change one key of a default variant without naming it.
 * Other defaults need no layer, the Schema fills them in.
 */
export const unionDefaults = (ast: Ast, place: Place, depth = 0): LocatedMap => {
  const entries = new Map<string, Entry>()
  const variants = objects(ast)
  if (variants.length === 1 && depth < 8) {
    for (const property of variants[0]!.propertySignatures) {
      const value = defaultOf(property.type)
      const inner =
        SchemaAST.isUnion(property.type) &&
        typeof value === "object" &&
        value !== null &&
        objects(property.type).length > 0
          ? locate(value, place)
          : unionDefaults(property.type, place, depth + 1)
      if (inner._tag === "Map" && inner.entries.size > 0)
        entries.set(String(property.name), { key: place, value: inner })
    }
  }
  return { ...emptyMap(place), entries }
}

/** The part of a layer that a Schema has a place for. */
export const applicable = (node: Located, ast: Ast): Located => {
  if (node._tag !== "Map") return node
  const entries = new Map<string, Entry>()
  for (const [key, entry] of node.entries) {
    const inner = step(ast, key)
    if (inner === undefined) continue
    const value = objects(inner).length > 0 ? applicable(entry.value, inner) : entry.value
    // A section of which nothing applies is left out; one that was written empty stays.
    if (value._tag === "Map" && value.entries.size === 0 && entry.value._tag === "Map" && entry.value.entries.size > 0)
      continue
    entries.set(key, { key: entry.key, value })
  }
  return { ...node, entries }
}

/** Keys of a layer that none of the Schemas has, each as far up as possible. `declared`: sections of a user's own. */
export const unknownKeys = (
  node: Located,
  asts: ReadonlyArray<Ast>,
  declared: ReadonlySet<string> = new Set(),
  path: ReadonlyArray<string> = []
): ReadonlyArray<{ readonly path: ReadonlyArray<string>; readonly entry: Entry }> =>
  node._tag !== "Map"
    ? []
    : [...node.entries].flatMap(([key, entry]) => {
        const here = [...path, key]
        const known = declared.has(here.join("."))
        const inner = asts.flatMap((ast) => (!known && ownUnder(ast, key) ? [] : (step(ast, key) ?? [])))
        if (inner.length === 0) return [{ path: here, entry }]
        const sections = inner.filter((ast) => objects(ast).length > 0)
        // A map where a leaf is wanted is a wrong type, which decoding reports; below it nothing is known.
        return sections.length === 0 ? [] : unknownKeys(entry.value, sections, declared, here)
      })
