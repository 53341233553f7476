/**
 * `exp run` from a plan to the ablation: the supervisor does the work and says what happens; here it becomes JSON lines
 * for scripts, or for people a screen, the ablation and the next two commands.
 */
import { join } from "node:path"
import { Clock, Console, Effect } from "effect"
import type { Mesh } from "../device/mesh.ts"
import type { LoadedExperiment, Plan } from "../dsl/Planned.ts"
import { experimentText, readAblation } from "../report/experiment.ts"
import type { RunEvent, TaskEvent } from "../runner/events.ts"
import { select } from "../runner/selection.ts"
import { run, slotsOf } from "../runner/supervisor.ts"
import * as live from "../warehouse/live.ts"
import { rows } from "../warehouse/sql.ts"
import { called } from "./called.ts"
import { Code, CommandFailed, silently, usage } from "./failure.ts"
import { about, count, paintFor } from "./format.ts"
import { broken } from "./gates.ts"
import { type Asked, planned } from "./planning.ts"
import { unshared } from "./planView.ts"
import * as progress from "./progress.ts"
import { nearby } from "./root.ts"
import { type Screen, screen } from "./screen.ts"

export interface Request extends Asked {
  /** The file as it was given. */
  readonly named: string
  readonly jobs: number | undefined
  readonly mesh: Mesh | undefined
  /** The flags that say where it runs, as given. */
  readonly flags: ReadonlyArray<string>
  /** Cards of the device; undefined where it is none of cards. */
  readonly cards: number | undefined
  readonly failFast: boolean
  readonly only: string | undefined
  readonly limit: number | undefined
}

