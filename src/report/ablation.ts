/**
 * The ablation as people read it in a terminal: arm by arm against the baseline, with intervals, what they rest on, what
 * was held fixed, and a warning where arms were not comparable. Pure; the numbers are the warehouse's `ablation`.
 */
import { Schema } from "effect"
import { table } from "./table.ts"

/** A row of the view `ablation`. */
export const AblationRow = Schema.Struct({
  experiment: Schema.String,
  metric: Schema.String,
  arm: Schema.String,
  baseline: Schema.NullOr(Schema.String),
  n_seeds: Schema.Int,
  n_prompts: Schema.Int,
  value: Schema.NullOr(Schema.Finite),
  baseline_value: Schema.NullOr(Schema.Finite),
  difference: Schema.NullOr(Schema.Finite),
  low: Schema.NullOr(Schema.Finite),
  high: Schema.NullOr(Schema.Finite),
  method: Schema.String
})
export type AblationRow = typeof AblationRow.Type

/** Further columns of a row. */
export interface MoreColumns<Row> {
  readonly names: ReadonlyArray<string>
  readonly of: (row: Row) => ReadonlyArray<string>
}

export interface AblationTextOptions {
  /** Characters of the terminal; lines are not longer. */
  readonly width?: number
  /** How to mark rows whose interval excludes 0 (bold, say); leave it out where there are no colours. */
  readonly emphasise?: (line: string) => string
}

/** Three decimals, fewer for large numbers, an exponent for those that would show as 0. */
export const shortNumber = (value: number | null, signed = false): string => {
  if (value === null) return "–"
  const size = Math.abs(value)
  const digits = size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : 3
  const text = size !== 0 && size < 5e-4 ? size.toExponential(1) : size.toFixed(digits)
  const sign = value < 0 ? "-" : signed ? (value > 0 ? "+" : " ") : ""
  return sign + text
}

const interval = ({ low, high }: AblationRow): string =>
  low === null || high === null ? "–" : `[${shortNumber(low, true)}, ${shortNumber(high, true)}]`

const excludesZero = ({ low, high }: AblationRow): boolean => low !== null && high !== null && (low > 0 || high < 0)

/** A method's text without what all rows share, which stands above the table. */
const split = (method: string): readonly [string, string | null] => {
  const [how = "", fixed = null] = method.split("; held fixed over seeds: ")
  return [how, fixed]
}

const columns = [
  { name: "metric" },
  { name: "arm" },
  { name: "value", align: "right" },
  { name: "baseline", align: "right" },
  { name: "difference", align: "right" },
  { name: "95 % interval", align: "right" },
  { name: "seeds × prompts", align: "right" }
] as const

/** Notes under the table get a letter each in their rows' last column. */
const letter = (i: number): string => String.fromCharCode(97 + (i % 26)) + (i >= 26 ? String(Math.floor(i / 26)) : "")

const list = (names: ReadonlyArray<string>): string =>
  names.length < 2 ? names.join() : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`

/** The rows of one experiment, in the order given, as text without a final newline; an empty text for no rows. */
export const ablationText = <Row extends AblationRow>(
  rows: ReadonlyArray<Row>,
  options: AblationTextOptions & { readonly more?: MoreColumns<Row> } = {}
): string => {
  if (rows.length === 0) return ""
  const baselines = [...new Set(rows.flatMap((row) => row.baseline ?? []))]
  const against =
    baselines.length === 0
      ? "no baseline"
      : baselines.length === 1
        ? `against ${baselines[0]}`
        : "against each arm's baseline"
  // Arms of a metric stand together, metrics in their first order.
  const grouped = [...Map.groupBy(rows, (row) => row.metric).values()].flat()
  const compared = grouped.filter((row) => row.difference !== null)
  const more = options.more ?? { names: [], of: () => [] }
  const methods = [...new Set(grouped.map((row) => split(row.method)[0]))]
  const lines = table(
    [...columns, ...more.names.map((name) => ({ name, align: "right" as const })), { name: "" }],
    grouped.map((row, i) => [
      grouped[i - 1]?.metric === row.metric ? "" : row.metric,
      baselines.length > 1 && row.baseline !== null ? `${row.arm} (${row.baseline})` : row.arm,
      shortNumber(row.value),
      shortNumber(row.baseline_value),
      shortNumber(row.difference, true),
      interval(row),
      row.n_seeds === 0 ? "–" : `${row.n_seeds} × ${row.n_prompts}`,
      ...more.of(row),
      methods.length > 1 ? letter(methods.indexOf(split(row.method)[0])) : ""
    ]),
    options.width === undefined ? {} : { width: options.width }
  ).split("\n")
  const emphasise = options.emphasise ?? ((line: string) => line)
  const body = lines.map((line, i) => (i >= 2 && excludesZero(grouped[i - 2]!) ? emphasise(line) : line))
  const notes =
    methods.length === 1 ? [`interval: ${methods[0]}`] : methods.map((method, i) => `${letter(i)}: ${method}`)
  const fixed = [...new Set(compared.flatMap((row) => split(row.method)[1] ?? []))]
  const mixed = [...new Set(rows.filter((row) => row.method.includes("numeric classes differ")).map((row) => row.arm))]
  return [
    `${rows[0]!.experiment}: ${against}`,
    "",
    ...body,
    "",
    ...notes,
    ...(fixed.length === 1
      ? [`held fixed over seeds: ${fixed[0]} (the intervals do not speak of other draws of these)`]
      : fixed.length > 1
        ? [`held fixed over seeds, by arm: ${fixed.join("; ")}`]
        : []),
    ...(mixed.length > 0
      ? [
          `warning: ${list(mixed)} computed in another numeric class than the baseline, so not compared: run both with the same --device`
        ]
      : [])
  ].join("\n")
}
