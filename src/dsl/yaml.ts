/**
 * YAML with the place of every key and value. Syntax errors and keys spelt twice come out as placed problems.
 */
import { isAlias, isMap, isPair, isScalar, isSeq, LineCounter, type Node, parseDocument } from "yaml"
import { type Entry, emptyMap, type Located } from "./located.ts"
import { type Place, type Problem, problemAt } from "./problems.ts"

export interface Parsed {
  /** Only to be trusted where it is YAML. */
  readonly root: Located
  readonly isYaml: boolean
  readonly problems: ReadonlyArray<Problem>
}

/**
 * @param file the name that places carry
 * @param at for a value that is no file of its own (`--set`): where it stands; its inner places are all that
 */
export const parseYaml = (text: string, file: string, at?: Place): Parsed => {
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, uniqueKeys: false, prettyErrors: false, version: "1.2" })
  const top: Place = at ?? { file, line: 1, col: 1, path: "" }
  const place = (offset: number, path: string): Place => {
    if (at !== undefined) return { ...at, path: join(at.path, path) }
    const { line, col } = lines.linePos(offset)
    return { file, line: Math.max(line, 1), col: Math.max(col, 1), path }
  }
  const problems: Array<Problem> = document.errors.map((error) =>
    error.code === "MULTIPLE_DOCS"
      ? problemAt(place(error.pos[0], ""), "a second document begins here", "write one file for each")
      : problemAt(place(error.pos[0], ""), `not YAML: ${firstLine(error.message)}`)
  )
  const active = new Set<Node>()

  const convert = (node: unknown, path: string, fallback: Place): Located => {
    if (isAlias(node)) {
      const target = node.resolve(document)
      const here = place(node.range?.[0] ?? 0, path)
      if (target === undefined || active.has(target)) {
        problems.push(problemAt(here, `alias *${node.source} names no value above it`))
        return { _tag: "Leaf", at: here, value: null }
      }
      active.add(target)
      const value = convert(target, path, here)
      active.delete(target)
      return value
    }
    if (isMap(node)) {
      const here = place(node.range?.[0] ?? 0, path)
      const entries = new Map<string, Entry>()
      for (const pair of node.items) {
        if (!isPair(pair) || !isScalar(pair.key)) {
          problems.push(problemAt(here, "a key must be a word"))
          continue
        }
        const name = pair.key.source ?? String(pair.key.value)
        const inner = join(path, name)
        const key = place(pair.key.range?.[0] ?? 0, inner)
        const earlier = entries.get(name)
        if (earlier !== undefined) {
          problems.push(
            problemAt(key, `${name} stands here twice, first at line ${earlier.key.line}`, "keep one of them")
          )
          continue
        }
        if (name === "<<") problems.push(problemAt(key, "merge keys are not YAML 1.2", "use extends, or spell it out"))
        else entries.set(name, { key, value: convert(pair.value, inner, key) })
      }
      return { _tag: "Map", at: here, entries }
    }
    if (isSeq(node)) {
      const here = place(node.range?.[0] ?? 0, path)
      return { _tag: "List", at: here, items: node.items.map((item, i) => convert(item, join(path, String(i)), here)) }
    }
    if (isScalar(node)) {
      const here = node.range === undefined || node.range === null ? fallback : place(node.range[0], path)
      return { _tag: "Leaf", at: here, value: node.value }
    }
    return { _tag: "Leaf", at: fallback, value: null }
  }

  const root = document.contents === null ? emptyMap(top) : convert(document.contents, "", top)
  return { root, isYaml: document.errors.length === 0, problems }
}

const join = (path: string, key: string): string => (path === "" ? key : key === "" ? path : `${path}.${key}`)

const firstLine = (text: string): string => text.split("\n", 1)[0] ?? text
