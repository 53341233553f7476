/**
 * What a supervisor that died left behind is put in order by the next one: its workers are gone, its attempts are
 * recorded for what they are (a worker may have finished unseen), its journal gets an end.
 */
import { execFileSync } from "node:child_process"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { hostname } from "node:os"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { Effect, Schema } from "effect"
import { settle, type Workplace } from "./attempt.ts"
import { lastLine, readJournal } from "./journal.ts"
import { openRunJournal } from "./runJournal.ts"
import { decodeEnd, lastLogLines, type Outcome } from "./workerProcess.ts"

const RunLine = Schema.Struct({ t: Schema.Literal("run"), provenance: Schema.Struct({ host: Schema.String }) })
const AttemptLine = Schema.Struct({
  t: Schema.Literal("attempt"),
  attempt: Schema.String,
  key: Schema.String,
  contentKey: Schema.String,
  codeDigest: Schema.String,
  pid: Schema.Int
})
type AttemptLine = typeof AttemptLine.Type
const AttemptEnd = Schema.Struct({ t: Schema.Literal("attempt-end"), attempt: Schema.String })
const TaskLine = Schema.Struct({ t: Schema.Literal("task"), key: Schema.String, stage: Schema.String })
const Bind = Schema.Struct({ t: Schema.Literal("bind"), key: Schema.String, cached: Schema.Boolean })
const is = {
  run: Schema.is(RunLine),
  attempt: Schema.is(AttemptLine),
  attemptEnd: Schema.is(AttemptEnd),
  task: Schema.is(TaskLine),
  bind: Schema.is(Bind)
}

/** Names of all run journals, oldest first, without their ending. */
export const runIds = (root: string): ReadonlyArray<string> => {
  const home = join(root, "runs")
  if (!existsSync(home)) return []
  return readdirSync(home)
    .filter((name) => name.endsWith(".ndjson"))
    .map((name) => name.slice(0, -".ndjson".length))
    .sort()
}

/**
 * Puts runs in order that came to no end.
 * @returns the journals that the index may not have seen whole: those of such runs and of the last run, with their attempts.
 */
export const recover = Effect.fn("recover")(function* (place: Omit<Workplace, "journal">) {
  const journals: Array<string> = []
  const runs = runIds(place.root)
  for (const run of runs) {
    const path = join(place.root, "runs", `${run}.ndjson`)
    const ended = lastLine(path)?.["t"] === "end"
    if (ended && run !== runs.at(-1)) continue
    const lines = readJournal(path).lines.map((line) => line.value)
    const attempts = lines.filter(is.attempt)
    journals.push(`runs/${run}.ndjson`, ...attempts.map(({ attempt }) => `attempts/${attempt}/journal.ndjson`))
    if (!ended) yield* closeRun(place, run, lines, attempts)
  }
  return journals
})

const closeRun = Effect.fnUntraced(function* (
  place: Omit<Workplace, "journal">,
  run: string,
  lines: ReadonlyArray<Readonly<Record<string, unknown>>>,
  attempts: ReadonlyArray<AttemptLine>
) {
  const here = lines.find(is.run)?.provenance.host === hostname()
  const stages = new Map(lines.filter(is.task).map((task) => [task.key, task.stage]))
  const over = new Set(lines.filter(is.attemptEnd).map(({ attempt }) => attempt))
  const open = attempts.filter(({ attempt }) => !over.has(attempt))
  if (here) for (const { pid, attempt } of open) yield* Effect.promise(() => endOrphan(pid, attempt))
  const journal = openRunJournal(place.root, run)
  const counts = { ran: 0, cached: 0, failed: 0 }
  for (const bind of lines.filter(is.bind)) counts[bind.cached ? "cached" : "ran"]++
  for (const { attempt, key, contentKey, codeDigest } of open) {
    const task = { key, stage: stages.get(key) ?? "", code: { digest: codeDigest } }
    const result = yield* settle({ ...place, journal }, { task, contentKey }, attempt, leftBy(place.root, attempt))
    if (result._tag === "Done") counts.ran++
    else journal.state(key, result.killed ? "planned" : "failed", attempt)
  }
  journal.end("interrupted", counts)
  journal.close()
})

/** What an attempt whose supervisor died came to, by its journal. */
const leftBy = (root: string, attempt: string): Outcome => {
  const dir = join(root, "attempts", attempt)
  const last = decodeEnd(lastLine(join(dir, "journal.ndjson")))
  const logLines = lastLogLines(join(dir, "log.txt"))
  const log = `attempts/${attempt}/log.txt`
  if (last._tag === "None") {
    const message = "its supervisor died; the next run goes on from its last checkpoint"
    return { state: "killed", failure: { tag: "Killed", message, signal: null, logLines, log } }
  }
  if ("outputs" in last.value) return { state: "done", outputs: last.value.outputs }
  const { tag, message } = last.value.error
  return { state: tag === "Interrupted" ? "killed" : "failed", failure: { tag, message, signal: null, logLines, log } }
}

/** Ends a worker that has outlived its supervisor (its watchdog would, a moment later) and waits until it is gone. */
const endOrphan = async (pid: number, attempt: string): Promise<void> => {
  for (let tries = 0; commandOf(pid).includes(attempt) && tries < 250; tries++) {
    try {
      process.kill(pid, "SIGKILL")
    } catch {
      return
    }
    await sleep(20)
  }
}

/** The command line of a process; empty if there is none. Process ids are used again, so a number alone says nothing. */
const commandOf = (pid: number): string => {
  try {
    if (existsSync("/proc/self/cmdline")) return readFileSync(`/proc/${pid}/cmdline`, "utf8")
    return execFileSync("ps", ["-p", String(pid), "-o", "command="], { encoding: "utf8", stdio: "pipe" })
  } catch {
    return ""
  }
}
