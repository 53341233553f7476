/** `--only NODE` and `--limit N`: a plan narrowed to what somebody wants to see first. */
import type { Plan } from "../dsl/Planned.ts"

export interface Selection {
  /** Run up to this node: its tasks and what they need. */
  readonly only?: string | undefined
  /** The first N cells, and the tasks that they use. */
  readonly limit?: number | undefined
}

export interface Selected {
  /** The plan with the cells (and their tasks) that are left. */
  readonly plan: Plan
  /** The tasks of it that may run; the others are only looked up. */
  readonly wanted: ReadonlySet<string>
  /** Whether anything was left out. */
  readonly partial: boolean
  /** When `only` names no node: the nodes that it could have named. */
  readonly unknownNode: ReadonlyArray<string> | null
}

/** Narrows a plan. A cell keeps all its tasks in the record even where `only` lets some of them run. */
export const select = (plan: Plan, selection: Selection): Selected => {
  const cells = plan.cells.slice(0, selection.limit ?? plan.cells.length)
  const used = new Set(cells.flatMap((cell) => cell.tasks.map((task) => task.key)))
  const kept = new Set(cells.map((cell) => cell.id))
  const tasks = plan.tasks
    .filter((task) => used.has(task.key))
    .map((task) => ({ ...task, cells: task.cells.filter((cell) => kept.has(cell)) }))
  const narrowed = { ...plan, cells, tasks }
  const { only } = selection
  if (only === undefined)
    return { plan: narrowed, wanted: used, partial: cells.length < plan.cells.length, unknownNode: null }
  const byKey = new Map(tasks.map((task) => [task.key, task]))
  const wanted = new Set<string>()
  const want = (key: string): void => {
    if (wanted.has(key)) return
    wanted.add(key)
    for (const input of Object.values(byKey.get(key)?.inputs ?? {})) want(input.task)
  }
  for (const task of tasks) if (task.nodes.includes(only)) want(task.key)
  const nodes = [...new Set(tasks.flatMap((task) => task.nodes))].sort()
  return { plan: narrowed, wanted, partial: true, unknownNode: wanted.size > 0 ? null : nodes }
}
