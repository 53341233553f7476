-- Which reward part moved first? Means of each part over an arm's seeds, step by step; a part has moved at the first step
-- whose mean with the two before it lies more than three standard errors from the mean of the first five steps (any change
-- at all where those five are equal). Rates (weight 0) are shown beside the parts that are shaped from them.
--   pnpm exp sql "$(cat warehouse/queries/first-moving-part.sql)"
with means as (
  select c.experiment, c.arm, t.node, regexp_extract(m.name, '^rewards/(.+)/mean$', 1) as part, m.step, avg(m.value) as value
  from metrics m join cell_tasks t using (task_key) join cells c using (cell_id)
  where m.name like 'rewards/%/mean' and m.value is not null
  group by c.experiment, c.arm, t.node, m.name, m.step
),
starts as (
  select experiment, arm, node, part, avg(value) as base, stddev_samp(value) as deviation, max(step) as until
  from (
    select *, row_number() over (partition by experiment, arm, node, part order by step) as place from means
  ) where place <= 5
  group by experiment, arm, node, part
  having count(*) = 5
),
smoothed as (
  select m.*, base, deviation, until, avg(value) over (
    partition by experiment, arm, node, part order by step rows between 2 preceding and current row
  ) as level
  from means m join starts using (experiment, arm, node, part)
),
moved as (
  select experiment, arm, node, part, min(step) as step, arg_min(level, step) as level, any_value(base) as base
  from smoothed
  where step > until + 2 and abs(level - base) > 3 * deviation * sqrt(1 / 3 + 1 / 5) + 1e-9
  group by experiment, arm, node, part
)
select s.experiment, s.arm, s.node, s.part, moved.step as moved_at,
  case when moved.level > s.base then 'up' when moved.level < s.base then 'down' end as direction,
  round(s.base, 4) as start, round(moved.level, 4) as level,
  case when moved.step is not null
    then rank() over (partition by s.experiment, s.arm, s.node order by moved.step nulls last) end as place
from starts s left join moved using (experiment, arm, node, part)
order by s.experiment, s.arm, s.node, moved_at nulls last, s.part
