/**
 * Keeps the table `ablation` up to date: reads what is bound and evaluated, compares what has changed since the last
 * time, and writes the table anew in one transaction. Rows are read in a fixed order, so that equal journals give equal
 * bits, in a rebuild too.
 */
import { createHash } from "node:crypto"
import type { DuckDBConnection } from "@duckdb/node-api"
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import {
  type AblationRow,
  baselineOf,
  compareArms,
  consistent,
  describeArm,
  type EvaluatedItem,
  type Items,
  metricsOf,
  type Report
} from "./ablation.ts"
import { DuckDb } from "./DuckDb.ts"
import { type CellRow, cellsOf, cellsQuery, type Evaluated } from "./evaluated.ts"

/** Rows by what they were computed from, so that a finished arm is computed once. */
export type AblationCache = Map<string, ReadonlyArray<AblationRow>>

/** Items of these cells, metric -> arm -> items by seed and prompt. */
const readItems = Effect.fnUntraced(function* (experiment: string, cells: ReadonlyArray<Evaluated>) {
  const { connection } = yield* DuckDb
  const arms = new Map(cells.map((cell) => [cell.cell, cell.arm]))
  const reader = yield* Effect.promise(() =>
    connection.runAndReadAll(
      "select cell_id, seed::integer, prompt_id, name, value, split from evaluations where experiment = $1 order by name, arm, seed, cell_id, prompt_id",
      [experiment]
    )
  )
  const items = new Map<string, Map<string, Array<EvaluatedItem>>>()
  // A result without rows has no columns either.
  if (reader.currentRowCount === 0) return items
  const [cell, seed, prompt, name, value, split] = reader.getColumnsJS() as [
    Array<string>,
    Array<number>,
    Array<string>,
    Array<string>,
    Array<number | null>,
    Array<string>
  ]
  for (let i = 0; i < cell.length; i++) {
    const arm = arms.get(cell[i]!)
    if (arm === undefined) continue
    const byArm = items.get(name[i]!) ?? new Map<string, Array<EvaluatedItem>>()
    items.set(name[i]!, byArm)
    const own = byArm.get(arm) ?? []
    byArm.set(arm, own)
    own.push({ seed: seed[i]!, prompt: prompt[i]!, value: value[i] ?? Number.NaN, split: split[i]! })
  }
  return items
})

interface Part {
  readonly key: string
  readonly arm: string
  readonly baseline: string | null
  readonly cells: ReadonlyArray<Evaluated>
}

/** The comparisons an experiment asks for, each with a key of everything that it depends on. */
const partsOf = (experiment: string, report: Report, cells: ReadonlyArray<Evaluated>, all: ReadonlyArray<string>) => {
  const bases = new Set(Object.values(report.baseline))
  return all.flatMap((arm): ReadonlyArray<Part> => {
    const baseline = report.baseline[arm] ?? null
    if (baseline === null && bases.has(arm)) return []
    const own = cells.filter((cell) => cell.arm === arm || cell.arm === baseline)
    const from = own.map((cell) => [cell.cell, cell.evaluation, cell.tasks])
    return [{ key: JSON.stringify([experiment, arm, baseline, report.metrics, from]), arm, baseline, cells: own }]
  })
}

const sha256 = (text: string) => createHash("sha256").update(text).digest("hex")

/** Metrics of the report for which one of these arms has items, and those it names outright. */
const metricsFor = (report: Report, items: Items, { arm, baseline }: Part) =>
  metricsOf(
    report,
    [...items].flatMap(([name, arms]) => (arms.has(arm) || (baseline !== null && arms.has(baseline)) ? [name] : []))
  )

const compare = (part: Part, report: Report, items: Items) => {
  const metrics = metricsFor(report, items, part)
  return part.baseline === null
    ? describeArm(part.arm, metrics, items)
    : compareArms(part.arm, part.baseline, metrics, part.cells, items)
}

const fill = (connection: DuckDBConnection, rows: ReadonlyArray<readonly [string, AblationRow]>) =>
  Effect.promise(async () => {
    const appender = await connection.createAppender("ablation", "main")
    for (const [experiment, row] of rows) {
      for (const text of [experiment, row.metric, row.arm]) appender.appendVarchar(text)
      row.baseline === null ? appender.appendNull() : appender.appendVarchar(row.baseline)
      for (const n of [row.nSeeds, row.nPrompts]) appender.appendInteger(n)
      for (const x of [row.value, row.baselineValue, row.difference, row.low, row.high]) {
        x === null ? appender.appendNull() : appender.appendDouble(x)
      }
      appender.appendVarchar(row.method)
      appender.endRow()
    }
    appender.closeSync()
  })

/**
 * Makes the table follow what is in the database; comparisons whose inputs did not change come from the cache. Returns
 * whether there was anything to do.
 */
export const refreshAblation = Effect.fn("warehouse.ablation")(function* (cache: AblationCache) {
  const sql = yield* SqlClient.SqlClient
  const { connection } = yield* DuckDb
  const reports = yield* sql<{ experiment: string; report: string | null }>`
    select experiment, arg_max_null(report::varchar, (run_id, seq)) as report from raw.runs
    group by experiment order by experiment`
  const everything = cellsOf(yield* sql.unsafe<CellRow>(cellsQuery))
  const work = reports.map(({ experiment, report: text }) => {
    const bound = consistent(everything.filter((cell) => cell.experiment === experiment))
    const arms = [...new Set(bound.map((cell) => cell.arm))].sort()
    const journaled = (text === null ? null : JSON.parse(text)) as Partial<Report> | null
    const report = { metrics: journaled?.metrics ?? [], baseline: baselineOf(journaled?.baseline, arms) }
    const cells = bound.filter((cell) => cell.evaluation !== null)
    return { experiment, report, cells, parts: partsOf(experiment, report, cells, arms) }
  })
  const fingerprint = sha256(JSON.stringify(work.map(({ parts }) => parts.map((part) => part.key))))
  const last = yield* sql<{ fingerprint: string }>`select fingerprint from raw.ablation_inputs`
  if (last[0]?.fingerprint === fingerprint) return false

  const used: AblationCache = new Map()
  const rows: Array<readonly [string, AblationRow]> = []
  for (const { experiment, report, cells, parts } of work) {
    const items: Items = parts.every(({ key }) => cache.has(key)) ? new Map() : yield* readItems(experiment, cells)
    for (const part of parts) {
      const found = cache.get(part.key) ?? compare(part, report, items)
      used.set(part.key, found)
      for (const row of found) rows.push([experiment, row])
    }
  }
  yield* sql.withTransaction(
    sql`delete from ablation`.pipe(
      Effect.andThen(sql`delete from raw.ablation_inputs`),
      Effect.andThen(sql`insert into raw.ablation_inputs values (${fingerprint})`),
      Effect.andThen(fill(connection, rows))
    )
  )
  cache.clear()
  for (const [key, value] of used) cache.set(key, value)
  return true
})
