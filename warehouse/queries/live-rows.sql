-- How well generation fills what the device computes, stage by stage: the share of decoded rows x steps that wrote a token, and
-- what only fills up to the sizes that programs are compiled for (on devices that compile for sizes).
--   pnpm exp sql "$(cat warehouse/queries/live-rows.sql)"
select t.stage, m.name, round(avg(m.value), 3) as mean, round(min(m.value), 3) as least, round(max(m.value), 3) as most,
  count(distinct m.task_key) as tasks
from metrics m join tasks t using (task_key)
where m.name = 'perf/live_share' or m.name like 'perf/bucket_padding/%'
group by t.stage, m.name
order by t.stage, m.name
