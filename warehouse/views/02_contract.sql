-- What users' queries may rely on: docs/warehouse.md has every column.

create view tasks as
with facts as (
  select run_id, -1 as seq, task_key, 'planned' as state from raw.tasks
  union all select run_id, seq, task_key, state from raw.states
  union all select run_id, seq, task_key, 'done' from raw.binds
), latest as (
  select task_key, arg_max(state, (run_id, seq)) as state, max(run_id) as run_id from facts group by task_key
), stages as (
  select task_key, arg_max(stage, (run_id, seq)) as stage from raw.tasks group by task_key
)
select t.task_key, s.stage,
  -- What was running when its run died is running no more.
  case when t.state = 'running' and t.run_id not in (select run_id from raw.live) then 'failed' else t.state end as state
from latest t left join stages s using (task_key);

create view cell_tasks as
select t.cell_id, t.task_key, t.node
from raw.cell_tasks t join raw.current_cell c on c.run_id = t.run_id and c.seq = t.seq;

create view cells as
with states as (
  select ct.cell_id, count(*) as n, count(*) filter (where t.state = 'done') as done,
    bool_or(t.state = 'failed') as failed, bool_or(t.state = 'running') as running
  from cell_tasks ct left join tasks t using (task_key) group by ct.cell_id
)
select r.experiment, c.cell_id, c.arm, c.seed, c.params,
  case
    when s.failed then 'failed'
    when s.done = s.n then 'done'
    when s.running or (s.done > 0 and c.run_id in (select run_id from raw.live)) then 'running'
    else 'planned'
  end as state
from raw.current_cell c join raw.runs r using (run_id) left join states s using (cell_id);

create view attempts as
with devices as (
  select attempt_id, arg_max_null(detail, seq) as detail from raw.events where name = 'device' group by attempt_id
), steps as (
  select attempt_id, max(step) as last_step from (
    select attempt_id, step from raw.metrics
    union all select attempt_id, step from raw.samples
    union all select attempt_id, step - 1 from raw.progress where step > 0
  ) group by attempt_id
)
select a.attempt_id, a.task_key, a.code_digest, coalesce(d.detail ->> 'provider', 'none') as provider,
  d.detail ->> 'adapter' as adapter,
  case json_type(d.detail, '$.fallbackNodes')
    when 'ARRAY' then json_array_length(d.detail, '$.fallbackNodes')::bigint
    else try_cast(d.detail ->> 'fallbackNodes' as bigint)
  end as fallback_nodes,
  -- The journal's head says whether it did go on from a checkpoint; before there is one, what it was asked to do.
  coalesce(case when h.attempt_id is null then try_cast(a.resumes ->> 'step' as bigint) else h.resumes_step end, 0)
    as first_step,
  p.last_step, s.state, s.signal, a.started_at, s.ended_at
from raw.attempts a
  join raw.attempt_states s using (attempt_id)
  left join raw.heads h using (attempt_id)
  left join devices d using (attempt_id)
  left join steps p using (attempt_id);

create view artifacts as
select c.task_key, o.output, o.kind, o.sha256, o.bytes
from raw.current_realisation c join raw.outputs o using (attempt_id);

create view metrics as
select s.task_key, m.step, m.name, m.value
from raw.shown s join raw.metrics m on m.attempt_id = s.journal and m.seq < s.until;

create view items as
select s.task_key, i.prompt_id, i.split, i.name, i.value
from raw.shown s join raw.items i on i.attempt_id = s.journal and i.seq < s.until;

create view samples as
select md5(s.task_key || '/' || r.step || '/' || r.prompt_id || '/' || r.idx) as sample_id, s.task_key, r.step,
  r.prompt_id, r.idx, r.prompt, r.completion, r.reward, r.advantage
from raw.shown s join raw.samples r on r.attempt_id = s.journal and r.seq < s.until;

create view reward_parts as
select md5(s.task_key || '/' || r.step || '/' || r.prompt_id || '/' || r.idx) as sample_id, r.name, r.value, r.weight
from raw.shown s join raw.reward_parts r on r.attempt_id = s.journal and r.seq < s.until;

-- The same of every realisation there ever was.

create view all_artifacts as
select r.attempt_id, r.task_key, o.output, o.kind, o.sha256, o.bytes
from raw.realisations r join raw.outputs o using (attempt_id);

create view all_metrics as
select s.attempt_id, s.task_key, m.step, m.name, m.value
from raw.made s join raw.metrics m on m.attempt_id = s.journal and m.seq < s.until;

create view all_items as
select s.attempt_id, s.task_key, i.prompt_id, i.split, i.name, i.value
from raw.made s join raw.items i on i.attempt_id = s.journal and i.seq < s.until;

create view all_samples as
select s.attempt_id, md5(s.task_key || '/' || r.step || '/' || r.prompt_id || '/' || r.idx) as sample_id, s.task_key,
  r.step, r.prompt_id, r.idx, r.prompt, r.completion, r.reward, r.advantage
from raw.made s join raw.samples r on r.attempt_id = s.journal and r.seq < s.until;

create view all_reward_parts as
select s.attempt_id, md5(s.task_key || '/' || r.step || '/' || r.prompt_id || '/' || r.idx) as sample_id, r.name,
  r.value, r.weight
from raw.made s join raw.reward_parts r on r.attempt_id = s.journal and r.seq < s.until;
