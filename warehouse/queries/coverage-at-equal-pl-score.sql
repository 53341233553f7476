-- Which arm covers most at equal PL-score? Results are put into bins of PL-score (`width`); the bins that all arms of an
-- experiment reach count alike for every arm, by how many results fall into them altogether. `compared` is the share of an
-- arm's results in such bins: where it is small, the arms are hardly comparable.
--   pnpm exp sql "$(cat warehouse/queries/coverage-at-equal-pl-score.sql)"
-- Another coverage: change the name (`eval/union/coverage` is the world's own).
with settings as (select 'eval/coverage/pluralistic' as measure, 0.05 as width),
results as (
  select experiment, arm, seed, prompt_id, max(value) filter (where name = 'eval/pl_score') as pl_score,
    max(value) filter (where name = s.measure) as coverage
  from evaluations, settings s
  where name in ('eval/pl_score', s.measure)
  group by experiment, arm, seed, prompt_id
),
binned as (
  select r.*, floor(pl_score / width) as bin from results r, settings where pl_score is not null and coverage is not null
),
shared as (
  select experiment, bin, count(*) as weight
  from binned join (select experiment, count(distinct arm) as arms from binned group by experiment) using (experiment)
  group by experiment, bin, arms
  having count(distinct arm) = arms
),
each_bin as (select experiment, arm, bin, avg(coverage) as coverage, count(*) as n from binned group by experiment, arm, bin),
standard as (
  select experiment, arm, sum(e.coverage * weight) / sum(weight) as at_equal_pl_score, sum(n) as n
  from each_bin e join shared using (experiment, bin)
  group by experiment, arm
)
select b.experiment, b.arm, round(any_value(s.at_equal_pl_score), 4) as coverage_at_equal_pl_score,
  round(avg(b.coverage), 4) as coverage, round(avg(b.pl_score), 4) as pl_score,
  round(coalesce(any_value(s.n), 0) / count(*), 3) as compared, count(*) as results
from binned b left join standard s using (experiment, arm)
group by b.experiment, b.arm
order by b.experiment, coverage_at_equal_pl_score desc nulls last, b.arm
