/** What `exp compare` does: names checked, cells grouped, results paired, the answer in the format asked for. */
import { Console, Effect } from "effect"
import { didYouMean } from "../dsl/problems.ts"
import { comparedRow, comparisonCsv, comparisonText } from "../report/comparison.ts"
import { baselineOf, metricsOf, type Report } from "../warehouse/ablation.ts"
import { experimentNames, readEvaluated, readResults } from "../warehouse/comparing.ts"
import { byArm, byParameter, compare, type Grouped, pathsOf } from "../warehouse/comparison.ts"
import type { Evaluated } from "../warehouse/evaluated.ts"
import { usage } from "./failure.ts"
import { paintFor } from "./format.ts"

export interface ComparisonAsked {
  readonly dir: string
  readonly experiments: ReadonlyArray<string>
  /** Names or patterns; empty: those of the reports. */
  readonly metrics: ReadonlyArray<string>
  /** How many of a run's last steps a metric of steps is the mean of. */
  readonly last: number
  /** Groups; empty: all. */
  readonly arms: ReadonlyArray<string>
  /** A dotted parameter, in place of arms. */
  readonly by: string | undefined
  readonly baseline: string | undefined
  readonly format: "text" | "json" | "csv"
}

/** `no arm is called opgrpo (did you mean op-grpo?); there are a, b`. */
const unknown = (what: string, name: string, known: ReadonlyArray<string>) => {
  const hint = didYouMean(name, known)
  const some = known.length > 40 ? [...known.slice(0, 40), `and ${known.length - 40} more`] : known
  return usage(
    `no ${what} is called ${name}${hint === null ? "" : ` (${hint})`}; there ${known.length === 1 ? "is" : "are"} ${some.length === 0 ? "none" : some.join(", ")}`
  )
}

/** Names that are not among those there are, first one first. */
const missing = (names: ReadonlyArray<string>, known: ReadonlyArray<string>) =>
  names.find((name) =>
    name.includes("*") ? metricsOf({ metrics: [name], baseline: {} }, known).length === 0 : !known.includes(name)
  )

/** Which group each is compared with: the one asked for, else what the experiments' reports say of arms. */
const baselines = (
  asked: ComparisonAsked,
  cells: ReadonlyArray<Grouped>,
  reports: ReadonlyMap<string, Partial<Report>>
): Readonly<Record<string, string>> => {
  const groups = [...new Set(cells.map(({ group }) => group))].sort()
  if (asked.baseline !== undefined) {
    const base = asked.baseline
    return Object.fromEntries(groups.filter((group) => group !== base).map((group) => [group, base]))
  }
  const groupOf = new Map(cells.map(({ arm, experiment, group }) => [JSON.stringify([experiment, arm]), group]))
  const said = [...reports].flatMap(([experiment, { baseline }]) => {
    const arms = [...new Set(cells.filter((cell) => cell.experiment === experiment).map(({ arm }) => arm))].sort()
    return Object.entries(baselineOf(baseline, arms)).flatMap(([arm, base]) => {
      const [own, other] = [arm, base].map((name) => groupOf.get(JSON.stringify([experiment, name])))
      return own === undefined || other === undefined || own === other ? [] : [{ own, other }]
    })
  })
  // Arms that share a value may have baselines with different ones: then nothing is said of the value.
  return Object.fromEntries(
    [...Map.groupBy(said, ({ own }) => own)].flatMap(([own, list]) => {
      const others = [...new Set(list.map(({ other }) => other))]
      return others.length === 1 ? [[own, others[0]!] as const] : []
    })
  )
}

/** Cells under their groups; an unknown parameter, or one that no group of cells differs in, is said. */
const grouped = (asked: ComparisonAsked, cells: ReadonlyArray<Evaluated>) =>
  Effect.gen(function* () {
    if (asked.by === undefined) return byArm(cells)
    const groups = byParameter(cells, asked.by)
    if (groups.length === 0) {
      const known = [...new Set(cells.flatMap(({ params }) => pathsOf(JSON.parse(params))))].sort()
      return yield* unknown("parameter", asked.by, known)
    }
    return groups
  })

