/**
 * A sweep as a list of points: (grid product) x (zip rows) x (cells), less exclude, plus include.
 */
import { canonicalJson, sha256 } from "./canonical.ts"
import { mostCells } from "./Experiment.ts"
import { type Entry, type Located, type LocatedMap, plain } from "./located.ts"
import { expand, flatten } from "./params.ts"
import { didYouMean, type Place, type Problem, problemAt } from "./problems.ts"

/** Axis (dotted path) -> the value there, with its place. */
export type Point = ReadonlyMap<string, Entry>

export interface Sweep {
  readonly points: ReadonlyArray<Point>
  /** Every axis, in the file's order, with the place of its first mention. */
  readonly axes: ReadonlyMap<string, Place>
  readonly problems: ReadonlyArray<Problem>
}

/** @param node the value of `sweep:`; parts of the wrong shape are passed over (decoding has reported them). */
export const readSweep = (node: LocatedMap): Sweep => {
  const problems: Array<Problem> = []
  const axes = new Map<string, Place>()
  const owner = new Map<string, string>()
  const claim = (part: string, axis: string, place: Place) => {
    const other = owner.get(axis)
    if (other !== undefined && other !== part) {
      problems.push(problemAt(place, `${axis} stands in ${other} and in ${part}`, "keep one of them"))
    }
    owner.set(axis, part)
    if (!axes.has(axis)) axes.set(axis, place)
  }
  const opened = (value: Located): Located => {
    const result = expand(value)
    problems.push(...result.problems)
    return result.value
  }
  const lists = (part: "grid" | "zip"): ReadonlyArray<readonly [axis: string, values: ReadonlyArray<Entry>]> =>
    axisLists(opened(node.entries.get(part)?.value ?? node)).flatMap(([axis, entry]) => {
      claim(part, axis, entry.key)
      if (entry.value._tag !== "List" || entry.value.items.length === 0) {
        problems.push(problemAt(entry.key, `${axis} needs a list of values`, `write ${axis}: [a, b]`))
        return []
      }
      const texts = entry.value.items.map((item) => canonicalJson(plain(item)))
      if (part === "grid" && new Set(texts).size < texts.length) {
        problems.push(problemAt(entry.key, `${axis} has a value twice`, "each value is a point of its own"))
      }
      return [[axis, entry.value.items.map((value) => ({ key: value.at, value }))] as const]
    })
  const rows = (
    part: "cells" | "include" | "exclude"
  ): ReadonlyArray<{ readonly point: Point; readonly at: Place }> => {
    const list = node.entries.get(part)?.value
    if (list?._tag !== "List") return []
    return list.items.flatMap((item) =>
      item._tag === "Map" ? [{ point: new Map(flatten(opened(item))), at: item.at }] : []
    )
  }
  const part = (name: string) => node.entries.has(name)

  let points: ReadonlyArray<Point> = part("grid") || part("zip") || part("cells") ? [new Map()] : []
  /** Whether so many times the points are still few enough to be made; told once if not. */
  const fewEnough = (times: number, at: Place): boolean => {
    const most = points.length * times <= mostCells
    if (!most) problems.push(problemAt(at, `the sweep has more than ${mostCells} points`, "leave out axes or values"))
    return most
  }
  if (part("grid")) {
    for (const [axis, values] of lists("grid")) {
      if (!fewEnough(values.length, axes.get(axis)!)) break
      points = points.flatMap((point) => values.map((value) => new Map([...point, [axis, value]])))
    }
  }
  if (part("zip")) {
    const zipped = lists("zip")
    const lengths = new Set(zipped.map(([, values]) => values.length))
    if (lengths.size > 1) {
      const said = zipped.map(([axis, values]) => `${axis} has ${values.length}`).join(", ")
      problems.push(problemAt(node.entries.get("zip")!.key, `zip needs lists of one length: ${said}`))
    } else if (fewEnough(zipped[0]?.[1].length ?? 0, node.entries.get("zip")!.key)) {
      const length = zipped[0]?.[1].length ?? 0
      points = points.flatMap((point) =>
        Array.from({ length }, (_, i) => new Map([...point, ...zipped.map(([axis, v]) => [axis, v[i]!] as const)]))
      )
    }
  }
  if (part("cells")) {
    const cells = rows("cells")
    for (const { point } of cells) for (const [axis, entry] of point) claim("cells", axis, entry.key)
    if (fewEnough(cells.length, node.entries.get("cells")!.key)) {
      points = points.flatMap((point) => cells.map((cell) => new Map([...point, ...cell.point])))
    }
  }
  for (const { point: out, at } of rows("exclude")) {
    const strange = [...out].filter(([axis]) => !axes.has(axis))
    for (const [axis, entry] of strange) {
      problems.push(problemAt(entry.key, `${axis} is no axis of this sweep`, didYouMean(axis, axes.keys())))
    }
    const kept = points.filter((point) => ![...out].every(([axis, entry]) => same(point.get(axis), entry)))
    if (kept.length === points.length && strange.length === 0)
      problems.push(problemAt(at, "excludes no point of the sweep"))
    points = kept
  }
  const more = rows("include").map(({ point }) => point)
  for (const point of more) for (const [axis, entry] of point) if (!axes.has(axis)) axes.set(axis, entry.key)
  points = distinct([...points, ...more])
  const parts = new Set(["grid", "zip", "cells", "include", "exclude"])
  const strange = [...node.entries.keys()].some((key) => !parts.has(key))
  if (points.length === 0 && problems.length === 0 && !strange) {
    problems.push(problemAt(node.at, "the sweep has no points", "leave `sweep` out for a single one"))
  }
  return { points, axes, problems }
}

