-- For one prompt, every completion of its last training step with every reward part and what came of it.
--   pnpm exp sql "$(cat warehouse/queries/completions.sql)"
-- Another prompt or arm: change the conditions of `chosen`.
with chosen as (
  select s.task_key, s.prompt_id, max(s.step) as step
  from samples s join cell_tasks t using (task_key)
  where t.node = 'grpo' and s.reward is not null
  group by s.task_key, s.prompt_id
  order by step desc, s.task_key, s.prompt_id
  limit 1
)
select s.prompt_id, s.step, s.idx, s.reward, s.advantage, p.name as part, p.value, p.weight, p.value * p.weight as adds,
  s.completion
from samples s join chosen using (task_key, prompt_id, step) join reward_parts p using (sample_id)
order by s.reward desc, s.idx, p.weight desc, p.name
