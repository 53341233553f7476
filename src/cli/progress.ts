/**
 * What people see of a run: a pure fold of the run's events into a state, and the state as lines. `live` is the part of
 * the screen that is redrawn; `said` are the lines that stay. Times are seconds on any one clock.
 */
import { join } from "node:path"
import type { Failure, RunEvent } from "../runner/events.ts"
import { about, bar, clock, count, cut, number, type Paint, plain } from "./format.ts"

export interface TaskView {
  readonly key: string
  /** Its node, with the stage where a node has tasks of several. */
  readonly name: string
  /** For whom it runs, in words: `seed 1 · op-grpo`. */
  readonly serves: string
}

/** What `exp run` shows of a plan: every task by name and by those it runs for. */
export const views = (plan: {
  readonly cells: ReadonlyArray<{ readonly id: string; readonly arm: string; readonly seed: number }>
  readonly tasks: ReadonlyArray<{
    readonly key: string
    readonly stage: string
    readonly nodes: ReadonlyArray<string>
    readonly cells: ReadonlyArray<string>
  }>
}): ReadonlyArray<TaskView> => {
  const cells = new Map(plan.cells.map((cell) => [cell.id, cell]))
  const stages = Map.groupBy(plan.tasks, (task) => task.nodes.join(", "))
  return plan.tasks.map(({ key, stage, nodes, cells: ids }) => {
    const node = nodes.join(", ")
    const alone = stages.get(node)?.every((other) => other.stage === stage) ?? true
    return { key, name: alone ? node : `${node} (${stage})`, serves: serves(ids.flatMap((id) => cells.get(id) ?? [])) }
  })
}

interface Running {
  readonly startedAt: number
  /** Where this attempt began, which is not 0 for a resumed one: rates count from here. */
  readonly first: { readonly step: number; readonly at: number } | null
  readonly step: number
  readonly of: number
  readonly at: number
  readonly values: Readonly<Record<string, number | null>>
}

export interface State {
  readonly tasks: ReadonlyMap<string, TaskView>
  readonly cells: number
  /** Tasks there would be if no two cells shared any. */
  readonly unshared: number
  readonly jobs: number
  /** Seconds that tasks of a name took in earlier runs. */
  readonly past: ReadonlyMap<string, number>
  readonly startedAt: number
  readonly running: ReadonlyMap<string, Running>
  readonly ended: ReadonlyMap<string, "done" | "cached" | "failed" | "skipped">
  /** Wall seconds of tasks that this run finished, by name. */
  readonly took: ReadonlyMap<string, ReadonlyArray<number>>
  /** The warehouse folder, as logs are named to people, and the command that tries again. */
  readonly warehouse: string
  readonly retry: string
}

export const begin = (of: {
  readonly tasks: ReadonlyArray<TaskView>
  readonly cells: number
  readonly unshared: number
  readonly jobs: number
  readonly past?: ReadonlyMap<string, number>
  readonly warehouse: string
  readonly retry: string
  readonly at: number
}): State => ({
  tasks: new Map(of.tasks.map((task) => [task.key, task])),
  cells: of.cells,
  unshared: of.unshared,
  jobs: Math.max(1, of.jobs),
  past: of.past ?? new Map(),
  startedAt: of.at,
  running: new Map(),
  ended: new Map(),
  took: new Map(),
  warehouse: of.warehouse,
  retry: of.retry
})

const nameOf = (state: State, key: string): string => state.tasks.get(key)?.name ?? "?"

const without = <K, V>(map: ReadonlyMap<K, V>, key: K): ReadonlyMap<K, V> =>
  new Map([...map].filter(([k]) => k !== key))

