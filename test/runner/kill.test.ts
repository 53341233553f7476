/** `kill -9` of worker, supervisor and both in mid-stage, Ctrl-C, a second supervisor: the bytes are the same in the end. */
import { type ChildProcess, spawn } from "node:child_process"
import { appendFileSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { setTimeout as sleep } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import { Effect } from "effect"
import { beforeAll, describe, expect, it } from "vitest"
import type { RunEvent, TaskEvent } from "../../src/runner/events.ts"
import { select } from "../../src/runner/selection.ts"
import { rows } from "../../src/warehouse/sql.ts"
import { type Params, planOf, resultOf, runLines, runPlan } from "../support/counted.ts"
import { hold, release } from "../support/counting.ts"
import { freshFolder } from "../support/folders.ts"

const fresh = freshFolder("kill")
const script = fileURLToPath(new URL("../support/supervise.ts", import.meta.url))

/** `other` is the same task. */
const params: Params = { walk: { steps: 150, ms: 2, eager: true }, other: { steps: 150, ms: 2, eager: true } }
const key = planOf(params).tasks.find((task) => task.stage === "walk")?.key ?? ""
let undisturbed: unknown

const supervise = (root: string, ...more: ReadonlyArray<string>): ChildProcess =>
  spawn(process.execPath, ["--disable-warning=ExperimentalWarning", script, root, JSON.stringify(params), ...more], {
    stdio: ["ignore", "pipe", "pipe"]
  })

const alive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.[0] !== "Z"
  } catch {
    return false
  }
}

const ended = (child: ChildProcess): Promise<number | null> =>
  new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) resolve(child.exitCode)
    else child.on("exit", (code) => resolve(code))
  })

/** Starts a run and calls `blow` when the walk has gone `steps` steps on from where it began, and waits there; returns its events. */
const strike = async (
  root: string,
  steps: number,
  blow: (pids: { readonly worker: number; readonly supervisor: ChildProcess }) => void,
  ...more: ReadonlyArray<string>
): Promise<{ readonly events: ReadonlyArray<RunEvent>; readonly code: number | null; readonly worker: number }> => {
  hold(root, steps)
  const child = supervise(root, ...more)
  const events: Array<RunEvent> = []
  let started: TaskEvent | undefined
  let worker = 0
  for await (const line of createInterface({ input: child.stdout! })) {
    const event: RunEvent = JSON.parse(line)
    events.push(event)
    if (event.type === "task" && event.key === key && event.state === "started") started = event
    if (event.type === "progress" && started && worker === 0 && event.step >= (started.firstStep ?? 0) + steps) {
      worker = started.pid ?? 0
      blow({ worker, supervisor: child })
    }
  }
  return { events, code: await ended(child), worker }
}

const finish = (root: string) => {
  release(root)
  const { plan, wanted } = select(planOf(params), { only: "walk" })
  return Effect.runPromise(runPlan(root, plan, { wanted }))
}

beforeAll(async () => {
  const root = fresh()
  await finish(root)
  undisturbed = resultOf(root, key)
})

