-- From journals to "what holds now": which run is alive, what became of each attempt, whose rows belong to whom.

-- The run that may still be going on: the newest, unless it has ended. There is one supervisor at a time.
create view raw.live as
select run_id from (select max(run_id) as run_id from raw.runs)
where run_id is not null and run_id not in (select run_id from raw.run_ends);

-- An attempt that nobody saw end, in a run that is over, was killed with its supervisor.
create view raw.attempt_states as
with ends as (
  select attempt_id, arg_max_null(state, (run_id, seq)) as state, arg_max_null(signal, (run_id, seq)) as signal,
    arg_max_null(ended_at, (run_id, seq)) as ended_at
  from raw.attempt_ends group by attempt_id
)
select a.attempt_id, e.signal, e.ended_at,
  coalesce(e.state, case when l.run_id is not null then 'running' else 'killed' end) as state
from raw.attempts a left join ends e using (attempt_id) left join raw.live l on l.run_id = a.run_id;

-- An attempt's rows: its own journal, and of each journal it goes on from (and so on) the lines before an offset.
create view raw.lineage as
with recursive chain as (
  select attempt_id, attempt_id as journal, 9223372036854775807::bigint as until, 0 as depth from raw.heads
  union all
  select c.attempt_id, h.resumes_attempt, h.resumes_offset, c.depth + 1
  from chain c join raw.heads h on h.attempt_id = c.journal
  where h.resumes_attempt is not null and c.depth < 100000
)
select attempt_id, journal, until from chain;

-- Every attempt that was ever a task's realisation, or tried to be. One attempt may serve several tasks (early cutoff).
create view raw.realisations as
select task_key, attempt_id from raw.attempts union select task_key, attempt_id from raw.binds;

-- The one that counts: while a task runs, the running attempt; else the one bound last; else, if none ever was, the
-- last that failed.
create view raw.current_realisation as
select task_key, arg_max(attempt_id, (rank, run_id, seq)) as attempt_id
from (
  select task_key, attempt_id, 1 as rank, run_id, seq from raw.binds
  union all
  select a.task_key, a.attempt_id, case s.state when 'running' then 2 else 0 end, a.run_id, a.seq
  from raw.attempts a join raw.attempt_states s using (attempt_id)
)
group by task_key;

-- Where the rows shown for a task lie, and where all that were ever made for it lie.
create view raw.shown as
select c.task_key, c.attempt_id, l.journal, l.until
from raw.current_realisation c join raw.lineage l using (attempt_id);
create view raw.made as
select r.task_key, r.attempt_id, l.journal, l.until
from raw.realisations r join raw.lineage l using (attempt_id);

-- The line that bound each cell last.
create view raw.current_cell as
select run_id, seq, cell_id, arm, seed, params from raw.cells
qualify row_number() over (partition by cell_id order by run_id desc, seq desc) = 1;