/** The state after an event that came in at `at`. Events of tasks it does not know to be running change nothing. */
export const fold = (state: State, event: RunEvent, at: number): State => {
  switch (event.type) {
    case "task": {
      if (event.state === "started") {
        const fresh: Running = { startedAt: at, first: null, step: event.firstStep ?? 0, of: 0, at, values: {} }
        return { ...state, running: new Map(state.running).set(event.key, fresh) }
      }
      const current = state.running.get(event.key)
      const took = new Map(state.took)
      const name = nameOf(state, event.key)
      if (event.state === "done" && current) took.set(name, [...(took.get(name) ?? []), at - current.startedAt])
      const ended = new Map(state.ended).set(event.key, event.state)
      return { ...state, took, running: without(state.running, event.key), ended }
    }
    case "skipped":
      return { ...state, ended: new Map(state.ended).set(event.key, "skipped") }
    case "progress": {
      const current = state.running.get(event.key)
      if (!current) return state
      const first = current.first ?? { step: event.step, at }
      const values = { ...current.values, ...event.metrics }
      const next: Running = { ...current, first, step: event.step, of: event.of, at, values }
      return { ...state, running: new Map(state.running).set(event.key, next) }
    }
    case "notice":
    case "summary":
      return state
  }
}

const mean = (xs: ReadonlyArray<number>): number => xs.reduce((a, b) => a + b, 0) / xs.length

/** Seconds a whole task is expected to take, by others of its name; null where nothing is known. */
const expected = (state: State, key: string): number | null => {
  const took = state.took.get(nameOf(state, key))
  return took !== undefined && took.length > 0 ? mean(took) : (state.past.get(nameOf(state, key)) ?? null)
}

/** A rate over less than this says little: the first steps are slow. */
const enoughSeconds = 1

/** Seconds left of a running task: from its own rate once it has one, else from others of its name. */
const left = (state: State, key: string, now: number): number | null => {
  const task = state.running.get(key)
  if (!task) return null
  if (task.first && task.step > task.first.step && task.at >= task.first.at + enoughSeconds) {
    const perStep = (task.at - task.first.at) / (task.step - task.first.step)
    return Math.max(0, (task.of - task.step) * perStep - (now - task.at))
  }
  const whole = expected(state, key)
  return whole === null ? null : Math.max(0, whole - (now - task.startedAt))
}

/**
 * Seconds until the run ends: the work left over the jobs, and no less than its longest task. Tasks of which nothing is
 * known count as the mean of those of which something is; null where nothing is known of any.
 */
export const remaining = (state: State, now: number): number | null => {
  const open = [...state.tasks.values()].filter((task) => !state.ended.has(task.key))
  if (open.length === 0) return 0
  const each = open.map((task) =>
    state.running.has(task.key) ? left(state, task.key, now) : expected(state, task.key)
  )
  const known = each.filter((seconds) => seconds !== null)
  if (known.length === 0) return null
  const typical = mean(known)
  const all = each.map((seconds) => seconds ?? typical)
  return Math.max(Math.max(...all), all.reduce((a, b) => a + b, 0) / Math.min(state.jobs, open.length))
}

/** `24 cells, 31 tasks (113 unshared), 5 cached, about 4 min`. */
export const header = (state: State, now: number, cached: number): string => {
  const unshared = state.unshared > state.tasks.size ? ` (${state.unshared} unshared)` : ""
  const seconds = remaining(state, now)
  return [
    count(state.cells, "cell"),
    `${count(state.tasks.size, "task")}${unshared}`,
    `${cached} cached`,
    ...(seconds !== null && seconds > 0 ? [`about ${about(seconds)}`] : [])
  ].join(", ")
}

/** The figures worth a glance: reward if there is one, else loss; and the rate. */
const figures = (values: Readonly<Record<string, number | null>>): string => {
  const main = ["reward", "loss"].find((name) => typeof values[name] === "number")
  const rate = values["perf/tokens_per_second"]
  return [
    ...(main === undefined ? [] : [`${main} ${number(values[main] ?? null)}`]),
    ...(typeof rate === "number" ? [`${number(rate)} tok/s`] : [])
  ].join("  ")
}

