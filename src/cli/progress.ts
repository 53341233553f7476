/**
 * What people see of a run: a pure fold of the run's events into a state, and the state as lines. `live` is the part of
 * the screen that is redrawn; `said` are the lines that stay. Times are seconds on any one clock.
 */
import { about, bar, clock, count, cut, number, type Paint, plain } from "./format.ts"

export interface TaskView {
  readonly key: string
  readonly stage: string
  readonly nodes: ReadonlyArray<string>
  /** For whom it runs, in words: `seed 1 · op-grpo`. */
  readonly serves: string
}

export interface Failure {
  readonly cause: string
  /** Last lines of the attempt's log. */
  readonly log: ReadonlyArray<string>
  readonly logPath: string | null
  /** The command that tries again. */
  readonly retry: string
}

export type Seen =
  | { readonly _tag: "task"; readonly key: string; readonly state: "started" | "done" | "cached"; readonly at: number }
  | { readonly _tag: "failed"; readonly key: string; readonly failure: Failure; readonly at: number }
  | { readonly _tag: "progress"; readonly key: string; readonly step: number; readonly of: number; readonly at: number }
  | { readonly _tag: "metrics"; readonly key: string; readonly values: Readonly<Record<string, number | null>> }

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
  /** Seconds a stage took in earlier runs. */
  readonly past: ReadonlyMap<string, number>
  readonly startedAt: number
  readonly running: ReadonlyMap<string, Running>
  readonly ended: ReadonlyMap<string, "done" | "cached" | "failed">
  /** Wall seconds of tasks that this run finished, by stage. */
  readonly took: ReadonlyMap<string, ReadonlyArray<number>>
}

export const begin = (of: {
  readonly tasks: ReadonlyArray<TaskView>
  readonly cells: number
  readonly unshared: number
  readonly jobs: number
  readonly past?: ReadonlyMap<string, number>
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
  took: new Map()
})

const without = <K, V>(map: ReadonlyMap<K, V>, key: K): ReadonlyMap<K, V> =>
  new Map([...map].filter(([k]) => k !== key))

export const fold = (state: State, seen: Seen): State => {
  const current = state.running.get(seen.key)
  switch (seen._tag) {
    case "task": {
      if (seen.state === "started") {
        const fresh: Running = { startedAt: seen.at, first: null, step: 0, of: 0, at: seen.at, values: {} }
        return { ...state, running: new Map(state.running).set(seen.key, fresh) }
      }
      const stage = state.tasks.get(seen.key)?.stage
      const took = new Map(state.took)
      if (seen.state === "done" && current && stage !== undefined) {
        took.set(stage, [...(took.get(stage) ?? []), seen.at - current.startedAt])
      }
      return {
        ...state,
        took,
        running: without(state.running, seen.key),
        ended: new Map(state.ended).set(seen.key, seen.state)
      }
    }
    case "failed":
      return {
        ...state,
        running: without(state.running, seen.key),
        ended: new Map(state.ended).set(seen.key, "failed")
      }
    case "progress": {
      if (!current) return state
      const first = current.first ?? { step: seen.step, at: seen.at }
      const next: Running = { ...current, first, step: seen.step, of: seen.of, at: seen.at }
      return { ...state, running: new Map(state.running).set(seen.key, next) }
    }
    case "metrics": {
      if (!current) return state
      const next: Running = { ...current, values: { ...current.values, ...seen.values } }
      return { ...state, running: new Map(state.running).set(seen.key, next) }
    }
  }
}

const mean = (xs: ReadonlyArray<number>): number => xs.reduce((a, b) => a + b, 0) / xs.length

/** Seconds a whole task of this stage is expected to take; null where nothing is known. */
const expected = (state: State, stage: string): number | null => {
  const took = state.took.get(stage)
  return took !== undefined && took.length > 0 ? mean(took) : (state.past.get(stage) ?? null)
}

/** Seconds left of a running task: from its own rate once it has one, else from others of its stage. */
const left = (state: State, key: string, now: number): number | null => {
  const task = state.running.get(key)
  if (!task) return null
  if (task.first && task.step > task.first.step && task.at > task.first.at) {
    const perStep = (task.at - task.first.at) / (task.step - task.first.step)
    return Math.max(0, (task.of - task.step) * perStep - (now - task.at))
  }
  const whole = expected(state, state.tasks.get(key)?.stage ?? "")
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
    state.running.has(task.key) ? left(state, task.key, now) : expected(state, task.stage)
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

const label = (task: TaskView | undefined): string => task?.nodes.join(", ") ?? "?"

/** The lines that are redrawn: the state of the whole, then one line per running task, none longer than `columns`. */
export const live = (state: State, now: number, columns = 100, paint: Paint = plain): ReadonlyArray<string> => {
  const ended = [...state.ended.values()]
  const failed = ended.filter((s) => s === "failed").length
  const seconds = remaining(state, now)
  const names = [...state.running.keys()].map((key) => label(state.tasks.get(key)))
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
    ...(failed > 0 ? [`${failed} failed`] : []),
    clock(now - state.startedAt),
    ...(seconds !== null && state.running.size > 0 ? [`about ${about(seconds)} left`] : [])
  ].join(" · ")
  return [...lines, paint("dim", cut(` ${total}`, columns))]
}

/** The lines that stay when an event comes in. `before` is the state without it. Cached tasks and progress say nothing. */
export const said = (before: State, seen: Seen, paint: Paint = plain): ReadonlyArray<string> => {
  const task = before.tasks.get(seen.key)
  const started = before.running.get(seen.key)?.startedAt
  const who = `${label(task)}${task?.serves ? `  ${paint("dim", task.serves)}` : ""}`
  if (seen._tag === "task" && seen.state === "done") {
    return [`${paint("green", "done")}  ${who}${started === undefined ? "" : `  ${clock(seen.at - started)}`}`]
  }
  if (seen._tag !== "failed") return []
  const { cause, log, logPath, retry } = seen.failure
  return [
    `${paint("red", "FAILED")}  ${who}${started === undefined ? "" : `  after ${clock(seen.at - started)}`}`,
    ...cause.split("\n").map((line) => `  ${line}`),
    ...(log.length > 0 ? ["  last lines of its log:", ...log.map((line) => paint("dim", `  | ${line}`))] : []),
    ...(logPath === null ? [] : [`  log:   ${logPath}`]),
    `  again: ${retry}`
  ]
}

/** In whose name a shared task runs: one seed and one arm by name, else how many. */
export const serves = (cells: ReadonlyArray<{ readonly arm: string; readonly seed: number }>): string => {
  const arms = [...new Set(cells.map((cell) => cell.arm))]
  const seeds = [...new Set(cells.map((cell) => cell.seed))]
  const whose = seeds.length === 1 ? `seed ${seeds[0]}` : `${seeds.length} seeds`
  return cells.length === 0 ? "" : `${whose} · ${arms.length === 1 ? arms[0] : `${arms.length} arms`}`
}
