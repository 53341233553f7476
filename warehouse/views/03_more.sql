-- Beyond the contract: provenance, and the evaluations that an ablation is made of.

create view runs as
with ends as (
  select run_id, arg_max_null(state, seq) as state, arg_max_null(ran, seq) as ran, arg_max_null(cached, seq) as cached,
    arg_max_null(failed, seq) as failed, arg_max_null(ended_at, seq) as ended_at
  from raw.run_ends group by run_id
)
select r.run_id, r.experiment, r.file,
  coalesce(e.state, case when r.run_id in (select run_id from raw.live) then 'running' else 'killed' end) as state,
  e.ran, e.cached, e.failed, r.started_at, e.ended_at, r.provenance, r.report
from raw.runs r left join ends e using (run_id);

-- What each run asked of each task: what a later plan compares with.
create view task_specs as
select run_id, task_key, stage, version, params, inputs, class, seed from raw.tasks;

create view events as
select attempt_id, name, detail, seq from raw.events;

-- Evaluations of finished cells, one row per cell, prompt and metric. `arm` has the sweep point in it; `split` is the one
-- that `evaluate.split` asked for, the test split unless somebody is tuning.
create view evaluations as
select c.experiment, c.cell_id, c.arm, c.seed, i.prompt_id, i.name, i.value, i.split
from cells c
  join cell_tasks ct using (cell_id)
  join tasks t on t.task_key = ct.task_key and t.state = 'done'
  join items i on i.task_key = ct.task_key
where ct.node = 'evaluate';
