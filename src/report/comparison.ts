/** A comparison as people read it: the ablation's table with tests and sizes beside, and what they rest on below. Pure. */
import type { ComparisonRow } from "../warehouse/comparison.ts"
import { type AblationRow, type AblationTextOptions, ablationText, shortNumber } from "./ablation.ts"

/** A row as scripts get it: the columns of `ablation`, then those of the tests. */
export interface ComparedRow extends AblationRow {
  readonly p: number | null
  readonly p_holm: number | null
  readonly test: string
  readonly effect: number | null
  readonly superiority: number | null
  readonly unpaired: number
  readonly baseline_unpaired: number
}

export const comparedRow = (experiment: string, row: ComparisonRow): ComparedRow => ({
  experiment,
  metric: row.metric,
  arm: row.arm,
  baseline: row.baseline,
  n_seeds: row.nSeeds,
  n_prompts: row.nPrompts,
  value: row.value,
  baseline_value: row.baselineValue,
  difference: row.difference,
  low: row.low,
  high: row.high,
  method: row.method,
  p: row.p,
  p_holm: row.pHolm,
  test: row.test,
  effect: row.effect,
  superiority: row.superiority,
  unpaired: row.unpaired,
  baseline_unpaired: row.baselineUnpaired
})

const probability = (p: number | null): string =>
  p === null ? "–" : p < 1e-4 ? "<.0001" : p.toFixed(4).replace(/^0/, "")

export interface ComparisonTextOptions extends AblationTextOptions {
  /** How many last steps a metric of steps (`NODE:NAME`) is the mean of. */
  readonly last?: number
}

/** What was not compared, and why a family may be too large for its seeds. */
const notes = (rows: ReadonlyArray<ComparisonRow>, last: number | undefined): ReadonlyArray<string> => {
  const family = rows.filter(({ p }) => p !== null)
  const tests = [...new Set(family.map(({ test }) => test))]
  const least = Math.min(...family.map((row) => row.least ?? 0)) * family.length
  const lone = new Map(
    rows.flatMap((row) =>
      row.unpaired + row.baselineUnpaired === 0
        ? []
        : [
            [
              `${row.arm} ${row.baseline}`,
              `${row.arm} against ${row.baseline}: ${row.unpaired} and ${row.baselineUnpaired} results without a partner (seed, prompt) are left out`
            ] as const
          ]
    )
  )
  return [
    ...(family.length === 0
      ? []
      : [
          `p: ${tests.join("; ")}. Holm's correction over the family of ${family.length} test${family.length === 1 ? "" : "s"} (metric × arm)`
        ]),
    ...(least > 0.05
      ? [
          `no corrected p of this family can be under ${shortNumber(Math.min(1, least))}: more seeds, or fewer metrics and arms, could show less`
        ]
      : []),
    "effect: mean / standard deviation of the prompts' differences; better: share of prompts that the arm is greater on, ties half",
    ...(last === undefined
      ? []
      : [`node:metric: the mean of each run's last ${last} steps, one value a seed; an interval takes 3 seeds`]),
    ...lone.values()
  ]
}

/** Without a final newline; `title` is what was compared. */
export const comparisonText = (
  title: string,
  rows: ReadonlyArray<ComparisonRow>,
  options: ComparisonTextOptions = {}
): string => {
  const shown = rows.map((row) => comparedRow(title, row))
  const table = ablationText(shown, {
    ...options,
    more: {
      names: ["p", "p (Holm)", "effect", "better"],
      of: ({ effect, p, p_holm, superiority }) => [
        probability(p),
        probability(p_holm),
        shortNumber(effect, true),
        superiority === null ? "–" : `${(100 * superiority).toFixed(0)} %`
      ]
    }
  })
  return [table, ...notes(rows, options.last)].join("\n")
}

const quoted = (value: string | number | null): string => {
  const text = value === null ? "" : String(value)
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
}

/** A heading and the rows (RFC 4180), without a final newline. */
export const comparisonCsv = (rows: ReadonlyArray<ComparedRow>): string => {
  const names = Object.keys(rows[0] ?? {})
  return [names, ...rows.map((row) => Object.values(row))].map((line) => line.map(quoted).join(",")).join("\n")
}
