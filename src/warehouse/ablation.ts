/**
 * An ablation is arithmetic: every arm of an experiment against its baseline, for every metric of its report, paired by
 * (seed, prompt) over the items of the node `evaluate` (of the split it was asked for). One row per (metric, arm); nulls, with the reason in
 * `method`, where there is nothing to base a number on. Pure; the intervals are `src/metrics/statistics.ts`.
 *
 * What counts: cells whose evaluation is done, of the experiment's newest whole run (and of partial ones since), as they
 * are bound now. An arm's cells that an older run left with other parameters do not. Arms computed in different numeric
 * classes are not compared.
 */
import { glob } from "../dsl/glob.ts"
import { comparePaired, type Item } from "../metrics/statistics.ts"

/** A cell as it is bound now. `tasks` maps nodes to task keys. */
export interface CellState {
  readonly cell: string
  readonly arm: string
  readonly seed: number
  /** JSON text of the parameters: arms are of one piece if it is equal. */
  readonly params: string
  /** The run that bound it. */
  readonly run: string
  readonly tasks: ReadonlyArray<{ readonly node: string; readonly key: string; readonly class: string | null }>
  /** Which of an arm's parameters it has, where an arm stands for several; left out where it has one. */
  readonly point?: string
}

/** One per-prompt result, of a split: `test` unless said otherwise. */
export interface EvaluatedItem extends Item {
  readonly split?: string
}

export interface Report {
  /** Names; `*` stands for any characters. Empty: all there are. */
  readonly metrics: ReadonlyArray<string>
  /** Arm -> the arm it is compared with. */
  readonly baseline: Readonly<Record<string, string>>
}

/** Per-prompt results, metric -> arm -> items. */
export type Items = ReadonlyMap<string, ReadonlyMap<string, ReadonlyArray<EvaluatedItem>>>

export interface AblationRow {
  readonly metric: string
  readonly arm: string
  readonly baseline: string | null
  readonly nSeeds: number
  readonly nPrompts: number
  readonly value: number | null
  readonly baselineValue: number | null
  readonly difference: number | null
  readonly low: number | null
  readonly high: number | null
  readonly method: string
}

/** Leaves out cells that an older run bound with parameters that no cell of the arm's newest run has. */
export const consistent = <C extends CellState>(cells: ReadonlyArray<C>): ReadonlyArray<C> =>
  [...Map.groupBy(cells, (cell) => cell.arm).values()].flatMap((arm) => {
    const newest = arm
      .map((cell) => cell.run)
      .sort()
      .at(-1)
    const params = new Set(arm.filter((cell) => cell.run === newest).map((cell) => cell.params))
    return arm.filter((cell) => params.has(cell.params))
  })

/** The arm -> baseline map of a report as journaled: a map already, or one arm's name for all the others. */
export const baselineOf = (journaled: unknown, arms: ReadonlyArray<string>): Readonly<Record<string, string>> => {
  if (typeof journaled === "string") {
    return Object.fromEntries(arms.filter((arm) => arm !== journaled).map((arm) => [arm, journaled]))
  }
  if (typeof journaled !== "object" || journaled === null) return {}
  return Object.fromEntries(Object.entries(journaled).filter(([arm, base]) => typeof base === "string" && base !== arm))
}

/** The report's metrics in its order, patterns replaced by what they match; names without items stay, to show as null. */
export const metricsOf = (report: Report, found: ReadonlyArray<string>): ReadonlyArray<string> => {
  const sorted = [...found].sort()
  if (report.metrics.length === 0) return sorted
  return [
    ...new Set(
      report.metrics.flatMap((name) => (name.includes("*") ? sorted.filter((one) => glob(name).test(one)) : [name]))
    )
  ]
}

/** Nodes whose task is the same for every seed, in both arms where both have it: what the seeds say nothing about. */
export const heldFixed = (cells: ReadonlyArray<CellState>): ReadonlyArray<string> => {
  const arms = [...Map.groupBy(cells, (cell) => JSON.stringify([cell.arm, cell.point])).values()]
  if (arms.some((arm) => arm.length < 2)) return []
  const keys = (cell: CellState, node: string) =>
    cell.tasks
      .flatMap((task) => (task.node === node ? [task.key] : []))
      .sort()
      .join()
  const nodes = [...new Set(cells.flatMap((cell) => cell.tasks.map((task) => task.node)))].sort()
  return nodes.filter((node) => arms.every((arm) => new Set(arm.map((cell) => keys(cell, node))).size === 1))
}

