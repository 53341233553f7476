/**
 * Paired differences for any metrics and any grouping of evaluated cells, with Holm's correction over the family of all
 * (metric, group) tests. Groups are arms, or the values of one parameter; then cells that are equal in all other parameters
 * are paired, and a (seed, prompt)'s results are averaged over them first. The intervals are those of the ablation. Pure.
 */

import { holm, significance } from "../metrics/significance.ts"
import { pairItems } from "../metrics/statistics.ts"
import { type AblationRow, compareArms, describeArm, type EvaluatedItem } from "./ablation.ts"
import type { Evaluated } from "./evaluated.ts"

/** A cell under the name of its group. */
export interface Grouped extends Evaluated {
  readonly group: string
  readonly point: string
}

/** A result of a cell. */
export interface CellItem {
  readonly cell: string
  readonly prompt: string
  readonly value: number
  readonly split: string
}

export interface ComparisonRow extends AblationRow {
  readonly p: number | null
  readonly pHolm: number | null
  readonly test: string
  /** Cohen's d_z over prompts. */
  readonly effect: number | null
  /** Share of prompts that the group is better (greater) on, ties half. */
  readonly superiority: number | null
  /** Results without a partner in the other group: of this one, and of the baseline. */
  readonly unpaired: number
  readonly baselineUnpaired: number
  /** The least p that the test could give. */
  readonly least: number | null
}

type Params = Readonly<Record<string, unknown>>
const isObject = (value: unknown): value is Params =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** Every dotted path of a cell's parameters, sections included. */
export const pathsOf = (params: unknown, prefix = ""): ReadonlyArray<string> =>
  isObject(params)
    ? Object.entries(params).flatMap(([key, value]) => [`${prefix}${key}`, ...pathsOf(value, `${prefix}${key}.`)])
    : []

const valueAt = (params: unknown, path: ReadonlyArray<string>): unknown =>
  path.reduce<unknown>((value, key) => (isObject(value) ? value[key] : undefined), params)

const without = (params: unknown, [key, ...rest]: ReadonlyArray<string>): unknown => {
  if (!isObject(params) || key === undefined || !(key in params)) return params
  const { [key]: inner, ...others } = params
  return rest.length === 0 ? others : { ...others, [key]: without(inner, rest) }
}

const written = (value: unknown): string => (typeof value === "string" ? value : JSON.stringify(value))

/** Cells by arm; with several experiments arms are called `experiment/arm`. */
export const byArm = (cells: ReadonlyArray<Evaluated>): ReadonlyArray<Grouped> => {
  const several = new Set(cells.map(({ experiment }) => experiment)).size > 1
  return cells.map((cell) => ({ ...cell, group: several ? `${cell.experiment}/${cell.arm}` : cell.arm, point: "" }))
}

/** Cells by the value of a parameter; cells without it are left out. */
export const byParameter = (cells: ReadonlyArray<Evaluated>, path: string): ReadonlyArray<Grouped> => {
  const keys = path.split(".")
  return cells.flatMap((cell) => {
    const params: unknown = JSON.parse(cell.params)
    const value = valueAt(params, keys)
    return value === undefined ? [] : [{ ...cell, group: written(value), point: JSON.stringify(without(params, keys)) }]
  })
}

interface Cumulated {
  readonly split: string
  sum: number
  count: number
}

/** Values by (seed, point, prompt): the mean where cells of several experiments have one; what is not finite is left out. */
const indexed = (cells: ReadonlyArray<Grouped>, items: ReadonlyMap<string, ReadonlyArray<CellItem>>) => {
  const found = new Map<string, Cumulated>()
  for (const { cell, point, seed } of cells) {
    for (const { prompt, split, value } of items.get(cell) ?? []) {
      if (!Number.isFinite(value)) continue
      const key = JSON.stringify([seed, prompt, point])
      const known = found.get(key) ?? { split, sum: 0, count: 0 }
      known.sum += value
      known.count++
      found.set(key, known)
    }
  }
  return found
}

/** Means over points by (seed, prompt), of the keys given. */
const items = (values: ReadonlyMap<string, Cumulated>, keys: ReadonlyArray<string>): ReadonlyArray<EvaluatedItem> => {
  const means = new Map<string, Cumulated & { readonly seed: number; readonly prompt: string }>()
  for (const key of keys) {
    const [seed, prompt] = JSON.parse(key) as [number, string, string]
    const { count, split, sum } = values.get(key)!
    const at = JSON.stringify([seed, prompt])
    const known = means.get(at) ?? { seed, prompt, split, sum: 0, count: 0 }
    known.sum += sum / count
    known.count++
    means.set(at, known)
  }
  return [...means.values()].map(({ count, prompt, seed, split, sum }) => ({ seed, prompt, value: sum / count, split }))
}

export interface Comparable {
  readonly cells: ReadonlyArray<Grouped>
  readonly metrics: ReadonlyArray<string>
  /** Those that are measured once a step: one value a cell, evaluated or not. */
  readonly steps?: ReadonlySet<string>
  /** Per metric the results of each cell. */
  readonly results: ReadonlyMap<string, ReadonlyMap<string, ReadonlyArray<CellItem>>>
  /** Group -> the group that it is compared with. */
  readonly baselines: Readonly<Record<string, string>>
}

/** One row for each metric and group that has a baseline, metrics in their order, groups in theirs. */
export const compare = ({
  baselines,
  cells,
  metrics,
  results,
  steps = new Set()
}: Comparable): ReadonlyArray<ComparisonRow> => {
  const rows = metrics.flatMap((metric) =>
    Object.entries(baselines).map(([group, baseline]): ComparisonRow => {
      const ofSteps = steps.has(metric)
      const of = (name: string) => cells.filter((cell) => cell.group === name && (ofSteps || cell.evaluation !== null))
      const values = (name: string) => indexed(of(name), results.get(metric) ?? new Map())
      const [own, base] = [values(group), values(baseline)]
      const common = [...own.keys()].filter((key) => base.has(key))
      const [arm, other] = [items(own, common), items(base, common)]
      const points = new Set(common.map((key) => (JSON.parse(key) as [number, string, string])[2]))
      // Where nothing pairs, the ablation's own words say why.
      const alone = common.length === 0
      const sides = new Map([
        [group, alone ? items(own, [...own.keys()]) : arm],
        [baseline, alone ? items(base, [...base.keys()]) : other]
      ])
      const paired = [...of(group), ...of(baseline)]
        .filter(({ point }) => alone || points.has(point))
        .map((cell) => ({ ...cell, arm: cell.group }))
      const [row] = compareArms(group, baseline, [metric], paired, new Map([[metric, sides]]))
      const pairs = row!.difference === null ? [] : pairItems(arm, other)
      const { least, p, test, ...size } = significance(pairs)
      // one value a seed has no prompts to be spread over
      const { effect, superiority } = ofSteps ? { effect: null, superiority: null } : size
      const [lone] = ofSteps && base.size === 0 ? describeArm(group, [metric], new Map([[metric, sides]])) : []
      return {
        ...row!,
        ...(lone === undefined
          ? {}
          : {
              nSeeds: lone.nSeeds,
              nPrompts: lone.nPrompts,
              value: lone.value,
              method: `${baseline} has no ${metric}`
            }),
        p,
        pHolm: null,
        test,
        effect,
        superiority,
        unpaired: own.size - common.length,
        baselineUnpaired: base.size - common.length,
        least
      }
    })
  )
  const corrected = holm(rows.map(({ p }) => p))
  return rows.map((row, k) => ({ ...row, pHolm: corrected[k]! }))
}