/** The lines that are redrawn: the state of the whole, then one line per running task, none longer than `columns`. */
export const live = (state: State, now: number, columns = 100, paint: Paint = plain): ReadonlyArray<string> => {
  const ended = [...state.ended.values()]
  const lost = ended.filter((s) => s === "failed").length
  const seconds = remaining(state, now)
  const names = [...state.running.keys()].map((key) => nameOf(state, key))
  const who = [...state.running.keys()].map((key) => state.tasks.get(key)?.serves ?? "")
  const wide = (texts: ReadonlyArray<string>, most: number) =>
    Math.min(most, Math.max(0, ...texts.map((t) => t.length)))
  const [nameWidth, whoWidth] = [wide(names, 20), wide(who, 26)]
  const barWidth = Math.max(4, Math.min(24, columns - nameWidth - whoWidth - 52))
  const lines = [...state.running].map(([key, task], i) => {
    const share = task.of > 0 ? task.step / task.of : 0
    const eta = left(state, key, now)
    const steps = task.of > 0 ? `${task.step}/${task.of}`.padStart(9) : "starting".padStart(9)
    const time = eta === null ? clock(now - task.startedAt) : `${clock(eta)} left`
    const text = `${cut(names[i]!, nameWidth).padEnd(nameWidth)}  ${cut(who[i]!, whoWidth).padEnd(whoWidth)}  ${bar(share, barWidth)} ${steps}  ${[figures(task.values), time].filter((s) => s !== "").join("  ")}`
    return cut(` ${text}`, columns)
  })
  const total = [
    `${ended.length}/${state.tasks.size} tasks`,
    ...(lost > 0 ? [`${lost} failed`] : []),
    clock(now - state.startedAt),
    ...(seconds !== null && state.running.size > 0 ? [`about ${about(seconds)} left`] : [])
  ].join(" · ")
  return [...lines, paint("dim", cut(` ${total}`, columns))]
}

const failed = (state: State, failure: Failure): ReadonlyArray<string> => [
  ...(failure.signal === null ? [] : [`ended by ${failure.signal}`]),
  ...failure.message.split("\n"),
  ...(failure.logLines.length > 0 ? ["last lines of its log:", ...failure.logLines.map((line) => `| ${line}`)] : []),
  ...(failure.log === null ? [] : [`log:   ${join(state.warehouse, failure.log)}`]),
  `again: ${state.retry}`
]

/** The lines that stay when an event comes in. `before` is the state without it. Cached tasks and progress say nothing. */
export const said = (before: State, event: RunEvent, at: number, paint: Paint = plain): ReadonlyArray<string> => {
  if (event.type === "notice") return [`${paint("yellow", "note")}  ${event.message}`]
  if (event.type === "progress" || event.type === "summary") return []
  const task = before.tasks.get(event.key)
  const startedAt = before.running.get(event.key)?.startedAt
  const who = [task?.name ?? event.nodes.join(", "), paint("dim", task?.serves ?? "")]
    .filter((text) => text !== "")
    .join("  ")
  const seconds = startedAt === undefined ? "" : clock(at - startedAt)
  if (event.type === "skipped") {
    return [`${paint("yellow", "skipped")}  ${who}: it needs ${nameOf(before, event.because)}, which failed`]
  }
  switch (event.state) {
    case "done":
      return [`${paint("green", "done")}  ${who}  ${seconds}`.trimEnd()]
    case "failed":
      return [
        `${paint("red", "FAILED")}  ${who}${seconds === "" ? "" : `  after ${seconds}`}`,
        ...(event.failure ? failed(before, event.failure).map((line) => `  ${line}`) : [])
      ]
    case "started":
      return event.firstStep ? [`resumed  ${who}  from step ${event.firstStep}`] : []
    case "cached":
      return []
  }
}

/** In whose name a shared task runs: one seed and one arm by name, else how many. */
export const serves = (cells: ReadonlyArray<{ readonly arm: string; readonly seed: number }>): string => {
  const arms = [...new Set(cells.map((cell) => cell.arm))]
  const seeds = [...new Set(cells.map((cell) => cell.seed))]
  const whose = seeds.length === 1 ? `seed ${seeds[0]}` : `${seeds.length} seeds`
  return cells.length === 0 ? "" : `${whose} · ${arms.length === 1 ? arms[0] : `${arms.length} arms`}`
}
