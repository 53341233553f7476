import { chmodSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { RunEvent, TaskEvent } from "../../src/runner/events.ts"
import { select } from "../../src/runner/selection.ts"
import { type Params, planOf, resultOf, runLines, runPlan } from "../support/counted.ts"
import { hold, release } from "../support/counting.ts"
import { freshFolder } from "../support/folders.ts"

const fresh = freshFolder("run")

const tasks = (events: ReadonlyArray<RunEvent>) => events.filter((e): e is TaskEvent => e.type === "task")
const states = (events: ReadonlyArray<RunEvent>) => tasks(events).map((e) => `${e.nodes.join("+")} ${e.state}`)
const failureOf = (events: ReadonlyArray<RunEvent>) => tasks(events).find((e) => e.state === "failed")?.failure
const keyOf = (params: Params, node: string): string =>
  planOf(params).tasks.find((task) => task.nodes.includes(node))?.key ?? ""

describe("a run", () => {
  it.live("goes from plan to worker processes, journals and artifacts; a second run does nothing", () =>
    Effect.gen(function* () {
      const root = fresh()
      const plan = planOf({ walk: { ms: 40 } })
      const first = yield* runPlan(root, plan)
      assert.deepInclude(first.summary, { ran: 5, cached: 0, failed: 0, skipped: 0, cells: 1 })
      const started = tasks(first.events).filter((e) => e.state === "started")
      assert.isTrue(started.every((e) => e.pid !== null && e.pid !== process.pid))
      assert.strictEqual(new Set(started.map((e) => e.pid)).size, 5)
      assert.deepInclude(first.events.filter((e) => e.type === "progress").at(-1), { step: 6, of: 6 })
      // Every journal was taken in whole, and readers saw the end.
      for (const [path, offset] of first.index.ingested) {
        assert.strictEqual(offset, readFileSync(join(root, path)).length, path)
      }
      assert.isAtLeast(first.index.published, 1)
      // Four, and the checkpoint that a walk which does not grow leaves empty. `walk` and `other` differ only in their pace, so they are the same bytes: one artifact.
      assert.strictEqual(readdirSync(join(root, "artifacts")).length, 5)
      assert.isFalse(readdirSync(join(root, "attempts")).some((a) => existsSync(join(root, "attempts", a, "out"))))

      const again = yield* runPlan(root, plan)
      assert.deepInclude(again.summary, { ran: 0, cached: 5, failed: 0 })
      assert.isTrue(tasks(again.events).every((e) => e.state === "cached" && e.pid === null))
      assert.strictEqual(runLines(root, "attempt").length, 5)
      assert.deepInclude(runLines(root, "end").at(-1), { state: "done", ran: 0, cached: 5 })
      assert.strictEqual(runLines(root, "bind").length, 10)
    })
  )

  it.live("keeps nothing that names its own place, and gives the same bytes one after another or two at once", () =>
    Effect.gen(function* () {
      const [one, two] = [fresh(), fresh()]
      const plan = planOf({ walk: { ms: 30 }, other: { ms: 30, steps: 7 } })
      yield* runPlan(one, plan, { jobs: 1 })
      let running = 0
      let most = 0
      // neither ends before both have begun
      hold(two, 3)
      yield* runPlan(two, plan, {
        jobs: 2,
        onEvent: (e) => {
          if (e.type !== "task") return
          running += e.state === "started" ? 1 : -1
          most = Math.max(most, running)
          if (running === 2) release(two)
        }
      })
      assert.strictEqual(most, 2)
      for (const { key } of plan.tasks) assert.deepStrictEqual(resultOf(two, key), resultOf(one, key))
      for (const attempt of readdirSync(join(one, "attempts"))) {
        for (const file of ["task.json", "journal.ndjson"]) {
          assert.notInclude(readFileSync(join(one, "attempts", attempt, file), "utf8"), one)
        }
      }
    })
  )

  it.live("binds a consumer whose inputs came out the same, although they were made again (early cutoff)", () =>
    Effect.gen(function* () {
      const root = fresh()
      yield* runPlan(root, planOf({}))
      // Other code for `walk`: it runs again, its bytes are equal, and what follows it is not run.
      const edited = yield* runPlan(root, planOf({}, { digests: { walk: "ed17ed" } }))
      assert.sameMembers(states(edited.events), [
        "numbers cached",
        "walk+other started",
        "walk+other done",
        "round cached",
        "judge cached"
      ])
      // Another parameter: new keys all the way down, equal bytes after rounding, so `judge` alone is spared.
      const changed = yield* runPlan(root, planOf({ walk: { steps: 7 } }))
      assert.includeMembers(states(changed.events), ["walk done", "round done", "judge cached"])
      assert.deepInclude(changed.summary, { ran: 2, cached: 3 })
    })
  )

  it.live("does equal work once when two tasks come to the same content", () =>
    Effect.gen(function* () {
      const root = fresh()
      // Different parameters make different keys; `count` zero makes the same (empty) data.
      const a = planOf({ numbers: { count: 0, times: 1 } })
      const b = planOf({ numbers: { count: 0, times: 2 } })
      const cells = [...a.cells, ...b.cells.map((cell) => ({ ...cell, id: "counting/two/seed=0", arm: "two" }))]
      const known = new Set(a.tasks.map(({ key }) => key))
      const both = { ...a, cells, tasks: [...a.tasks, ...b.tasks.filter(({ key }) => !known.has(key))] }
      const { summary } = yield* runPlan(root, both)
      assert.deepInclude(summary, { ran: 5, cached: 3, cells: 2 }) // numbers twice; walk, round, judge once
    })
  )
})

describe("a failure", () => {
  it.live("of a stage names its error, keeps what does not depend on it going, and is tried again", () =>
    Effect.gen(function* () {
      const root = fresh()
      const { events, summary } = yield* runPlan(root, planOf({ walk: { mood: "typed" } }))
      assert.deepInclude(summary, { ran: 2, failed: 1, skipped: 2 })
      const walk = keyOf({ walk: { mood: "typed" } }, "walk")
      assert.deepInclude(failureOf(events), {
        tag: "WalkLost",
        message: "the walk lost its way at step 3",
        signal: null
      })
      assert.isTrue(events.filter((e) => e.type === "skipped").every((e) => e.because === walk))
      assert.include(states(events), "other done")
      assert.deepInclude(runLines(root, "attempt-end").find((l) => l["state"] === "failed")?.["error"], {
        tag: "WalkLost"
      })
      const last = new Map(runLines(root, "state").map((l) => [l["key"], l["state"]]))
      assert.sameMembers([...last.values()], ["done", "done", "failed", "planned", "planned"])
      const again = yield* runPlan(root, planOf({ walk: { mood: "typed" } }))
      assert.deepInclude(again.summary, { ran: 0, cached: 2, failed: 1, skipped: 2 })
    })
  )

  it.live("in native code names its signal and the last lines of its log", () =>
    Effect.gen(function* () {
      const root = fresh()
      const { events } = yield* runPlan(root, planOf({ walk: { mood: "abort" }, other: { mood: "segv" } }))
      const failures = tasks(events)
        .filter((e) => e.state === "failed")
        .map((e) => e.failure)
      assert.sameMembers(
        failures.map((f) => `${f?.tag} ${f?.signal}`),
        ["Crashed SIGABRT", "Crashed SIGSEGV"]
      )
      const abort = failures.find((f) => f?.signal === "SIGABRT")
      assert.isNotEmpty(abort?.logLines)
      assert.include(readFileSync(join(root, abort?.log ?? ""), "utf8"), "about to abort")
      assert.match(abort!.message, /crashed with SIGABRT in native code: Check failed: count > 0 [(]0 vs[.] 0[)]; its/)
      const ends = runLines(root, "attempt-end").filter((l) => l["state"] === "failed")
      assert.sameMembers(
        ends.map((l) => l["signal"]),
        ["SIGABRT", "SIGSEGV"]
      )
    })
  )

  it.live("with --fail-fast stops what is running after its next checkpoint", () =>
    Effect.gen(function* () {
      const root = fresh()
      // The failure comes when the other worker, started beside it, has done steps.
      const params = { walk: { mood: "defect", at: 4, steps: 5 }, other: { steps: 250 } }
      hold(root, 4, "defect")
      hold(root, 20)
      const { summary, events } = yield* runPlan(root, planOf(params), {
        failFast: true,
        onEvent: (e) => {
          if (e.type === "progress" && e.key === keyOf(params, "other") && e.step >= 20) release(root, "defect")
        }
      })
      release(root)
      assert.deepInclude(summary, { failed: 1 })
      assert.include(failureOf(events)?.message ?? "", "shapes [2, 3] and [4] do not fit")
      assert.notInclude(states(events), "other done")
      const stopped = runLines(root, "attempt-end").find((l) => l["state"] === "killed")
      assert.deepInclude(stopped, { signal: "SIGTERM" })
      // What was stopped goes on where it stopped.
      const plan = planOf({ ...params, walk: {} })
      const again = yield* runPlan(root, plan, { jobs: 1, wanted: new Set([keyOf(params, "other")]) })
      const resumed = tasks(again.events).find((e) => e.nodes.includes("other") && e.state === "started")
      assert.isAbove(resumed?.firstStep ?? 0, 0)
    })
  )

  it.live("tells NaN in rows by an event and refuses it in a checkpoint's state", () =>
    Effect.gen(function* () {
      const root = fresh()
      const { events } = yield* runPlan(
        root,
        planOf({ walk: { mood: "nan" }, other: { mood: "badState", eager: true } })
      )
      assert.include(failureOf(events)?.message ?? "", "best is -Infinity")
      const attempt = tasks(events).find((e) => e.nodes.includes("walk") && e.state === "done")?.attempt ?? ""
      const journal = readFileSync(join(root, "attempts", attempt, "journal.ndjson"), "utf8")
      assert.include(journal, '"odd":null')
      assert.include(
        journal,
        '{"t":"event","name":"non-finite","detail":{"in":"metrics","step":0,"values":[{"path":"values.odd","value":"NaN"}]}}'
      )
    })
  )
})

describe("artifacts", () => {
  it.live("that are corrupt are moved aside and made again; those that are gone, too", () =>
    Effect.gen(function* () {
      const root = fresh()
      yield* runPlan(root, planOf({}))
      const sha256 = artifactOf(root, keyOf({}, "walk"), "state")
      const file = join(root, "artifacts", sha256, "weights.json")
      chmodSync(file, 0o644)
      writeFileSync(file, "[1,2,3,4,6]")
      // Everything that exists is reused, the damage unseen, until something reads it.
      assert.deepInclude((yield* runPlan(root, planOf({}))).summary, { ran: 0 })
      const { events, summary } = yield* runPlan(root, planOf({ round: { to: 1 } }))
      assert.deepInclude(summary, { ran: 3, failed: 0 }) // walk once more, round, judge
      assert.include(events.find((e) => e.type === "notice")?.message, "weights.json has 11 bytes instead of")
      assert.isTrue(readdirSync(join(root, "artifacts")).includes(`.corrupt-${sha256}-1`))
      assert.strictEqual(artifactOf(root, keyOf({}, "walk"), "state"), sha256)
    })
  )
})

const artifactOf = (root: string, key: string, output: string): string => {
  const { outputs } = resultOf(root, key) as { outputs: Record<string, { sha256: string }> }
  return outputs[output]?.sha256 ?? ""
}

describe("a selection", () => {
  it.live("runs up to a node, and keeps whole cells in the record", () =>
    Effect.gen(function* () {
      const root = fresh()
      const { plan, wanted, partial } = select(planOf({}, { seeds: [0, 1] }), { only: "walk", limit: 1 })
      const { summary } = yield* runPlan(root, plan, { wanted, partial })
      assert.deepInclude(summary, { ran: 2, cells: 1 })
      assert.deepInclude(runLines(root, "run")[0], { partial: true })
      assert.strictEqual(runLines(root, "cell").length, 1)
      assert.strictEqual(runLines(root, "task").length, 4)
    })
  )

  it("says which nodes there are when it names none", () => {
    const { unknownNode } = select(planOf({}), { only: "walking" })
    assert.deepStrictEqual(unknownNode, ["judge", "numbers", "other", "round", "walk"])
  })
})
