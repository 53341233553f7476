import { describe, expect, it } from "vitest"
import { begin, fold, header, live, remaining, type State, said, serves, views } from "../../src/cli/progress.ts"
import type { RunEvent } from "../../src/runner/events.ts"

const task = (key: string, stage: string, who = "seed 1 · op-grpo") => ({ key, name: stage, serves: who })
const start = (more: Partial<Parameters<typeof begin>[0]> = {}) =>
  begin({
    tasks: [task("a", "sft"), task("b", "grpo"), task("c", "grpo")],
    cells: 4,
    unshared: 9,
    jobs: 2,
    warehouse: "store",
    retry: "exp run a.yaml",
    at: 0,
    ...more
  })
type TaskState = Extract<RunEvent, { readonly type: "task" }>["state"]
const stages: Readonly<Record<string, string>> = { a: "sft", b: "grpo", c: "grpo" }
const turn = (key: string, state: TaskState, more: object = {}): RunEvent => ({
  type: "task",
  key,
  stage: stages[key]!,
  nodes: [stages[key]!],
  pid: null,
  state,
  ...more
})
const step = (
  key: string,
  step: number,
  of: number,
  metrics: Readonly<Record<string, number | null>> = {}
): RunEvent => ({
  type: "progress",
  key,
  step,
  of,
  metrics
})
const play = (state: State, ...events: ReadonlyArray<readonly [number, RunEvent]>) =>
  events.reduce((now, [at, event]) => fold(now, event, at), state)

describe("the estimate", () => {
  it("is silent when nothing is known", () => {
    expect(remaining(start(), 0)).toBeNull()
    expect(header(start(), 0, 1)).toBe("4 cells, 3 tasks (9 unshared), 1 cached")
  })

  it("comes from earlier runs: 10 + 60 + 60 over two jobs, and no less than the longest task", () => {
    const past = new Map([
      ["sft", 10],
      ["grpo", 60]
    ])
    expect(remaining(start({ past }), 0)).toBe(65)
    expect(remaining(start({ past, jobs: 8 }), 0)).toBe(60)
    expect(header(start({ past }), 0, 0)).toBe("4 cells, 3 tasks (9 unshared), 0 cached, about 65 s")
  })

  it("comes from a task's own rate once it has stepped, from where this attempt began", () => {
    // Resumed at step 40: 10 steps in 5 s, so 0.5 s a step and 50 steps left.
    const state = play(
      start({ tasks: [task("a", "sft")], jobs: 1 }),
      [0, turn("a", "started", { firstStep: 40 })],
      [3, step("a", 40, 100)],
      [8, step("a", 50, 100)]
    )
    expect(remaining(state, 8)).toBe(25)
    expect(remaining(state, 10)).toBe(23)
  })

  it("lets what a stage took in this run replace what it took before", () => {
    const state = play(
      start({ past: new Map([["grpo", 600]]), tasks: [task("b", "grpo"), task("c", "grpo")] }),
      [0, turn("b", "started")],
      [30, turn("b", "done")]
    )
    expect(remaining(state, 30)).toBe(30)
  })

  it("is nothing when all has ended", () => {
    expect(remaining(play(start({ tasks: [task("a", "sft")] }), [0, turn("a", "cached")]), 9)).toBe(0)
  })
})

describe("the live part", () => {
  const state = play(
    start(),
    [0, turn("a", "cached")],
    [0, turn("b", "started")],
    [0, step("b", 0, 60)],
    [30, step("b", 30, 60, { loss: 0.1, reward: 0.4123, "perf/tokens_per_second": 1240.4 })]
  )

  it("shows step, bar, reward, rate and time left of each running task, and the total", () => {
    const lines = live(state, 30)
    expect(lines).toHaveLength(2)
    expect(lines[0]).toMatch(
      /^ grpo {2}seed 1 · op-grpo {2}━{12}─{12} +30\/60 {2}reward 0\.412 {2}1,240 tok\/s {2}0:30 left$/
    )
    expect(lines[1]).toBe(" 1/3 tasks · 0:30 · about 30 s left")
  })

  it.each([20, 60, 80, 200])("never draws beyond %i columns", (columns) => {
    for (const line of live(state, 30, columns)) expect(line.length).toBeLessThanOrEqual(columns)
  })

  it("ignores what it hears of tasks that are not running", () => {
    expect(fold(state, step("zz", 1, 2), 1)).toBe(state)
  })
})

describe("lines that stay", () => {
  const state = play(start(), [10, turn("b", "started")])

  it("say what is done and how long it took, and nothing of what was cached", () => {
    expect(said(state, turn("b", "done"), 52)).toEqual(["done  grpo  seed 1 · op-grpo  0:42"])
    expect(said(state, turn("a", "cached"), 52)).toEqual([])
  })

  it("give a failure its cause, log and remedy", () => {
    const failure = {
      tag: "NotFinite",
      message: "loss is NaN at step 3",
      signal: null,
      logLines: ["step 2", "step 3"],
      log: "attempts/x/log.txt"
    }
    const event = turn("b", "failed", { failure })
    expect(said(state, event, 12)).toEqual([
      "FAILED  grpo  seed 1 · op-grpo  after 0:02",
      "  loss is NaN at step 3",
      "  last lines of its log:",
      "  | step 2",
      "  | step 3",
      "  log:   store/attempts/x/log.txt",
      "  again: exp run a.yaml"
    ])
    expect(fold(state, event, 12).ended.get("b")).toBe("failed")
  })

  it("say what is not tried, and because of what", () => {
    const event: RunEvent = { type: "skipped", key: "c", stage: "grpo", nodes: ["grpo"], because: "a" }
    expect(said(state, event, 12)).toEqual(["skipped  grpo  seed 1 · op-grpo: it needs sft, which failed"])
    expect(fold(state, event, 12).ended.get("c")).toBe("skipped")
  })

  it("say where a resumed task goes on", () => {
    expect(said(start(), turn("b", "started", { firstStep: 40 }), 0)).toEqual([
      "resumed  grpo  seed 1 · op-grpo  from step 40"
    ])
  })
})

it("names for whom a shared task runs", () => {
  const cell = (arm: string, seed: number) => ({ arm, seed })
  expect(serves([cell("a", 1)])).toBe("seed 1 · a")
  expect(serves([cell("a", 1), cell("b", 1)])).toBe("seed 1 · 2 arms")
  expect(serves([cell("a", 1), cell("a", 2)])).toBe("2 seeds · a")
})

it("names a task by its node, and by its stage too where the node has several", () => {
  const one = (key: string, node: string, stage: string) => ({ key, stage, nodes: [node], cells: ["x"] })
  const tasks = [one("a", "grpo", "grpo"), one("b", "evaluate", "generate"), one("c", "evaluate", "evaluate")]
  expect(views({ cells: [{ id: "x", arm: "op", seed: 0 }], tasks }).map((view) => view.name)).toEqual([
    "grpo",
    "evaluate (generate)",
    "evaluate (evaluate)"
  ])
})