/** The numeric classes of each cell that used a device, as one text; two texts among compared cells are one too many. */
const classes = (cells: ReadonlyArray<CellState>): ReadonlyArray<string> => [
  ...new Set(
    cells.flatMap((cell) => {
      const used = [...new Set(cell.tasks.flatMap((task) => task.class ?? []))].sort()
      return used.length === 0 ? [] : [used.join(" + ")]
    })
  )
]

const nothing = (metric: string, arm: string, baseline: string | null, method: string): AblationRow => ({
  metric,
  arm,
  baseline,
  nSeeds: 0,
  nPrompts: 0,
  value: null,
  baselineValue: null,
  difference: null,
  low: null,
  high: null,
  method
})

/** The splits that items are of, in words: nothing for the test split, which is what is usually meant. */
const splitsOf = (items: ReadonlyArray<EvaluatedItem>): string =>
  [...new Set(items.map(({ split = "test" }) => split))].sort().join(" and ")
const ofSplit = (split: string): string => (split === "test" ? "" : ` of the ${split} split`)

/**
 * One arm against its baseline, a row per metric.
 * @param cells of both arms, consistent, evaluations done.
 */
export const compareArms = (
  arm: string,
  baseline: string,
  metrics: ReadonlyArray<string>,
  cells: ReadonlyArray<CellState>,
  items: Items
): ReadonlyArray<AblationRow> => {
  const own = cells.filter((cell) => cell.arm === arm)
  const base = cells.filter((cell) => cell.arm === baseline)
  const seeds = new Set(own.map((cell) => cell.seed).filter((seed) => base.some((cell) => cell.seed === seed)))
  const paired = [...own, ...base].filter((cell) => seeds.has(cell.seed))
  const kinds = classes(paired)
  if (kinds.length > 1) {
    return metrics.map((metric) =>
      nothing(metric, arm, baseline, `not compared: numeric classes differ (${[...kinds].sort().join(" | ")})`)
    )
  }
  const fixed = heldFixed(paired)
  return metrics.map((metric) => {
    const of = (name: string) => items.get(metric)?.get(name) ?? []
    if (of(arm).length === 0) return nothing(metric, arm, baseline, `no results of ${arm} yet`)
    if (of(baseline).length === 0) return nothing(metric, arm, baseline, `no results of the baseline ${baseline} yet`)
    const [split, other] = [splitsOf(of(arm)), splitsOf(of(baseline))]
    if (split !== other) {
      return nothing(
        metric,
        arm,
        baseline,
        `not compared: ${arm} was evaluated on the ${split} split, ${baseline} on ${other}`
      )
    }
    const c = comparePaired(of(arm), of(baseline), { heldFixed: fixed, prompts: `prompts${ofSplit(split)}` })
    return {
      metric,
      arm,
      baseline,
      nSeeds: c.seeds,
      nPrompts: c.prompts,
      value: c.value,
      baselineValue: c.baselineValue,
      difference: c.difference,
      low: c.low,
      high: c.high,
      method: c.method
    }
  })
}

/** An arm that has nothing to be compared with: its own means. */
export const describeArm = (arm: string, metrics: ReadonlyArray<string>, items: Items): ReadonlyArray<AblationRow> =>
  metrics.map((metric) => {
    const own = (items.get(metric)?.get(arm) ?? []).filter((item) => Number.isFinite(item.value))
    if (own.length === 0) return nothing(metric, arm, null, `no results of ${arm} yet`)
    return {
      ...nothing(metric, arm, null, `no baseline: the mean over seeds and prompts${ofSplit(splitsOf(own))}`),
      nSeeds: new Set(own.map((item) => item.seed)).size,
      nPrompts: new Set(own.map((item) => item.prompt)).size,
      value: own.reduce((sum, item) => sum + item.value, 0) / own.length
    }
  })
