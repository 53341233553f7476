/**
 * An experiment file with all that it extends: read, checked for its outer shape, and put together. What stands nearer
 * to the experiment wins; parameters stay in layers, because the pipelines decide how they merge.
 */
import { dirname, resolve } from "node:path"
import { Result, Schema } from "effect"
import { checkedFiles } from "./checkedFile.ts"
import { Compute, Experiment, Report, Seeds } from "./Experiment.ts"
import { findings } from "./issues.ts"
import { child, type Entry, type Located, type LocatedMap, plain } from "./located.ts"
import { expand } from "./params.ts"
import { type Place, type Problem, problemAt } from "./problems.ts"
import { shownPath } from "./resolve.ts"

export interface ArmSpec {
  readonly place: Place
  readonly pipeline: Entry | undefined
  /** Its own `params`, one for each file that has some, lowest first. */
  readonly own: ReadonlyArray<Located>
  /** Every layer it is under, files' shared `params` and its own in turn: what stands in a nearer file wins. */
  readonly layers: ReadonlyArray<Located>
}

/** The files as one experiment, nothing resolved yet. */
export interface Chain {
  readonly top: Place
  readonly name: string
  /** Lowest first, absolute. */
  readonly files: ReadonlyArray<string>
  /** Every file that is extended could be read, so that what none says is missing. */
  readonly whole: boolean
  /** The absolute folder of a file as places name it. */
  readonly folderOf: (shown: string) => string
  readonly pipeline: Entry | undefined
  /** The files' shared `params`, lowest first, expanded. */
  readonly params: ReadonlyArray<Located>
  readonly arms: ReadonlyMap<string, ArmSpec>
  readonly sweep: LocatedMap | undefined
  readonly seeds: typeof Seeds.Type
  readonly seedsNode: LocatedMap | undefined
  readonly baseline: Entry | undefined
  readonly report: typeof Report.Type
  readonly reportNode: LocatedMap | undefined
  readonly compute: typeof Compute.Type
  readonly problems: ReadonlyArray<Problem>
}

interface Source {
  readonly file: string
  readonly root: LocatedMap
}

const strict = { errors: "all", onExcessProperty: "error" } as const
const experimentFile = checkedFiles("an experiment file", Experiment)

/** @param file absolute */
export const readChain = (file: string): Chain => {
  const problems: Array<Problem> = []
  const folders = new Map<string, string>()
  const sources: Array<Source> = []
  let whole = true

  const read = (path: string, from: Place | undefined, above: ReadonlyArray<string>): void => {
    const shown = shownPath(path)
    const place: Place = { file: shown, line: 1, col: 1, path: "" }
    if (above.includes(path)) {
      const circle = [...above.slice(above.indexOf(path)), path].map(shownPath).join(" -> ")
      whole = false
      problems.push(problemAt(from ?? place, `extends goes round in a circle: ${circle}`))
      return
    }
    if (sources.some((source) => source.file === path)) return
    folders.set(shown, dirname(path))
    const { root, problems: own } = experimentFile(path, from)
    problems.push(...own)
    if (root === undefined) {
      whole = false
      return
    }
    const bases = child(root, "extends")?.value
    for (const base of bases === undefined ? [] : bases._tag === "List" ? bases.items : [bases]) {
      if (base._tag === "Leaf" && typeof base.value === "string") {
        read(resolve(dirname(path), base.value), base.at, [...above, path])
      }
    }
    sources.push({ file: path, root })
  }
  read(file, undefined, [])

  const opened = (value: Located): Located => {
    const result = expand(value)
    problems.push(...result.problems)
    return result.value
  }
  const nearest = (key: string): Entry | undefined =>
    sources.map((s) => child(s.root, key)).findLast((e) => e !== undefined)
  const joined = (key: string): LocatedMap | undefined =>
    sources.reduce<LocatedMap | undefined>((older, s) => {
      const newer = child(s.root, key)?.value
      if (newer?._tag !== "Map") return older
      const kept = new Map(older?.entries ?? [])
      // One of two spellings replaces the other.
      if (newer.entries.has("count")) kept.delete("list")
      if (newer.entries.has("list")) kept.delete("count")
      return { ...newer, entries: new Map([...kept, ...newer.entries]) }
    }, undefined)

  const shared = new Map(
    sources.flatMap((s) => {
      const params = child(s.root, "params")?.value
      return params?._tag === "Map" ? [[s, opened(params)] as const] : []
    })
  )
  const arms = new Map<string, ArmSpec>()
  const entriesOf = (s: Source) => {
    const node = child(s.root, "arms")?.value
    return node?._tag === "Map" ? node.entries : new Map<string, Entry>()
  }
  for (const name of new Set(sources.flatMap((s) => [...entriesOf(s).keys()]))) {
    const own: Array<Located> = []
    const layers: Array<Located> = []
    for (const source of sources) {
      const common = shared.get(source)
      if (common !== undefined) layers.push(common)
      const entry = entriesOf(source).get(name)
      const params = entry === undefined ? undefined : child(entry.value, "params")?.value
      if (params?._tag === "Map") own.push(opened(params))
      if (params?._tag === "Map") layers.push(own.at(-1)!)
    }
    const said = sources.flatMap((s) => entriesOf(s).get(name) ?? [])
    const pipeline = said.map((entry) => child(entry.value, "pipeline")).findLast((e) => e !== undefined)
    arms.set(name, { place: said.at(-1)!.key, pipeline, own, layers })
  }
  const own = sources.findLast((s) => s.file === file)?.root
  const top: Place = { file: shownPath(file), line: 1, col: 1, path: "" }
  const name = own === undefined ? undefined : child(own, "name")?.value
  if (own !== undefined && name === undefined) {
    problems.push(problemAt({ ...top, path: "name" }, "the experiment has no name", "write name: my-experiment"))
  }
  const [seedsNode, reportNode, computeNode] = [joined("seeds"), joined("report"), joined("compute")]
  const sweep = nearest("sweep")?.value
  return {
    top,
    name: name?._tag === "Leaf" && typeof name.value === "string" ? name.value : "unnamed",
    files: sources.map((s) => s.file),
    whole,
    folderOf: (shown) => folders.get(shown) ?? process.cwd(),
    pipeline: nearest("pipeline"),
    params: [...shared.values()],
    arms,
    sweep: sweep?._tag === "Map" ? sweep : undefined,
    seeds: typed(Seeds, seedsNode),
    seedsNode,
    baseline: nearest("baseline"),
    report: typed(Report, reportNode),
    reportNode,
    compute: typed(Compute, computeNode),
    problems
  }
}

/** What a part says, but for keys whose values are wrong (its file's check has said so). */
const typed = <A>(schema: Schema.Codec<A, unknown>, node: LocatedMap | undefined): A | Record<string, never> => {
  const value = { ...(node === undefined ? {} : (plain(node) as Readonly<Record<string, unknown>>)) }
  for (;;) {
    const result = Schema.decodeUnknownResult(schema, strict)(value as unknown)
    if (Result.isSuccess(result)) return result.success
    const wrong = findings(result.failure.issue).map((found) => found.path[0])
    if (wrong.some((key) => key === undefined || !(String(key) in value))) return {}
    for (const key of wrong) delete value[String(key)]
  }
}
