-- How many tasks cells share: what an experiment would have cost without sharing, stage by stage.
--   pnpm exp sql "$(cat warehouse/queries/shared-tasks.sql)"
select c.experiment, t.stage, count(distinct ct.task_key) as tasks, count(*) as unshared,
  round(count(*) / count(distinct ct.task_key), 2) as cells_per_task
from cells c join cell_tasks ct using (cell_id) join tasks t using (task_key)
group by c.experiment, t.stage
order by c.experiment, unshared - tasks desc, t.stage
