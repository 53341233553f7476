-- Reward (or whatever `name` says) over steps: mean over seeds and its standard deviation, per arm.
--   pnpm exp sql "$(cat warehouse/queries/learning-curves.sql)"
select c.experiment, c.arm, t.node, m.step, avg(m.value) as mean, coalesce(stddev_samp(m.value), 0) as deviation,
  count(distinct c.seed) as seeds
from metrics m join cell_tasks t using (task_key) join cells c using (cell_id)
where m.name = 'reward'
group by all
order by c.experiment, c.arm, t.node, m.step
