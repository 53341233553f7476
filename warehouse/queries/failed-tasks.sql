-- Tasks whose last attempt did not succeed, whom they hold up, and what their journal ended with.
--   pnpm exp sql "$(cat warehouse/queries/failed-tasks.sql)"
with last_attempt as (
  select * from attempts qualify row_number() over (partition by task_key order by attempt_id desc) = 1
)
select t.stage, list_distinct(list(ct.node order by ct.node)) as nodes, count(distinct ct.cell_id) as cells, a.state,
  a.signal, a.last_step, any_value(e.error ->> 'tag') as error, any_value(e.error ->> 'message') as message,
  'attempts/' || a.attempt_id || '/log.txt' as log
from tasks t join last_attempt a using (task_key) left join cell_tasks ct using (task_key)
  left join raw.ends e using (attempt_id)
where t.state = 'failed'
group by t.stage, t.task_key, a.attempt_id, a.state, a.signal, a.last_step
order by t.stage, a.attempt_id