/** A word as a shell takes it; double quotes where that is enough, since queries are full of single ones. */
const shellWord = (text: string): string =>
  /^[\w@%+=:,./-]+$/.test(text) ? text : /["$`!\\]/.test(text) ? `'${text.replaceAll("'", "'\\''")}'` : `"${text}"`

/** A command line as a person would type it here. */
const command = (request: Request, ...words: ReadonlyArray<string>): string => {
  const usual = request.warehouse === join(process.cwd(), "warehouse", "store")
  const where = usual ? [] : ["--warehouse", nearby(request.warehouse)]
  return [called, ...[...where, ...words].map(shellWord)].join(" ")
}

const again = (request: Request): string => {
  const narrowed = [
    ...request.flags,
    ...request.set.flatMap((text) => ["--set", text]),
    ...(request.only === undefined ? [] : ["--only", request.only]),
    ...(request.limit === undefined ? [] : ["--limit", String(request.limit)])
  ]
  return command(request, "run", request.named, ...narrowed)
}

/** Median seconds of finished attempts by task name; nothing where there is no database to ask. */
const past = (warehouse: string) =>
  rows(
    warehouse,
    `select node, stage, median(epoch(ended_at - started_at)) as seconds
     from attempts a join cell_tasks using (task_key) join tasks using (task_key)
     where a.state = 'done' and first_step = 0 group by all`
  ).pipe(
    Effect.map((found) => {
      const seconds = found.map(
        ({ node, stage, seconds }) => [[`${node}`, `${node} (${stage})`], Number(seconds)] as const
      )
      return new Map(seconds.flatMap(([names, s]) => names.map((name) => [name, s] as const)))
    }),
    Effect.orElseSucceed(() => new Map<string, number>())
  )

const redrawMs = 200

/** A listener that keeps the screen: what was said stays, what runs is redrawn. The screen is given back with the scope. */
const watching = Effect.fnUntraced(function* (request: Request, plan: Plan, wanted: ReadonlySet<string>) {
  const clock = yield* Clock.Clock
  const now = () => clock.currentTimeMillisUnsafe() / 1000
  const tasks = progress.views(plan).filter((task) => wanted.has(task.key))
  const cached = plan.tasks.filter((task) => wanted.has(task.key) && task.state === "cached").length
  const paint = paintFor(process.stderr)
  const out: Screen = yield* Effect.acquireRelease(
    Effect.sync(() => screen(process.stderr)),
    (open) => Effect.sync(() => open.close())
  )
  let state = progress.begin({
    tasks,
    cells: plan.cells.length,
    unshared: unshared(plan),
    jobs: slotsOf(plan, request),
    past: cached < tasks.length ? yield* past(request.warehouse) : new Map(),
    warehouse: nearby(request.warehouse),
    retry: again(request),
    at: now()
  })
  for (const task of plan.tasks) {
    if (task.state === "cached" && wanted.has(task.key)) {
      state = { ...state, ended: new Map(state.ended).set(task.key, "cached") }
    }
  }
  out.say([`${paint("bold", plan.experiment)}: ${progress.header(state, now(), cached)}`])
  const drawn = () => (state.running.size === 0 ? [] : progress.live(state, now(), out.columns, paint))
  yield* Effect.acquireRelease(
    Effect.sync(() => setInterval(() => out.draw(drawn()), redrawMs)),
    (timer) => Effect.sync(() => clearInterval(timer))
  )
  return (event: RunEvent): void => {
    const lines = progress.said(state, event, now(), paint)
    state = progress.fold(state, event, now())
    out.say(lines, drawn())
  }
})

const closing = (request: Request, experiment: LoadedExperiment): ReadonlyArray<string> => [
  "Next:",
  `  ${command(request, "sql", `from ablation where experiment = '${experiment.name}'`)}`,
  `  ${command(request, "show", experiment.name)}`
]

/** What the first failure was, in its first line. */
const why = ([first, ...others]: ReadonlyArray<TaskEvent>): string => {
  const message = first?.failure?.message.split("\n")[0]
  if (first === undefined || message === undefined) return ""
  return ` (${first.nodes.join(", ")}: ${message}${others.length > 0 ? `; and ${others.length} more` : ""})`
}

export const runExperiment = Effect.fn("exp.runExperiment")(function* (request: Request) {
  const { experiment, plan: planWhole } = yield* planned(request)
  const { plan, wanted, partial, unknownNode } = select(planWhole, request)
  if (unknownNode !== null) {
    return yield* usage(`no node is called ${request.only}; there are ${unknownNode.join(", ")}`)
  }
  const out = yield* Console.Console
  const say = (line: string) => Effect.sync(() => (request.json ? out.error(line) : out.log(line)))
  const failures: Array<TaskEvent> = []
  const summary = yield* Effect.scoped(
    Effect.gen(function* () {
      const show = request.json
        ? (event: RunEvent): void => out.log(JSON.stringify(event))
        : yield* watching(request, plan, wanted)
      const onEvent = (event: RunEvent): void => {
        if (event.type === "task" && event.state === "failed") failures.push(event)
        show(event)
      }
      return yield* run(plan, {
        root: request.warehouse,
        projectRoot: experiment.projectRoot,
        file: request.named,
        report: { ...experiment.report, baseline: experiment.baseline },
        jobs: request.jobs,
        mesh: request.mesh,
        cards: request.cards,
        failFast: request.failFast,
        wanted,
        partial,
        onEvent
      })
    })
  ).pipe(
    Effect.provide(live.layer),
    Effect.onInterrupt(() => say(`Interrupted. What is done is kept; go on with:\n  ${again(request)}`))
  )
  if (!request.json) {
    yield* say(
      summary.ran === 0 && summary.failed === 0
        ? `Nothing had to be done: ${count(summary.cached, "task")} cached (ran: 0).`
        : `${count(summary.ran, "task")} ran, ${summary.cached} cached, ${summary.failed} failed${summary.skipped > 0 ? `, ${summary.skipped} skipped` : ""}, in ${about(summary.wallSeconds)}.`
    )
  }
  const whole = !partial && summary.failed === 0
  const gates = whole ? experiment.report.gates : []
  const unasked = experiment.report.gates.length - gates.length
  if (unasked > 0) {
    const why = partial ? "the run was narrowed by --only or --limit" : "tasks failed"
    yield* say(`${count(unasked, "gate")} not checked: ${why}.`)
  }
  if (!request.json) {
    const paint = paintFor(process.stdout)
    const text = yield* experimentText(request.warehouse, experiment.name, {
      ...(process.stdout.isTTY ? { width: process.stdout.columns } : {}),
      emphasise: (line) => paint("bold", line)
    })
    // Where tasks failed and nothing can be compared, the failure is all there is to say.
    if (text !== "" || summary.failed === 0) {
      yield* say(`\n${text === "" ? "Nothing to compare yet: no cell has been evaluated." : text}\n`)
      for (const line of closing(request, experiment)) yield* say(line)
    }
  }
  if (summary.failed > 0) {
    if (request.json) return yield* silently(Code.tasksFailed)
    return yield* new CommandFailed({
      code: Code.tasksFailed,
      message: `${count(summary.failed, "task")} failed${why(failures)}; ${summary.ran + summary.cached > 0 ? "the rest is done and kept" : "nothing was done"}. Try again: ${again(request)}`
    })
  }
  const wrong = gates.length === 0 ? [] : broken(gates, yield* readAblation(request.warehouse, experiment.name))
  if (wrong.length > 0) {
    return yield* new CommandFailed({
      code: Code.gateFailed,
      message: `${count(wrong.length, "gate")} failed:\n  ${wrong.join("\n  ")}`
    })
  }
})
