import { describe, expect, it } from "vitest"
import { begin, fold, header, live, remaining, type Seen, type State, said, serves } from "../../src/cli/progress.ts"

const task = (key: string, stage: string, who = "seed 1 · op-grpo") => ({ key, stage, nodes: [stage], serves: who })
const start = (more: Partial<Parameters<typeof begin>[0]> = {}) =>
  begin({
    tasks: [task("a", "sft"), task("b", "grpo"), task("c", "grpo")],
    cells: 4,
    unshared: 9,
    jobs: 2,
    at: 0,
    ...more
  })
const play = (state: State, ...events: ReadonlyArray<Seen>) => events.reduce(fold, state)

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
      { _tag: "task", key: "a", state: "started", at: 0 },
      { _tag: "progress", key: "a", step: 40, of: 100, at: 3 },
      { _tag: "progress", key: "a", step: 50, of: 100, at: 8 }
    )
    expect(remaining(state, 8)).toBe(25)
    expect(remaining(state, 10)).toBe(23)
  })

  it("lets what a stage took in this run replace what it took before", () => {
    const state = play(
      start({ past: new Map([["grpo", 600]]), tasks: [task("b", "grpo"), task("c", "grpo")] }),
      { _tag: "task", key: "b", state: "started", at: 0 },
      { _tag: "task", key: "b", state: "done", at: 30 }
    )
    expect(remaining(state, 30)).toBe(30)
  })

  it("is nothing when all has ended", () => {
    const state = play(start({ tasks: [task("a", "sft")] }), { _tag: "task", key: "a", state: "cached", at: 0 })
    expect(remaining(state, 9)).toBe(0)
  })
})

describe("the live part", () => {
  const state = play(
    start(),
    { _tag: "task", key: "a", state: "cached", at: 0 },
    { _tag: "task", key: "b", state: "started", at: 0 },
    { _tag: "progress", key: "b", step: 0, of: 60, at: 0 },
    { _tag: "progress", key: "b", step: 30, of: 60, at: 30 },
    { _tag: "metrics", key: "b", values: { loss: 0.1, reward: 0.4123, "perf/tokens_per_second": 1240.4 } }
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
    expect(fold(state, { _tag: "progress", key: "zz", step: 1, of: 2, at: 1 })).toBe(state)
    expect(fold(state, { _tag: "metrics", key: "zz", values: {} })).toBe(state)
  })
})

describe("lines that stay", () => {
  const state = play(start(), { _tag: "task", key: "b", state: "started", at: 10 })

  it("says what is done and how long it took", () => {
    expect(said(state, { _tag: "task", key: "b", state: "done", at: 52 })).toEqual([
      "done  grpo  seed 1 · op-grpo  0:42"
    ])
    expect(said(state, { _tag: "task", key: "a", state: "cached", at: 52 })).toEqual([])
  })

  it("gives a failure its cause, log and remedy", () => {
    const failure = {
      cause: "NaN in loss at step 3",
      log: ["step 2", "step 3"],
      logPath: "store/attempts/x/log.txt",
      retry: "exp run a.yaml"
    }
    expect(said(state, { _tag: "failed", key: "b", failure, at: 12 })).toEqual([
      "FAILED  grpo  seed 1 · op-grpo  after 0:02",
      "  NaN in loss at step 3",
      "  last lines of its log:",
      "  | step 2",
      "  | step 3",
      "  log:   store/attempts/x/log.txt",
      "  again: exp run a.yaml"
    ])
    expect(fold(state, { _tag: "failed", key: "b", failure, at: 12 }).ended.get("b")).toBe("failed")
  })
})

it("names for whom a shared task runs", () => {
  const cell = (arm: string, seed: number) => ({ arm, seed })
  expect(serves([cell("a", 1)])).toBe("seed 1 · a")
  expect(serves([cell("a", 1), cell("b", 1)])).toBe("seed 1 · 2 arms")
  expect(serves([cell("a", 1), cell("a", 2)])).toBe("2 seeds · a")
})
