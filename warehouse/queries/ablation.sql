-- Every arm against its baseline, with intervals: the table that `exp run` ends with.
--   pnpm exp sql "$(cat warehouse/queries/ablation.sql)"
select experiment, metric, arm, baseline, round(value, 4) as value, round(baseline_value, 4) as baseline_value,
  round(difference, 4) as difference, round(low, 4) as low, round(high, 4) as high, n_seeds, n_prompts, method
from ablation
order by experiment, metric, difference desc nulls last, arm
