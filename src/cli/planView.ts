/** A plan as JSON for scripts (docs/cli.md) and as a table for people. Pure. */
import type { Json } from "../dsl/canonical.ts"
import type { Plan, PlannedTask, Reason } from "../dsl/Planned.ts"
import { table } from "../report/table.ts"
import { count, cut, type Paint, plain, type Style } from "./format.ts"
import { serves } from "./progress.ts"

/** What `exp plan --json` prints. */
export const planJson = (plan: Plan) => ({
  experiment: plan.experiment,
  cells: plan.cells.map(({ id, arm, seed, params }) => ({ id, arm, seed, params })),
  tasks: plan.tasks.map(({ key, nodes, stage, cells, state, reasons, goesOn }) => ({
    key,
    nodes,
    stage,
    cells,
    state,
    reasons,
    goesOn
  }))
})

/** Tasks there would be if no two cells shared any. */
export const unshared = (plan: { readonly cells: ReadonlyArray<{ readonly tasks: ReadonlyArray<unknown> }> }): number =>
  plan.cells.reduce((sum, cell) => sum + cell.tasks.length, 0)

const value = (json: Json): string =>
  cut(json === null ? "none" : typeof json === "string" ? json : JSON.stringify(json), 40)

/** `grpo.reward.uniqueness.weight 0.3 → 0.1234`, `code src/rewards/coverage.ts changed`. */
export const reasonText = (reason: Reason, node: string): string => {
  switch (reason.kind) {
    case "param": {
      const path = reason.path.startsWith(`${node}.`) || reason.path === node ? reason.path : `${node}.${reason.path}`
      return `${path} ${value(reason.old)} → ${value(reason.new)}`
    }
    case "code":
      return reason.old === null
        ? `code ${reason.path} is new`
        : reason.new === null
          ? `code ${reason.path} is gone`
          : `code ${reason.path} changed`
    case "input":
      return `input ${reason.path} will be another`
    case "version":
      return `stage version ${value(reason.old)} → ${value(reason.new)}`
    case "class":
      return `numeric class ${value(reason.old)} → ${value(reason.new)}`
    case "missing":
      return `${reason.path} is missing from the warehouse`
  }
}

/** `goes on from step 60`, or why a task of which there is a shorter run starts again. */
const goesOnText = ({ goesOn }: PlannedTask): ReadonlyArray<string> =>
  goesOn === null ? [] : ["from" in goesOn ? `goes on from step ${goesOn.from}` : `restarts: ${goesOn.because}`]

/** The first reasons of a task, what it says about itself before what it only inherits. */
const why = (task: PlannedTask, most: number): string => {
  const own = task.reasons.filter((reason) => reason.kind !== "input")
  const texts = [
    ...new Set((own.length > 0 ? own : task.reasons).map((reason) => reasonText(reason, task.nodes[0] ?? task.stage)))
  ]
  const more = texts.length > most ? [`and ${texts.length - most} more`] : []
  return [...texts.slice(0, most), ...more, ...goesOnText(task)].join("; ")
}

const styles: Readonly<Record<PlannedTask["state"], Style>> = { cached: "green", stale: "yellow", new: "cyan" }

/** Header and table: tasks of equal state, node and reason (those of the seeds, mostly) are one row. */
export const planLines = (plan: Plan, width?: number, paint: Paint = plain): ReadonlyArray<string> => {
  const cells = new Map(plan.cells.map((cell) => [cell.id, cell]))
  const groups = new Map<string, Array<PlannedTask>>()
  for (const task of plan.tasks) {
    const key = JSON.stringify([task.state, task.nodes, task.stage, why(task, 3)])
    groups.set(key, [...(groups.get(key) ?? []), task])
  }
  const rows = [...groups.values()].map((tasks) => {
    const first = tasks[0]!
    const served = [...new Set(tasks.flatMap((task) => task.cells))].flatMap((id) => cells.get(id) ?? [])
    return [
      first.state,
      first.nodes.join(", "),
      first.stage,
      String(tasks.length),
      String(served.length),
      serves(served),
      why(first, 3)
    ]
  })
  const of = (state: PlannedTask["state"]) => plan.tasks.filter((task) => task.state === state).length
  const all = unshared(plan)
  const head = [
    count(plan.cells.length, "cell"),
    `${count(plan.tasks.length, "task")}${all > plan.tasks.length ? ` (${all} unshared)` : ""}`,
    `${of("cached")} cached`,
    ...(of("stale") > 0 ? [`${of("stale")} stale`] : []),
    ...(of("new") > 0 ? [`${of("new")} new`] : [])
  ].join(", ")
  const columns = ["state", "nodes", "stage", "tasks", "cells", "for", "why"].map((name) =>
    name === "tasks" || name === "cells" ? { name, align: "right" as const } : { name }
  )
  const [heading, rule, ...body] = table(columns, rows, width === undefined ? {} : { width }).split("\n")
  const coloured = body.map((line, i) => {
    const state = rows[i]![0] as PlannedTask["state"]
    return paint(styles[state], line.slice(0, state.length)) + line.slice(state.length)
  })
  return [`${paint("bold", plan.experiment)}: ${head}`, "", heading!, paint("dim", rule!), ...coloured]
}
