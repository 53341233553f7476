/**
 * YAML values that remember where each key and each value was written, through expansion, merging and decoding.
 */
import type { Place } from "./problems.ts"

export interface Entry {
  /** Where the key was written (for a merged key: by the layer that said it last). */
  readonly key: Place
  readonly value: Located
}

export type Located =
  | { readonly _tag: "Map"; readonly at: Place; readonly entries: ReadonlyMap<string, Entry> }
  | { readonly _tag: "List"; readonly at: Place; readonly items: ReadonlyArray<Located> }
  | { readonly _tag: "Leaf"; readonly at: Place; readonly value: unknown }

export type LocatedMap = Extract<Located, { readonly _tag: "Map" }>

export const emptyMap = (at: Place): LocatedMap => ({ _tag: "Map", at, entries: new Map() })

/** The value without its places. */
export const plain = (node: Located): unknown => {
  switch (node._tag) {
    case "Leaf":
      return node.value
    case "List":
      return node.items.map(plain)
    case "Map":
      return Object.fromEntries([...node.entries].map(([key, entry]) => [key, plain(entry.value)]))
  }
}

/** A value without places of its own, put at one place. */
export const locate = (value: unknown, at: Place): Located => {
  if (Array.isArray(value)) return { _tag: "List", at, items: value.map((item) => locate(item, at)) }
  if (typeof value === "object" && value !== null) {
    const entries = Object.entries(value).map(([key, v]) => [key, { key: at, value: locate(v, at) }] as const)
    return { _tag: "Map", at, entries: new Map(entries) }
  }
  return { _tag: "Leaf", at, value }
}

/** The entry or value at a path, as far down as it exists; `found` tells whether all of the path does. */
export const follow = (
  node: Located,
  path: ReadonlyArray<PropertyKey>
): { readonly node: Located; readonly key: Place | null; readonly found: boolean } => {
  let here = node
  let key: Place | null = null
  for (const segment of path) {
    if (here._tag === "Map") {
      const entry = here.entries.get(String(segment))
      if (entry === undefined) return { node: here, key, found: false }
      key = entry.key
      here = entry.value
    } else if (here._tag === "List") {
      const item = here.items[Number(segment)]
      if (item === undefined) return { node: here, key, found: false }
      key = item.at
      here = item
    } else {
      return { node: here, key, found: false }
    }
  }
  return { node: here, key, found: true }
}

export const child = (node: Located, key: string): Entry | undefined =>
  node._tag === "Map" ? node.entries.get(key) : undefined
