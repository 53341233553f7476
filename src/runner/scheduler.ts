/**
 * Which task starts next. Pure: the longest chain first, so that the path that decides the end of the run
 * (pretrain, warm start, GRPO, evaluation) is never kept waiting by side branches.
 */

interface Node {
  readonly key: string
  readonly inputs: Readonly<Record<string, { readonly task: string }>>
}

/**
 * For each task the cost of the costliest chain of tasks that starts with it, itself included.
 * @param tasks inputs before users.
 * @param cost of one task; only its proportions matter.
 */
export const chainCosts = <T extends Node>(
  tasks: ReadonlyArray<T>,
  cost: (task: T) => number
): ReadonlyMap<string, number> => {
  const after = new Map<string, number>()
  const chain = new Map<string, number>()
  for (const task of [...tasks].reverse()) {
    const own = cost(task) + (after.get(task.key) ?? 0)
    chain.set(task.key, own)
    for (const input of Object.values(task.inputs)) {
      after.set(input.task, Math.max(after.get(input.task) ?? 0, own))
    }
  }
  return chain
}

export interface Capacity {
  /** CPU cores to share out. */
  readonly cores: number
  /** At most so many tasks at once. */
  readonly jobs: number
}

export interface Load {
  /** Cores that a task keeps busy. */
  readonly threads: number
}

/**
 * The ready tasks to start now, in order. A task that does not fit holds back those after it: it would otherwise wait
 * for ever behind a stream of smaller ones. A task wider than the machine runs alone.
 */
export const startable = <T extends Load>(
  ready: ReadonlyArray<T>,
  running: ReadonlyArray<Load>,
  capacity: Capacity
): ReadonlyArray<T> => {
  const chosen: Array<T> = []
  let busy = running.reduce((sum, task) => sum + Math.min(task.threads, capacity.cores), 0)
  for (const task of ready) {
    const threads = Math.min(task.threads, capacity.cores)
    if (running.length + chosen.length >= capacity.jobs || busy + threads > capacity.cores) break
    chosen.push(task)
    busy += threads
  }
  return chosen
}
