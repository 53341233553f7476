/** Reads from the published database what a comparison needs: cells as they are bound, reports, results. */
import { Effect, Schema } from "effect"
import { consistent, type Report } from "./ablation.ts"
import type { CellItem } from "./comparison.ts"
import { CellRow, cellsOf, cellsQuery } from "./evaluated.ts"
import { rows } from "./sql.ts"

const decodeCells = Schema.decodeUnknownEffect(Schema.Array(CellRow))

const literal = (text: string) => `'${text.replaceAll("'", "''")}'`
const among = (names: ReadonlyArray<string>) => `(${names.map(literal).join(", ")})`

/** Names of all experiments that a run has begun. */
export const experimentNames = (dir: string) =>
  Effect.map(rows(dir, "select distinct experiment from runs order by all"), (found) =>
    found.map(({ experiment }) => String(experiment))
  )

/** Evaluated cells of these experiments, what their reports ask for, and the metrics that there are. */
export const readEvaluated = Effect.fn("warehouse.readEvaluated")(function* (
  dir: string,
  experiments: ReadonlyArray<string>
) {
  const bound = yield* rows(
    dir,
    `select * from (${cellsQuery}) where experiment in ${among(experiments)} order by experiment, cell, node, key`
  )
  // What this version cannot read was not written by it: a defect.
  const cells = cellsOf(yield* Effect.orDie(decodeCells(bound)))
  const reports = yield* rows(
    dir,
    `select experiment, arg_max_null(report::varchar, (run_id, seq)) as report from raw.runs
     where experiment in ${among(experiments)} group by experiment`
  )
  const metrics = yield* rows(
    dir,
    `select distinct name from evaluations where experiment in ${among(experiments)} order by name`
  )
  const ofSteps = yield* rows(
    dir,
    `select distinct node || ':' || m.name as name from metrics m join tasks t using (task_key)
       join cell_tasks using (task_key) join cells using (cell_id)
     where experiment in ${among(experiments)} and t.state = 'done' order by name`
  )
  return {
    cells: experiments.flatMap((name) => consistent(cells.filter(({ experiment }) => experiment === name))),
    reports: new Map(
      reports.map(({ experiment, report }) => [
        String(experiment),
        (report === null ? {} : JSON.parse(String(report))) as Partial<Report>
      ])
    ),
    metrics: metrics.map(({ name }) => String(name)),
    stepMetrics: ofSteps.map(({ name }) => String(name))
  }
})

/**
 * The mean of a metric's last steps in each cell whose task is done. A run of which one of these is not finite has no value; a task
 * that several seeds share has one, by the first of them.
 */
const stepsQuery = (experiments: ReadonlyArray<string>, metrics: ReadonlyArray<string>, last: number) => `
  with numbered as (
    select c.experiment, c.arm, c.seed, c.cell_id, m.task_key, node || ':' || m.name as name, m.value,
      row_number() over (partition by c.cell_id, node, m.name order by m.step desc, m.task_key) as back
    from metrics m join tasks t using (task_key) join cell_tasks using (task_key) join cells c using (cell_id)
    where c.experiment in ${among(experiments)} and t.state = 'done'
  ), means as (
    select experiment, arm, seed, cell_id, name, list(distinct task_key order by task_key) as made,
      case when bool_and(coalesce(isfinite(value), false)) then avg(value) end as value
    from numbered where back <= ${last} and name in ${among(metrics)} group by all
  )
  select cell_id, 'its last steps' as prompt_id, name, value, 'test' as split from means
  qualify seed = min(seed) over (partition by experiment, arm, name, made) order by name, arm, seed, cell_id`

export interface Wanted {
  readonly prompts: ReadonlyArray<string>
  /** `NODE:NAME`: metrics that a node's task journals once a step. */
  readonly steps: ReadonlyArray<string>
  readonly last: number
}

/** Results of metrics of prompts and of steps (means of the `last` ones): metric -> cell -> items, in a fixed order. */
export const readResults = Effect.fn("warehouse.readResults")(function* (
  dir: string,
  experiments: ReadonlyArray<string>,
  { last, prompts, steps }: Wanted
) {
  const results = new Map<string, Map<string, Array<CellItem>>>()
  const found = [
    ...(prompts.length === 0
      ? []
      : yield* rows(
          dir,
          `select cell_id, prompt_id, name, value, split from evaluations where experiment in ${among(experiments)}
             and name in ${among(prompts)} order by name, arm, seed, cell_id, prompt_id`
        )),
    ...(steps.length === 0 ? [] : yield* rows(dir, stepsQuery(experiments, steps, last)))
  ]
  for (const { cell_id, name, prompt_id, split, value } of found) {
    const cells = results.get(String(name)) ?? new Map<string, Array<CellItem>>()
    results.set(String(name), cells)
    const own = cells.get(String(cell_id)) ?? []
    cells.set(String(cell_id), own)
    own.push({
      cell: String(cell_id),
      prompt: String(prompt_id),
      value: typeof value === "number" ? value : Number.NaN,
      split: String(split)
    })
  }
  return results
})
