/**
 * How long things are: lines of code of each objective, reward part, metric and stage, and of what those of a kind share. A
 * line counts if something other than white space and a comment stands on it.
 *
 *   pnpm size [--json]
 */
import { globSync, readFileSync } from "node:fs"
import { basename, join } from "node:path"
import { parseArgs } from "node:util"
import { table } from "../src/report/table.ts"

/** Lines of a TypeScript text with code on them; comments begin a line or end one, as the formatter leaves them. */
export const codeLines = (text: string): number => {
  let [count, inside] = [0, false]
  for (const line of text.split("\n").map((one) => one.trim())) {
    if (inside) {
      inside = !line.includes("*/")
    } else if (line.startsWith("/*")) {
      inside = !line.includes("*/")
    } else if (line !== "" && !line.startsWith("//")) {
      count++
    }
  }
  return count
}

export interface Sized {
  readonly kind: string
  /** What the file exports of that kind, or the file where that is not what it is named for. */
  readonly name: string
  readonly file: string
  readonly lines: number
  /** Whether it is one of its kind, or what several share. */
  readonly shared: boolean
}

interface Kind {
  readonly kind: string
  readonly files: string
  /** Names of the things of this kind in a text; none: the file is shared. */
  readonly names: (text: string, file: string) => ReadonlyArray<string>
}

const all = (text: string, pattern: RegExp): ReadonlyArray<string> =>
  [...text.matchAll(pattern)].map(([, name = ""]) => name)
const stem = (file: string) => basename(file, ".ts")

/** Texts of settings in parentheses, one level deep, between a name and what it returns; what is given a name makes others. */
const objective =
  /^export const (\w+) = \((?!\s*name: string)(?:[^()]|\([^()]*\))*\)\s*:\s*(?:Token|Embedding|Logit)Objective\b/gm

const kinds: ReadonlyArray<Kind> = [
  { kind: "objective", files: "src/objectives/*.ts", names: (text) => all(text, objective) },
  { kind: "reward part", files: "src/rewards/*.ts", names: (text) => all(text, /^export const (\w+): RewardPart</gm) },
  { kind: "metric", files: "src/metrics/*.ts", names: (_, file) => [stem(file)] },
  { kind: "estimate off policy", files: "src/ope/*.ts", names: (_, file) => [stem(file)] },
  { kind: "stage", files: "src/stages/**/*.ts", names: (text) => all(text, /Stage\.make\(\s*"([\w-]+)"/g) }
]

/** Everything of every kind under a project's root, kinds in their order, the shortest first, what is shared last. */
export const sizes = (root: string): ReadonlyArray<Sized> =>
  kinds.flatMap(({ files, kind, names }) =>
    globSync(files, { cwd: root })
      .map((file): Sized => {
        const text = readFileSync(join(root, file), "utf8")
        const found = names(text, file)
        const shared = found.length === 0
        return { kind, name: shared ? stem(file) : found.join(", "), file, lines: codeLines(text), shared }
      })
      .sort((a, b) => Number(a.shared) - Number(b.shared) || a.lines - b.lines || (a.file < b.file ? -1 : 1))
  )

const text = (found: ReadonlyArray<Sized>): string => {
  const rows = found.map(({ file, kind, lines, name, shared }, i) => {
    const label = shared ? `${kind}: shared` : kind
    const before = found[i - 1]
    const same = before !== undefined && before.kind === kind && before.shared === shared
    return [same ? "" : label, name, String(lines), file]
  })
  const totals = [...Map.groupBy(found, ({ kind }) => kind)].map(([kind, own]) => {
    const things = own.filter(({ shared }) => !shared)
    const median = things.map(({ lines }) => lines).sort((a, b) => a - b)[things.length >> 1] ?? 0
    return `${kind}: ${things.length} files, median ${median} lines`
  })
  const columns = [{ name: "kind" }, { name: "what" }, { name: "lines", align: "right" as const }, { name: "file" }]
  return [table(columns, rows), "", ...totals].join("\n")
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { json: { type: "boolean", default: false } } })
  const found = sizes(join(import.meta.dirname, ".."))
  console.log(values.json ? JSON.stringify(found) : text(found))
}
