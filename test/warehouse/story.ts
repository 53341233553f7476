/** A small warehouse with a story: what most tests of views and of the live database are asked of. */
import { Effect } from "effect"
import { open } from "../../src/warehouse/live.ts"
import * as j from "./journals.ts"

const parts = { coverage: 1, uniqueness: 0.5 }

/** One run: `pre` shared by two cells, `method`'s GRPO killed after a checkpoint and resumed, evaluations of both. */
export const story = (dir: string) => {
  const keys = { pre: "k-pre", grpo: "k-grpo", evaluateM: "k-eval-m", evaluateB: "k-eval-b" }
  const killed = [
    j.head("a2", keys.grpo),
    { t: "event", name: "device", detail: { provider: "cpu", adapter: "Test CPU", fallbackNodes: 0 } },
    j.metrics(0, { loss: 1, reward: 0.25 }),
    { t: "samples", rows: [j.sample(0, "p1", 0, parts), j.sample(0, "p1", 1, parts)] },
    j.metrics(1, { loss: 0.5, reward: null })
  ]
  const offset = Buffer.byteLength(j.text(killed))
  j.put(dir, "attempts/a2/journal.ndjson", [
    ...killed,
    { t: "checkpoint", step: 2, state: { at: 2 }, sha256: "00", offset },
    j.metrics(2, { loss: 99, reward: 99 })
  ])
  j.put(dir, "attempts/a2/journal.ndjson", '{"t":"metrics","step":3,"val')
  j.put(dir, "attempts/a1/journal.ndjson", [j.head("a1", keys.pre), j.metrics(0, { loss: 2 }), j.outputs])
  j.put(dir, "attempts/a3/journal.ndjson", [
    j.head("a3", keys.grpo, { attempt: "a2", offset, step: 2 }),
    j.metrics(2, { loss: 0.25, reward: 0.75 }),
    { t: "samples", rows: [j.sample(2, "p2", 0, parts)] },
    { t: "progress", step: 3, of: 3 },
    j.outputs
  ])
  const coverage = (shift: number) => j.items("eval/coverage/exact", { p1: 0.25 + shift, p2: 0.5 + shift, p3: shift })
  j.put(dir, "attempts/a4/journal.ndjson", [j.head("a4", keys.evaluateM), coverage(0.125), j.outputs])
  j.put(dir, "attempts/a5/journal.ndjson", [j.head("a5", keys.evaluateB), coverage(0), j.outputs])
  j.put(dir, "runs/r1.ndjson", [
    j.run("r1"),
    j.cell("method", 0, { pretrain: keys.pre, grpo: keys.grpo, evaluate: keys.evaluateM }),
    j.cell("base", 0, { pretrain: keys.pre, evaluate: keys.evaluateB }),
    j.task(keys.pre, "sft"),
    j.task(keys.grpo, "grpo", { class: { provider: "cpu", dtype: "f32" }, seed: 0 }),
    j.task(keys.evaluateM, "evaluate"),
    j.task(keys.evaluateB, "evaluate"),
    ...["a1 k-pre", "a2 k-grpo", "a3 k-grpo", "a4 k-eval-m", "a5 k-eval-b"].flatMap((pair) => {
      const [id, key] = pair.split(" ") as [string, string]
      const start = [j.state(key, "running"), j.attempt(id, key)]
      return id === "a2"
        ? [...start, j.ended(id, "killed", "SIGKILL")]
        : [...start, j.ended(id), j.bind(key, id), j.state(key, "done")]
    }),
    j.runEnd
  ])
}

/** The contract's views with their columns. */
export const columns = {
  cells: ["experiment", "cell_id", "arm", "seed", "params", "state"],
  cell_tasks: ["cell_id", "task_key", "node"],
  tasks: ["task_key", "stage", "state"],
  attempts: [
    "attempt_id",
    "task_key",
    "code_digest",
    "provider",
    "adapter",
    "fallback_nodes",
    "first_step",
    "last_step",
    "state",
    "signal",
    "started_at",
    "ended_at"
  ],
  artifacts: ["task_key", "output", "kind", "sha256", "bytes"],
  metrics: ["task_key", "step", "name", "value"],
  items: ["task_key", "prompt_id", "split", "name", "value"],
  samples: ["sample_id", "task_key", "step", "prompt_id", "idx", "prompt", "completion", "reward", "advantage"],
  reward_parts: ["sample_id", "name", "value", "weight"],
  ablation: [
    "experiment",
    "metric",
    "arm",
    "baseline",
    "n_seeds",
    "n_prompts",
    "value",
    "baseline_value",
    "difference",
    "low",
    "high",
    "method"
  ]
}

/** Takes in what is there, and publishes it. */
export const opened = (dir: string) => Effect.scoped(Effect.flatMap(open(dir), (live) => live.publish))
