/**
 * Where every task of a run stands. Content keys are computed at the moment a task's inputs are known, so a consumer
 * whose inputs came out byte-identical is bound to what it produced before, whatever changed upstream.
 */
import { type Output, readRealisation } from "../artifact/realisation.ts"
import type { Store } from "../artifact/store.ts"
import { contentKey } from "../dsl/key.ts"
import type { Plan, PlannedTask } from "../dsl/Planned.ts"
import type { Ready } from "./attempt.ts"

type Status =
  | { readonly _tag: "Waiting" }
  | { readonly _tag: "Running"; readonly content: string }
  | { readonly _tag: "Done"; readonly outputs: Readonly<Record<string, Output>>; readonly cached: boolean }
  | { readonly _tag: "Failed" }
  | { readonly _tag: "Skipped"; readonly because: string }
  /** Stopped with the run. */
  | { readonly _tag: "Stopped" }

export interface Settled {
  /** Bound to an attempt of before. */
  readonly bound: ReadonlyArray<{ readonly task: PlannedTask; readonly attempt: string }>
  /** Not to be tried, because that task failed. */
  readonly skipped: ReadonlyArray<{ readonly task: PlannedTask; readonly because: string }>
  /** Inputs known, not realised, wanted, and nobody is at the same content already. */
  readonly ready: ReadonlyArray<Ready>
}

const waiting: Status = { _tag: "Waiting" }
/** How often a task may be run again because its output was lost; a disk that loses it again is not to be trusted. */
const tolerated = 2

export class Tasks {
  readonly #plan: Plan
  readonly #wanted: ReadonlySet<string> | undefined
  readonly #place: { readonly root: string; readonly store: Store }
  readonly #status: Map<string, Status>
  readonly #losses = new Map<string, number>()

  constructor(
    plan: Plan,
    wanted: ReadonlySet<string> | undefined,
    place: { readonly root: string; readonly store: Store }
  ) {
    this.#plan = plan
    this.#wanted = wanted
    this.#place = place
    this.#status = new Map(plan.tasks.map((task) => [task.key, waiting]))
  }

  isWanted(key: string): boolean {
    return this.#wanted?.has(key) ?? true
  }

  /** Moves every waiting task as far as it goes without running anything. */
  settle(): Settled {
    const bound: Array<Settled["bound"][number]> = []
    const skipped: Array<Settled["skipped"][number]> = []
    const ready: Array<Ready> = []
    const busy = new Set<string>()
    for (const status of this.#status.values()) if (status._tag === "Running") busy.add(status.content)
    for (const task of this.#plan.tasks) {
      if (this.#status.get(task.key)?._tag !== "Waiting") continue
      const because = this.#failedInput(task)
      if (because !== undefined) {
        this.#status.set(task.key, { _tag: "Skipped", because })
        if (this.isWanted(task.key)) skipped.push({ task, because })
        continue
      }
      const inputs = this.#inputs(task)
      if (inputs === undefined) continue
      const key = contentKey({ ...task, params: task.keyParams }, inputs)
      const found = readRealisation(this.#place.root, key, task.code.digest)
      if (found !== undefined && Object.values(found.outputs).every(({ sha256 }) => this.#place.store.has(sha256))) {
        this.#status.set(task.key, { _tag: "Done", outputs: found.outputs, cached: true })
        bound.push({ task, attempt: found.attempt })
        continue
      }
      const content = `${key}/${task.code.digest}`
      if (!this.isWanted(task.key) || busy.has(content)) continue
      busy.add(content)
      ready.push({ task, contentKey: key, inputs })
    }
    return { bound, skipped, ready }
  }

  start({ task, contentKey: key }: Ready): void {
    this.#status.set(task.key, { _tag: "Running", content: `${key}/${task.code.digest}` })
  }

  done(key: string, outputs: Readonly<Record<string, Output>>): void {
    this.#status.set(key, { _tag: "Done", outputs, cached: false })
  }

  fail(key: string): void {
    this.#status.set(key, { _tag: "Failed" })
  }

  stopped(key: string): void {
    this.#status.set(key, { _tag: "Stopped" })
  }

  /**
   * A consumer found this artifact corrupt or gone: it waits again, and whoever made it runs again. False when that has
   * happened too often to be tried once more.
   */
  lost(consumer: string, sha256: string): boolean {
    const times = (this.#losses.get(sha256) ?? 0) + 1
    if (times > tolerated) return false
    this.#losses.set(sha256, times)
    this.#status.set(consumer, waiting)
    const inputs = this.#plan.tasks.find((task) => task.key === consumer)?.inputs ?? {}
    for (const { task, output } of Object.values(inputs)) {
      const status = this.#status.get(task)
      if (status?._tag === "Done" && status.outputs[output]?.sha256 === sha256) this.#status.set(task, waiting)
    }
    return true
  }

  /** Wanted or not, tasks that came to no end in this run. */
  unfinished(): ReadonlyArray<string> {
    return [...this.#status].filter(([, status]) => status._tag === "Waiting").map(([key]) => key)
  }

  counts(): { readonly ran: number; readonly cached: number; readonly failed: number; readonly skipped: number } {
    const counts = { ran: 0, cached: 0, failed: 0, skipped: 0 }
    for (const [key, status] of this.#status) {
      if (!this.isWanted(key)) continue
      if (status._tag === "Done") counts[status.cached ? "cached" : "ran"]++
      else if (status._tag === "Failed") counts.failed++
      else if (status._tag === "Skipped") counts.skipped++
    }
    return counts
  }

  /** The failed task that keeps this one from being had, if there is one. */
  #failedInput(task: PlannedTask): string | undefined {
    for (const input of Object.values(task.inputs)) {
      const status = this.#status.get(input.task)
      if (status?._tag === "Failed") return input.task
      if (status?._tag === "Skipped") return status.because
    }
    return undefined
  }

  /** Hashes of all inputs, when all are there. */
  #inputs(task: PlannedTask): Readonly<Record<string, string>> | undefined {
    const found: Record<string, string> = {}
    for (const [name, input] of Object.entries(task.inputs)) {
      const status = this.#status.get(input.task)
      const sha256 = status?._tag === "Done" ? status.outputs[input.output]?.sha256 : undefined
      if (sha256 === undefined) return undefined
      found[name] = sha256
    }
    return found
  }
}
