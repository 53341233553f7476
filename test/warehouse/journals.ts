/** Journals as the runner writes them, for tests: a small warehouse on disk, made line by line. */
import { appendFileSync, mkdirSync, mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { Effect } from "effect"

export type Line = Readonly<Record<string, unknown>>

export const text = (lines: ReadonlyArray<Line>): string => lines.map((line) => `${JSON.stringify(line)}\n`).join("")

/** A folder that is removed with the scope. */
export const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "overtone-warehouse-"))),
  (dir) => Effect.sync(() => rmSync(dir, { recursive: true, force: true }))
)

export const put = (dir: string, file: string, content: string | ReadonlyArray<Line>): void => {
  mkdirSync(dirname(join(dir, file)), { recursive: true })
  appendFileSync(join(dir, file), typeof content === "string" ? content : text(content))
}

export const run = (id: string, more: Line = {}): Line => ({
  t: "run",
  format: 1,
  run: id,
  experiment: "demo",
  file: "experiments/demo.yaml",
  startedAt: 1_700_000_000_000,
  provenance: { git: { commit: "abc", dirty: false } },
  report: { metrics: ["eval/coverage/exact"], baseline: { method: "base" }, gates: [] },
  ...more
})

export const cell = (arm: string, seed: number, tasks: Readonly<Record<string, string>>, more: Line = {}): Line => ({
  t: "cell",
  cell: `demo/${arm}/seed=${seed}`,
  arm,
  seed,
  params: { arm, steps: 3 },
  tasks: Object.entries(tasks).map(([node, key]) => ({ key, node })),
  ...more
})

export const task = (key: string, stage: string, more: Line = {}): Line => ({
  t: "task",
  key,
  stage,
  version: 1,
  params: { steps: 3 },
  inputs: {},
  class: null,
  seed: null,
  ...more
})

export const attempt = (id: string, key: string, more: Line = {}): Line => ({
  t: "attempt",
  attempt: id,
  key,
  contentKey: `c-${key}`,
  codeDigest: "d0",
  pid: 7,
  startedAt: 1_700_000_001_000,
  resumes: null,
  ...more
})

export const ended = (
  id: string,
  state: "done" | "failed" | "killed" = "done",
  signal: string | null = null
): Line => ({
  t: "attempt-end",
  attempt: id,
  state,
  signal,
  endedAt: 1_700_000_002_500
})

export const bind = (key: string, id: string, cached = false): Line => ({ t: "bind", key, attempt: id, cached })
export const state = (key: string, to: string): Line => ({ t: "state", key, state: to })
export const runEnd: Line = { t: "end", state: "done", ran: 1, cached: 0, failed: 0, endedAt: 1_700_000_003_000 }

export const head = (id: string, key: string, resumes: Line | null = null): Line => ({
  t: "head",
  format: 1,
  attempt: id,
  task: key,
  stage: "grpo",
  contentKey: `c-${key}`,
  codeDigest: "d0",
  resumes
})

export const metrics = (step: number, values: Readonly<Record<string, number | null>>): Line => ({
  t: "metrics",
  step,
  values
})

export const sample = (step: number, promptId: string, idx: number, parts: Readonly<Record<string, number>> = {}) => ({
  step,
  promptId,
  idx,
  prompt: `prompt ${promptId}`,
  completion: `completion ${idx} of ${promptId} at ${step}\n"quoted" 🌓`,
  reward: Object.values(parts).reduce((a, b) => a + b, 0),
  advantage: idx - 0.5,
  parts: Object.entries(parts).map(([name, value]) => ({ name, value, weight: 1 }))
})

export const items = (name: string, values: Readonly<Record<string, number | null>>, split = "test"): Line => ({
  t: "items",
  rows: Object.entries(values).map(([promptId, value]) => ({ promptId, split, name, value }))
})

export const outputs: Line = { t: "end", outputs: { policy: { kind: "policy", sha256: "f00d", bytes: 12 } } }
