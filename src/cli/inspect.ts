/**
 * What `exp show` can show and the queries behind it: per kind of thing its row and the lists that belong to it. Ids are
 * whole names, or prefixes where they are hashes. Pure; the queries run on the published database.
 */

export type Kind = "experiment" | "cell" | "task" | "attempt" | "artifact" | "sample"

/** Text inside SQL. */
export const quoted = (text: string): string => `'${text.replaceAll("'", "''")}'`

/** Everything that an id could mean, as rows (kind, id): samples last, and only where nothing else fits. */
export const candidates = (id: string): ReadonlyArray<string> => {
  const q = quoted(id)
  return [
    `select distinct kind, id from (
       select 'experiment' as kind, experiment as id from cells where experiment = ${q}
       union all select 'cell', cell_id from cells where cell_id = ${q}
       union all select 'task', task_key from tasks where starts_with(task_key, ${q})
       union all select 'attempt', attempt_id from attempts where starts_with(attempt_id, ${q})
       union all select 'artifact', sha256 from all_artifacts where starts_with(sha256, ${q})
     ) order by all limit 21`,
    `select distinct 'sample' as kind, sample_id as id from samples where starts_with(sample_id, ${q}) order by all limit 21`
  ]
}

export interface Part {
  readonly name: string
  readonly sql: string
  /** One row, shown as the thing's own fields; else a list. */
  readonly one?: true
}

export const parts = (kind: Kind, id: string): ReadonlyArray<Part> => {
  const q = quoted(id)
  switch (kind) {
    case "experiment":
      return [
        {
          name: "experiment",
          one: true,
          sql: `select experiment, count(distinct arm) as arms, count(distinct seed) as seeds,
            count(*) filter (where state = 'done') as cells_done from cells where experiment = ${q} group by all`
        },
        { name: "cells", sql: `select cell_id, arm, seed, state from cells where experiment = ${q} order by cell_id` },
        {
          name: "ablation",
          sql: `select metric, arm, baseline, n_seeds, n_prompts, value, baseline_value, difference, low, high, method
            from ablation where experiment = ${q} order by metric, arm`
        },
        {
          name: "runs",
          sql: `select run_id, state, ran, cached, failed, started_at, ended_at from runs where experiment = ${q} order by run_id`
        }
      ]
    case "cell":
      return [
        { name: "cell", one: true, sql: `select * from cells where cell_id = ${q}` },
        {
          name: "tasks",
          sql: `select node, task_key, stage, state from cell_tasks join tasks using (task_key) where cell_id = ${q} order by node`
        },
        {
          name: "evaluation",
          sql: `select name, avg(value) as value, count(*) as prompts, split from cell_tasks join items using (task_key)
            where cell_id = ${q} and node = 'evaluate' group by name, split order by name, split`
        }
      ]
    case "task":
      return [
        {
          name: "task",
          one: true,
          sql: `select task_key, t.stage, state, version, seed, class, params, inputs from tasks t
            left join (select * from task_specs qualify row_number() over (partition by task_key order by run_id desc) = 1)
            using (task_key) where task_key = ${q}`
        },
        { name: "cells", sql: `select cell_id, node from cell_tasks where task_key = ${q} order by all` },
        {
          name: "attempts",
          sql: `select attempt_id, state, signal, provider, first_step, last_step, started_at, ended_at from attempts
            where task_key = ${q} order by attempt_id`
        },
        {
          name: "artifacts",
          sql: `select output, kind, sha256, bytes from artifacts where task_key = ${q} order by output`
        },
        {
          name: "metrics",
          sql: `select name, count(*) as steps, arg_min(value, step) as first, arg_max(value, step) as last from metrics
            where task_key = ${q} group by name order by name`
        }
      ]
    case "attempt":
      return [
        {
          name: "attempt",
          one: true,
          sql: `select *, 'attempts/' || attempt_id || '/log.txt' as log from attempts where attempt_id = ${q}`
        },
        { name: "events", sql: `select name, detail from events where attempt_id = ${q} order by seq` }
      ]
    case "artifact":
      return [
        {
          name: "artifact",
          one: true,
          sql: `select sha256, any_value(kind) as artifact_kind, any_value(bytes) as bytes, 'artifacts/' || sha256 as folder
            from all_artifacts where sha256 = ${q} group by sha256`
        },
        {
          name: "madeBy",
          sql: `select distinct task_key, output, attempt_id from all_artifacts where sha256 = ${q} order by all`
        }
      ]
    case "sample":
      return [
        { name: "sample", one: true, sql: `select * from samples where sample_id = ${q}` },
        {
          name: "parts",
          sql: `select name, value, weight, value * weight as weighted from reward_parts where sample_id = ${q} order by name`
        },
        {
          name: "cells",
          sql: `select cell_id, node from samples join cell_tasks using (task_key) where sample_id = ${q} order by all`
        }
      ]
  }
}

/** `exp ls`: one row per experiment. */
export const experiments = `
  select c.experiment, count(*) as cells, count(distinct c.arm) as arms, count(distinct c.seed) as seeds,
    count(*) filter (where c.state = 'done') as done, count(*) filter (where c.state = 'running') as running,
    count(*) filter (where c.state = 'failed') as failed, count(*) filter (where c.state = 'planned') as planned,
    any_value(r.started_at) as last_run, any_value(r.state) as last_run_state
  from cells c left join (
    select experiment, max(started_at) as started_at, arg_max(state, run_id) as state from runs group by experiment
  ) r using (experiment)
  group by c.experiment order by c.experiment`
