-- What the journals say, row by row. Nothing here is ever updated: a row's identity is (file, byte offset of its line,
-- index in the line), so that a rebuild is a replay. People read the views of schema main; the columns here are private.

create schema raw;

-- How far each journal has been read: bytes of whole lines. Written in the transaction that stores their rows.
create table raw.journals (file varchar not null, bytes bigint not null);

-- Run journals: runs/<run id>.ndjson. `seq` is the line's byte offset.
create table raw.runs (
  run_id varchar not null, seq bigint not null, experiment varchar not null, file varchar, started_at timestamp,
  provenance json, report json, partial boolean not null
);
create table raw.cells (
  run_id varchar not null, seq bigint not null, cell_id varchar not null, arm varchar, seed bigint, params json
);
create table raw.cell_tasks (
  run_id varchar not null, seq bigint not null, line_index integer not null, cell_id varchar not null,
  task_key varchar not null, node varchar not null
);
create table raw.tasks (
  run_id varchar not null, seq bigint not null, task_key varchar not null, stage varchar not null, version bigint,
  params json, inputs json, class json, seed bigint
);
create table raw.attempts (
  run_id varchar not null, seq bigint not null, attempt_id varchar not null, task_key varchar not null,
  content_key varchar, code_digest varchar, pid bigint, started_at timestamp, resumes json
);
create table raw.states (
  run_id varchar not null, seq bigint not null, task_key varchar not null, state varchar not null, attempt_id varchar
);
create table raw.binds (
  run_id varchar not null, seq bigint not null, task_key varchar not null, attempt_id varchar not null,
  cached boolean not null
);
create table raw.attempt_ends (
  run_id varchar not null, seq bigint not null, attempt_id varchar not null, state varchar not null, signal varchar,
  ended_at timestamp, error json
);
create table raw.run_ends (
  run_id varchar not null, seq bigint not null, state varchar, ran bigint, cached bigint, failed bigint,
  ended_at timestamp
);

-- Attempt journals: attempts/<attempt id>/journal.ndjson.
create table raw.heads (
  attempt_id varchar not null, seq bigint not null, task_key varchar, stage varchar, content_key varchar,
  code_digest varchar, resumes_attempt varchar, resumes_offset bigint, resumes_step bigint
);
create table raw.metrics (
  attempt_id varchar not null, seq bigint not null, line_index integer not null, step integer not null,
  name varchar not null, value double
);
create table raw.samples (
  attempt_id varchar not null, seq bigint not null, line_index integer not null, step integer not null,
  prompt_id varchar not null, idx integer not null, prompt varchar, completion varchar, reward double, advantage double
);
create table raw.reward_parts (
  attempt_id varchar not null, seq bigint not null, line_index integer not null, part_index integer not null,
  step integer not null, prompt_id varchar not null, idx integer not null, name varchar not null, value double,
  weight double
);
create table raw.items (
  attempt_id varchar not null, seq bigint not null, line_index integer not null, prompt_id varchar not null,
  split varchar not null, name varchar not null, value double
);
create table raw.events (attempt_id varchar not null, seq bigint not null, name varchar not null, detail json);
create table raw.progress (attempt_id varchar not null, seq bigint not null, step integer not null, steps integer);
create table raw.checkpoints (
  attempt_id varchar not null, seq bigint not null, step integer not null, state json, sha256 varchar, bytes bigint
);
create table raw.outputs (
  attempt_id varchar not null, seq bigint not null, output varchar not null, kind varchar, sha256 varchar, bytes bigint
);
create table raw.ends (attempt_id varchar not null, seq bigint not null, error json);

-- Derived: arithmetic over the evaluations, made again before every publication in which they changed.
create table ablation (
  experiment varchar not null, metric varchar not null, arm varchar not null, baseline varchar, n_seeds integer not null,
  n_prompts integer not null, value double, baseline_value double, difference double, low double, high double,
  method varchar not null
);
create table raw.ablation_inputs (fingerprint varchar not null);