describe("kill -9", () => {
  it("of worker, supervisor and both, with torn journals: the next run goes on in mid-stage, and the bytes are the same", async () => {
    const root = fresh()
    const first = await strike(root, 10, ({ worker }) => process.kill(worker, "SIGKILL"))
    expect(first.events.at(-1)).toMatchObject({ type: "summary", failed: 1, skipped: 0 })
    const failed = first.events.find((e): e is TaskEvent => e.type === "task" && e.state === "failed")
    expect(failed?.failure).toMatchObject({ tag: "Killed", signal: "SIGKILL" })
    expect(runLines(root, "attempt-end").at(-1)).toMatchObject({ state: "killed", signal: "SIGKILL" })

    const second = await strike(root, 10, ({ supervisor }) => supervisor.kill("SIGKILL"))
    // by its own watchdog
    while (alive(second.worker)) await sleep(50)
    // A line that was being written when the power went.
    const runs = readdirSync(join(root, "runs")).sort()
    appendFileSync(join(root, "runs", runs.at(-1)!), '{"t":"attempt-end","att')
    for (const attempt of readdirSync(join(root, "attempts")))
      appendFileSync(join(root, "attempts", attempt, "journal.ndjson"), '{"t":"metrics","step":149,"va')

    await strike(root, 10, ({ worker, supervisor }) => {
      supervisor.kill("SIGKILL")
      process.kill(worker, "SIGKILL")
    })
    const { summary, events } = await finish(root)
    expect(summary).toMatchObject({ failed: 0, skipped: 0 })
    const last = events.find((e): e is TaskEvent => e.type === "task" && e.state === "started" && e.key === key)
    expect(last?.firstStep).toBeGreaterThanOrEqual(30)
    expect(resultOf(root, key)).toEqual(undisturbed)
    // Every attempt has an end, every run too, and no checkpoint is left.
    const attempts = runLines(root, "attempt").map((line) => line["attempt"])
    expect(
      runLines(root, "attempt-end")
        .map((line) => line["attempt"])
        .sort()
    ).toEqual(attempts.sort())
    expect(runLines(root, "end").map((line) => line["state"])).toEqual(["failed", "interrupted", "interrupted", "done"])
    expect(readdirSync(join(root, "attempts")).flatMap((a) => readdirSync(join(root, "attempts", a)))).not.toContain(
      "checkpoint"
    )
  })

  it("of a supervisor leaves a worker that the next supervisor ends before it goes on", async () => {
    const root = fresh()
    const { worker } = await strike(root, 5, ({ supervisor }) => supervisor.kill("SIGKILL"))
    await finish(root) // at once: the worker's own watchdog may not have noticed yet
    expect(alive(worker)).toBe(false)
    expect(resultOf(root, key)).toEqual(undisturbed)
  })

  it("of a supervisor that never saw its worker's end loses nothing", async () => {
    const root = fresh()
    const { events } = await finish(root)
    // As if it had died between the worker's last line and the publication: no realisation, no end of attempt and run.
    const attempt = events.find(
      (e): e is TaskEvent => e.type === "task" && e.key === key && e.state === "done"
    )?.attempt
    const run = join(root, "runs", readdirSync(join(root, "runs"))[0]!)
    const lines = readFileSync(run, "utf8").split("\n")
    const cut = lines.findIndex((line) => line.includes('"attempt-end"') && line.includes(attempt ?? "-"))
    writeFileSync(run, `${lines.slice(0, cut).join("\n")}\n`)
    rmSync(join(root, "realisations"), { recursive: true })
    const again = await finish(root)
    const walked = again.events.filter((e): e is TaskEvent => e.type === "task" && e.key === key).map((e) => e.state)
    // `numbers` has lost its realisation too and runs again; `walk` is bound to the attempt that had finished.
    expect(walked).toEqual(["cached"])
    expect(resultOf(root, key)).toEqual(undisturbed)
  })
})

describe("Ctrl-C", () => {
  it("lets the workers write one more checkpoint, records it and ends with 130", async () => {
    const root = fresh()
    const { code, worker } = await strike(root, 10, ({ supervisor }) => supervisor.kill("SIGINT"))
    expect(code).toBe(130)
    expect(alive(worker)).toBe(false)
    expect(runLines(root, "end")).toMatchObject([{ state: "interrupted" }])
    expect(runLines(root, "attempt-end").at(-1)).toMatchObject({ state: "killed", signal: "SIGTERM" })
    expect(
      runLines(root, "state")
        .filter((l) => l["key"] === key)
        .at(-1)
    ).toMatchObject({ state: "planned" })
    const { events } = await finish(root)
    const resumed = events.find((e): e is TaskEvent => e.type === "task" && e.key === key && e.state === "started")
    expect(resumed?.firstStep).toBeGreaterThanOrEqual(10)
    expect(resultOf(root, key)).toEqual(undisturbed)
  })
})

describe("a second supervisor", () => {
  it("is refused at once while the first holds the warehouse, and takes over when it is dead", async () => {
    const root = fresh()
    let refused: Promise<string> | undefined
    const { events } = await strike(
      root,
      1,
      ({ supervisor }) => {
        const other = supervise(root, "duckdb")
        let said = ""
        other.stderr?.on("data", (text) => (said += String(text)))
        refused = ended(other).then(() => {
          supervisor.kill("SIGKILL")
          return said
        })
      },
      "duckdb"
    )
    expect(await refused).toMatch(/in use by another run \(process \d+\)/)
    expect(events.some((e) => e.type === "summary")).toBe(false)
    release(root)
    const last = supervise(root, "duckdb")
    last.stdout?.resume()
    expect(await ended(last)).toBe(0)
    expect(resultOf(root, key)).toEqual(undisturbed)
    // And readers see every row exactly once, those of before and after the blow.
    const ask = (query: string) => Effect.runPromise(rows(root, query))
    const walked = "from metrics where task_key in (select task_key from tasks where stage = 'walk') and name = 'loss'"
    expect(await ask(`select count(*) as n, count(distinct step) as steps, max(step) as top ${walked}`)).toEqual([
      { n: 150, steps: 150, top: 149 }
    ])
    expect(await ask("select state, first_step > 0 as resumed from attempts order by attempt_id")).toEqual([
      { state: "done", resumed: false },
      { state: "killed", resumed: false },
      { state: "done", resumed: true }
    ])
  })
})
