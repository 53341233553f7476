/** A YAML file against its Schema: what it says with the place of every key and value, and every problem of its shape at once. */
import { readFileSync } from "node:fs"
import { Result, Schema } from "effect"
import { problemsOf } from "./issues.ts"
import { type LocatedMap, plain } from "./located.ts"
import { encodedAst } from "./paths.ts"
import { type Place, type Problem, problemAt } from "./problems.ts"
import { shownPath } from "./resolve.ts"
import { parseYaml } from "./yaml.ts"

export interface Checked {
  /** What it says; undefined where it could not be read or is no map. Values may be wrong where there are problems. */
  readonly root: LocatedMap | undefined
  readonly problems: ReadonlyArray<Problem>
}

/** How files of a Schema are read. `what` names one to people: `an experiment file`. */
export const checkedFiles = (what: string, schema: Schema.Codec<unknown, unknown>) => {
  const decode = Schema.decodeUnknownResult(schema, { errors: "all", onExcessProperty: "error" })
  const ast = encodedAst(schema)
  /**
   * @param path absolute
   * @param from where it is named, for when it is not there; its own first line where that is left out
   */
  return (path: string, from?: Place): Checked => {
    const shown = shownPath(path)
    const place: Place = { file: shown, line: 1, col: 1, path: "" }
    let text: string
    try {
      text = readFileSync(path, "utf8")
    } catch (cause) {
      const code = cause instanceof Error && "code" in cause ? cause.code : undefined
      const why = code === "ENOENT" ? "no file" : code === "EISDIR" ? "a folder, not a file:" : undefined
      const message = why === undefined ? `cannot read: ${String(cause)}` : `${why} ${shown}`
      return { root: undefined, problems: [problemAt(from ?? place, message)] }
    }
    const { isYaml, problems, root } = parseYaml(text, shown)
    if (!isYaml) return { root: undefined, problems }
    if (root._tag !== "Map") {
      const is = root._tag === "List" ? "a list" : "a single value"
      const message = `${what} has lines of the form \`key: value\`; this is ${is}`
      return { root: undefined, problems: [...problems, problemAt(place, message)] }
    }
    const checked = decode(plain(root))
    const wrong = Result.isFailure(checked) ? problemsOf(checked.failure.issue, root, ast, place) : []
    return { root, problems: [...problems, ...wrong] }
  }
}
