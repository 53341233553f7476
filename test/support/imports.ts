/** The imports of the project's source files, as the house rules and the page on the layout look at them. */
import { globSync, readFileSync } from "node:fs"
import { dirname, join, relative } from "node:path"

export interface Import {
  /** The importing file, from the project's root: `src/dsl/plan.ts`. */
  readonly from: string
  /** The imported file from the project's root, or the specifier of a package. */
  readonly to: string
  readonly outside: boolean
  /** Imported for its types only: gone when the program runs. */
  readonly typeOnly: boolean
  /** By `import(...)` inside a function. */
  readonly dynamic: boolean
  /** Named bindings, those marked `type` left out. */
  readonly names: ReadonlyArray<string>
}

export const root = join(import.meta.dirname, "..", "..")

const statement = /^(?:import|export)\s+(type\s+)?(?:([^"';]*?)\s+from\s+)?"([^"]+)"|\bimport\(\s*"([^"]+)"\s*\)/gm

const namesOf = (clause: string): ReadonlyArray<string> =>
  (/\{([^}]*)\}/s.exec(clause)?.[1] ?? "")
    .split(",")
    .map((name) => name.trim())
    .filter((name) => name !== "" && !name.startsWith("type "))
    .map((name) => name.split(/\s+as\s+/)[0]!)

/** Comments hold examples; the statements of interest begin a line of code. */
const withoutComments = (text: string): string => text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/^\s*\/\/.*$/gm, "")

export const importsOf = (file: string, text: string): ReadonlyArray<Import> =>
  [...withoutComments(text).matchAll(statement)].map(([, type, clause = "", specifier, late]) => {
    const target = specifier ?? late!
    const own = /^overtone\/(pipelines\/)?(.+)$/.exec(target)
    const outside = !target.startsWith(".") && own === null
    const to = own ? (own[1] ? `pipelines/${own[2]}.ts` : `src/${own[2]}.ts`) : join(dirname(file), target)
    const names = type === undefined ? namesOf(clause) : []
    const bare = clause
      .replace(/\{[^}]*\}/s, "")
      .replace(",", "")
      .trim()
    const allTypes = clause.includes("{") && names.length === 0 && bare === ""
    return {
      from: file,
      to: outside ? target : to,
      outside,
      typeOnly: type !== undefined || allTypes,
      dynamic: late !== undefined,
      names
    }
  })

/** Every import of every file under `folders`. */
export const importsUnder = (...folders: ReadonlyArray<string>): ReadonlyArray<Import> =>
  folders
    .flatMap((folder) => globSync(`${folder}/**/*.ts`, { cwd: root }))
    .map((file) => relative(".", file))
    .sort()
    .flatMap((file) => importsOf(file, readFileSync(join(root, file), "utf8")))

/** `src/dsl/plan.ts` is of `dsl`, `src/main.ts` of `main.ts`, `pipelines/a.ts` of `pipelines`. */
export const areaOf = (file: string): string => {
  const [first, second] = file.split("/")
  return first === "src" ? second! : first!
}
