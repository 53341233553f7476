import { describe, expect, it } from "vitest"
import { planJson, planLines, reasonText } from "../../src/cli/planView.ts"
import type { Plan, PlannedTask, Reason } from "../../src/dsl/Planned.ts"

const reason = (kind: Reason["kind"], path: string, old: Reason["old"], next: Reason["new"]): Reason => ({
  kind,
  path,
  old,
  new: next
})

const task = (
  key: string,
  node: string,
  cells: ReadonlyArray<string>,
  more: Partial<PlannedTask> = {}
): PlannedTask => ({
  key,
  stage: node,
  version: 1,
  nodes: [node],
  cells,
  params: {},
  keyParams: {},
  inputs: {},
  outputs: {},
  seed: null,
  class: null,
  code: { digest: "", files: {}, packages: {} },
  source: { pipeline: "", params: {}, index: 0 },
  state: "new",
  reasons: [],
  growth: null,
  goesOn: null,
  contentKey: null,
  realisation: null,
  ...more
})

const cell = (arm: string, seed: number, keys: ReadonlyArray<string>) => ({
  id: `x/${arm}/seed=${seed}`,
  arm,
  seed,
  params: { grpo: { steps: 3 } },
  tasks: keys.map((key) => ({ key, node: key, stage: key, ordinal: 0 }))
})

const weight = reason("param", "reward.uniqueness.weight", 0.3, 0.1234)
const plan: Plan = {
  experiment: "x",
  cells: [cell("warm", 1, ["w"]), cell("warm", 2, ["w"]), cell("op", 1, ["w", "g1"]), cell("op", 2, ["w", "g2"])],
  tasks: [
    task("w", "world", ["x/warm/seed=1", "x/warm/seed=2", "x/op/seed=1", "x/op/seed=2"], { state: "cached" }),
    task("g1", "grpo", ["x/op/seed=1"], { state: "stale", reasons: [weight] }),
    task("g2", "grpo", ["x/op/seed=2"], { state: "stale", reasons: [weight] })
  ]
}

it("groups the tasks of equal node and reason, and counts what sharing saves", () => {
  expect(planLines(plan)).toEqual([
    "x: 4 cells, 3 tasks (6 unshared), 1 cached, 2 stale",
    "",
    "state   nodes  stage  tasks  cells  for               why",
    "──────  ─────  ─────  ─────  ─────  ────────────────  ──────────────────────────────────────────",
    "cached  world  world      1      4  2 seeds · 2 arms",
    "stale   grpo   grpo       2      2  2 seeds · op      grpo.reward.uniqueness.weight 0.3 → 0.1234"
  ])
})

it("prints for scripts what docs/cli.md promises, and nothing else", () => {
  const json = planJson(plan)
  expect(Object.keys(json)).toEqual(["experiment", "cells", "tasks"])
  expect(Object.keys(json.cells[0]!)).toEqual(["id", "arm", "seed", "params"])
  expect(json.tasks[1]).toEqual({
    key: "g1",
    nodes: ["grpo"],
    stage: "grpo",
    cells: ["x/op/seed=1"],
    state: "stale",
    reasons: [{ kind: "param", path: "reward.uniqueness.weight", old: 0.3, new: 0.1234 }],
    goesOn: null
  })
})

it("says where training goes on, and why it does not", () => {
  const steps = reason("param", "grpo.steps", 60, 120)
  const tasks = [
    task("g", "grpo", ["x/op/seed=1"], { state: "stale", reasons: [steps], goesOn: { from: 60 } }),
    task("s", "sft", ["x/op/seed=1"], { goesOn: { because: "the cosine schedule spans all steps" } })
  ]
  const lines = planLines({ experiment: "x", cells: [cell("op", 1, ["g", "s"])], tasks })
  expect(lines.at(-2)).toMatch(/grpo\.steps 60 → 120; goes on from step 60$/)
  expect(lines.at(-1)).toMatch(/ restarts: the cosine schedule spans all steps$/)
})

describe("reasons in words", () => {
  it.each([
    [reason("param", "grpo.steps", 3, 4), "grpo.steps 3 → 4"],
    [reason("param", "steps", null, { a: 1 }), 'grpo.steps none → {"a":1}'],
    [reason("code", "overtone/src/rewards/coverage.ts", "a", "b"), "code overtone/src/rewards/coverage.ts changed"],
    [reason("code", "overtone/src/rewards/mine.ts", null, "b"), "code overtone/src/rewards/mine.ts is new"],
    [reason("input", "policy", "a", "b"), "input policy will be another"],
    [reason("version", "grpo", 1, 2), "stage version 1 → 2"],
    [reason("missing", "policy", null, null), "policy is missing from the warehouse"]
  ])("%o", (given, text) => {
    expect(reasonText(given, "grpo")).toBe(text)
  })
})