/** Axes of a grid in nested or dotted spelling: down to the first value that is no object. */
const axisLists = (node: Located, prefix = ""): ReadonlyArray<readonly [string, Entry]> =>
  node._tag !== "Map"
    ? []
    : [...node.entries].flatMap(([key, entry]) => {
        const path = prefix === "" ? key : `${prefix}.${key}`
        return entry.value._tag === "Map" ? axisLists(entry.value, path) : [[path, entry] as const]
      })

const same = (a: Entry | undefined, b: Entry): boolean =>
  a !== undefined && canonicalJson(plain(a.value)) === canonicalJson(plain(b.value))

const pointText = (point: Point): string =>
  canonicalJson(Object.fromEntries([...point].map(([axis, entry]) => [axis, plain(entry.value)])))

const distinct = (points: ReadonlyArray<Point>): ReadonlyArray<Point> => [
  ...new Map(points.map((point) => [pointText(point), point] as const)).values()
]

/** The points as one arm sees them: only the axes that it has, each point once. `[]` where no axis is left. */
export const project = (points: ReadonlyArray<Point>, has: (axis: string) => boolean): ReadonlyArray<Point> =>
  distinct(points.map((point) => new Map([...point].filter(([axis]) => has(axis))))).filter((point) => point.size > 0)

/**
 * Readable ids, `shape=ladder,aggregate=sum-then-normalize`: each axis by its shortest suffix that no other axis of
 * the sweep has. Points whose ids would be equal get a mark from their values.
 */
export const pointIds = (points: ReadonlyArray<Point>, axes: Iterable<string>): ReadonlyArray<string> => {
  const short = shortNames([...axes])
  const ids = points.map((point) =>
    [...point].map(([axis, entry]) => `${short.get(axis) ?? axis}=${valueText(plain(entry.value))}`).join(",")
  )
  return ids.map((id, i) =>
    ids.indexOf(id) === ids.lastIndexOf(id) ? id : `${id}~${sha256(pointText(points[i]!)).slice(0, 6)}`
  )
}

/** Dotted paths by their shortest unambiguous suffixes. */
export const shortNames = (paths: ReadonlyArray<string>): ReadonlyMap<string, string> =>
  new Map(
    paths.map((path) => {
      const segments = path.split(".")
      for (let n = 1; n < segments.length; n++) {
        const suffix = segments.slice(-n).join(".")
        if (paths.every((other) => other === path || !`.${other}`.endsWith(`.${suffix}`)))
          return [path, suffix] as const
      }
      return [path, path] as const
    })
  )

const valueText = (value: unknown): string => {
  if (Array.isArray(value)) return value.map(valueText).join("+")
  if (typeof value === "object" && value !== null) {
    return Object.entries(value)
      .map(([key, inner]) => `${key}:${valueText(inner)}`)
      .join("+")
  }
  return String(value).replaceAll(/[^A-Za-z0-9._+:-]+/g, "-")
}
