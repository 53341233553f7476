-- How often did the effective sample size fall under 10 % of the sample, and in which arm? One row for each arm and node
-- that weights logged data: training steps of `ips` (a batch is the sample) and evaluations off policy (the log is).
--   pnpm exp sql "$(cat warehouse/queries/low-effective-sample-size.sql)"
with weighted as (
  select distinct c.experiment, c.arm, t.node, m.task_key, m.step, m.value as share
  from metrics m join cell_tasks t using (task_key) join cells c using (cell_id)
  where m.name = 'ope/ess_share'
)
select experiment, arm, node, count(*) as times, count(*) filter (where share < 0.1) as low,
  round(count(*) filter (where share < 0.1) / count(*), 4) as low_share, round(min(share), 4) as least,
  min(step) filter (where share < 0.1) as first_low_step
from weighted
where share is not null
group by experiment, arm, node
order by low_share desc, low desc, experiment, arm, node