export const comparison = Effect.fn("exp.comparison")(function* (asked: ComparisonAsked) {
  const { dir, experiments } = asked
  const names = yield* experimentNames(dir)
  const stray = experiments.find((name) => !names.includes(name))
  if (stray !== undefined) return yield* unknown("experiment", stray, names)
  const evaluated = yield* readEvaluated(dir, experiments)
  // steps have metrics in pipelines without an evaluation too
  const matched = (name: string, known: ReadonlyArray<string>) => missing([name], known) === undefined
  const ofSteps = (name: string) => !matched(name, evaluated.metrics) && matched(name, evaluated.stepMetrics)
  const stepsOnly = asked.metrics.length > 0 && asked.metrics.every(ofSteps)
  const counted = evaluated.cells.filter(({ evaluation }) => stepsOnly || evaluation !== null)
  const idle = experiments.find((name) => !counted.some(({ experiment }) => experiment === name))
  if (idle !== undefined) return yield* usage(`no cell of ${idle} has been evaluated yet: run it first`)

  const cells = yield* grouped(asked, evaluated.cells)
  const groups = [...new Set(cells.map(({ group }) => group))].sort()
  const what = asked.by === undefined ? "arm" : `value of ${asked.by}`
  const absent = missing([...asked.arms, ...(asked.baseline === undefined ? [] : [asked.baseline])], groups)
  if (absent !== undefined) return yield* unknown(what, absent, groups)
  const against = baselines(asked, cells, evaluated.reports)
  const chosen = Object.fromEntries(
    Object.entries(against).filter(([group]) => asked.arms.length === 0 || asked.arms.includes(group))
  )
  if (Object.keys(chosen).length === 0) {
    const [one] = groups
    return yield* usage(
      groups.length === 1
        ? `there is one ${what} only, ${one}: nothing to compare it with`
        : `nothing says what to compare with: give --baseline, one of ${groups.join(", ")}`
    )
  }

  const wanted =
    asked.metrics.length > 0
      ? asked.metrics
      : [...new Set([...evaluated.reports.values()].flatMap(({ metrics = [] }) => metrics))]
  const none = asked.metrics.find((name) => !matched(name, evaluated.metrics) && !ofSteps(name))
  if (none !== undefined) {
    return yield* unknown("metric", none, none.includes(":") ? evaluated.stepMetrics : evaluated.metrics)
  }
  const known = (name: string) => (ofSteps(name) ? evaluated.stepMetrics : evaluated.metrics)
  // No names at all: every metric of the evaluations.
  const metrics =
    wanted.length === 0
      ? evaluated.metrics
      : [...new Set(wanted.flatMap((name) => metricsOf({ metrics: [name], baseline: {} }, known(name))))]
  const steps = new Set(metrics.filter(ofSteps))
  const rows = compare({
    cells,
    metrics,
    steps,
    baselines: chosen,
    results: yield* readResults(dir, experiments, {
      prompts: metrics.filter((name) => !steps.has(name)),
      steps: [...steps],
      last: asked.last
    })
  })
  const title = experiments.join(" + ")
  const compared = rows.map((row) => comparedRow(title, row))
  if (asked.format === "csv") return yield* Console.log(comparisonCsv(compared))
  if (asked.format === "json") {
    const family = rows.filter(({ p }) => p !== null).length
    return yield* Console.log(JSON.stringify({ experiments, by: asked.by ?? "arm", family, rows: compared }))
  }
  const paint = paintFor(process.stdout)
  yield* Console.log(
    comparisonText(asked.by === undefined ? title : `${title} by ${asked.by}`, rows, {
      ...(steps.size > 0 ? { last: asked.last } : {}),
      ...(process.stdout.isTTY ? { width: process.stdout.columns } : {}),
      emphasise: (line) => paint("bold", line)
    })
  )
})
