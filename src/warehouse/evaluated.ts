/** What is bound and evaluated in a warehouse: the cells that comparisons are made of. Pure; the query is for whoever asks. */
import { Schema } from "effect"
import type { CellState } from "./ablation.ts"

/** The cells of every experiment's newest whole run, and of partial runs since: a `CellRow` for each task. */
export const cellsQuery = `
  with newest as (select experiment, max(run_id) filter (where not partial) as whole from raw.runs group by experiment),
  scope as (
    select distinct r.experiment, c.cell_id
    from raw.cells c join raw.runs r using (run_id) join newest n on n.experiment = r.experiment
    where n.whole is null or r.run_id >= n.whole
  ), classes as (
    select task_key, arg_max_null(class, (run_id, seq)) as class from raw.tasks group by task_key
  )
  select s.experiment, c.cell_id as cell, c.arm, c.seed::integer as seed, c.params::varchar as params, c.run_id as run,
    t.node, t.task_key as key, k.class::varchar as class, e.state = 'done' as done, a.attempt_id as attempt
  from scope s
    join raw.current_cell c using (cell_id)
    join cell_tasks t using (cell_id)
    left join classes k using (task_key)
    left join tasks e on e.task_key = t.task_key and t.node = 'evaluate'
    left join raw.current_realisation a on a.task_key = t.task_key and t.node = 'evaluate'
  order by s.experiment, c.cell_id, t.node, t.task_key`

export const CellRow = Schema.Struct({
  experiment: Schema.String,
  cell: Schema.String,
  arm: Schema.String,
  seed: Schema.Int,
  params: Schema.String,
  run: Schema.String,
  node: Schema.String,
  key: Schema.String,
  class: Schema.NullOr(Schema.String),
  done: Schema.NullOr(Schema.Boolean),
  attempt: Schema.NullOr(Schema.String)
})
export type CellRow = typeof CellRow.Type

/** A cell with what evaluated it. */
export interface Evaluated extends CellState {
  /** Task and attempt of its evaluation; null until it is done. */
  readonly evaluation: string | null
  readonly experiment: string
}

export const cellsOf = (rows: ReadonlyArray<CellRow>): ReadonlyArray<Evaluated> =>
  [...Map.groupBy(rows, (row) => row.cell).values()].map((own) => {
    const { experiment, cell, arm, seed, params, run } = own[0]!
    const evaluations = own.filter((row) => row.node === "evaluate")
    const done = evaluations.length > 0 && evaluations.every((row) => row.done && row.attempt !== null)
    return {
      experiment,
      cell,
      arm,
      seed,
      params,
      run,
      tasks: own.map((row) => ({ node: row.node, key: row.key, class: row.class })),
      evaluation: done ? evaluations.map((row) => `${row.key}@${row.attempt}`).join() : null
    }
  })
