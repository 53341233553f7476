/**
 * One worker as its supervisor sees it: a child process, its log, and its journal followed from outside. Everything the
 * supervisor learns of a running stage it reads in the journal, so it makes no difference whether the two share a
 * machine or only a file system.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { closeSync, fstatSync, openSync, readSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { Option, Schema } from "effect"
import { fileFailure } from "../artifact/FileFailure.ts"
import { Output } from "../artifact/realisation.ts"
import { causeOfCrash } from "./crash.ts"
import type { Failure } from "./events.ts"
import { readJournal } from "./journal.ts"
import { decodeLastWords, WorkerExit } from "./taskFile.ts"

export type Outcome =
  | { readonly state: "done"; readonly outputs: Readonly<Record<string, Output>> }
  | { readonly state: "failed" | "killed"; readonly failure: Failure }

export interface WorkerProcess {
  readonly pid: number
  /** The newest progress and step metrics since the last call; undefined when there was nothing new. */
  readonly follow: () => Seen | undefined
  /** Resolves when the process has ended, however it did; never rejects. */
  readonly outcome: Promise<Outcome>
  /** Asks it to stop after its next checkpoint. */
  readonly stop: () => void
  readonly kill: () => void
}

export interface Seen {
  readonly step: number
  readonly of: number
  readonly metrics: Readonly<Record<string, number | null>>
}

const workerFile = fileURLToPath(
  new URL(import.meta.url.endsWith(".ts") ? "./worker.ts" : "./worker.js", import.meta.url)
)

const Progress = Schema.Struct({ t: Schema.Literal("progress"), step: Schema.Int, of: Schema.Int })
const Metrics = Schema.Struct({
  t: Schema.Literal("metrics"),
  values: Schema.Record(Schema.String, Schema.NullOr(Schema.Finite))
})
const End = Schema.Union([
  Schema.Struct({ t: Schema.Literal("end"), outputs: Schema.Record(Schema.String, Output) }),
  Schema.Struct({
    t: Schema.Literal("end"),
    error: Schema.Struct({ tag: Schema.String, message: Schema.String, stack: Schema.String })
  })
])
const isProgress = Schema.is(Progress)
const isMetrics = Schema.is(Metrics)

/** The last line of a finished attempt's journal, if it is one. */
export const decodeEnd = Schema.decodeUnknownOption(End)

export interface WorkerOptions {
  /** The only cards that it sees, as CUDA names them; all where it is left out. */
  readonly cards?: ReadonlyArray<string> | undefined
  /** The module that it runs; worker.ts where it is left out. */
  readonly module?: string | undefined
}

/**
 * Starts a worker for an attempt whose folder holds its `task.json`.
 * @param root the warehouse directory.
 */
export const startWorker = (
  root: string,
  attempt: string,
  { cards, module = workerFile }: WorkerOptions = {}
): WorkerProcess => {
  const dir = join(root, "attempts", attempt)
  const logPath = join(dir, "log.txt")
  let log: number
  try {
    log = openSync(logPath, "a")
  } catch (cause) {
    throw fileFailure("writing", logPath)(cause)
  }
  let child: ChildProcess
  try {
    child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", module, dir, String(process.pid)], {
      stdio: ["ignore", log, log, "pipe"],
      ...(cards === undefined ? {} : { env: { ...process.env, CUDA_VISIBLE_DEVICES: cards.join(",") } })
    })
  } finally {
    closeSync(log)
  }
  let words = ""
  const pipe = child.stdio[3]
  if (pipe !== null && pipe !== undefined && "setEncoding" in pipe) {
    pipe.setEncoding("utf8")
    pipe.on("data", (text: string) => (words += text))
  }

  let offset = 0
  let end: typeof End.Type | undefined
  let latest: Seen | undefined
  const read = (): void => {
    const { lines, next } = readJournal(join(dir, "journal.ndjson"), offset)
    offset = next
    let metrics = latest?.metrics ?? {}
    for (const { value } of lines) {
      if (isMetrics(value)) metrics = value.values
      else if (isProgress(value)) latest = { step: value.step, of: value.of, metrics }
      else if (value["t"] === "end") end = Option.getOrUndefined(decodeEnd(value))
    }
  }
  const follow = (): Seen | undefined => {
    read()
    const seen = latest
    latest = undefined
    return seen
  }

  const outcome = new Promise<Outcome>((resolve) => {
    const lost = (cause: Error): void =>
      resolve({
        state: "failed",
        failure: {
          tag: "WorkerLost",
          message: cause.message,
          signal: null,
          logLines: [],
          log: `attempts/${attempt}/log.txt`
        }
      })
    child.on("error", lost)
    child.on("close", (code, signal) => {
      try {
        read()
        // a stack trace may stand below the sentence that says why
        const tail = lastLogLines(logPath, 500)
        resolve(judge(attempt, code, signal, end, words, tail))
      } catch (cause) {
        lost(cause instanceof Error ? cause : new Error(String(cause)))
      }
    })
  })
  const send = (signal: NodeJS.Signals) => (): void => {
    child.kill(signal)
  }
  return { pid: child.pid ?? -1, follow, outcome, stop: send("SIGTERM"), kill: send("SIGKILL") }
}

/** Signals by which somebody ends a process; the others are its own crash. */
const killing: ReadonlySet<string> = new Set(["SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"])

const judge = (
  attempt: string,
  code: number | null,
  signal: NodeJS.Signals | null,
  end: typeof End.Type | undefined,
  words: string,
  tail: ReadonlyArray<string>
): Outcome => {
  const log = `attempts/${attempt}/log.txt`
  const failure = (tag: string, message: string, of: NodeJS.Signals | null = signal): Failure => ({
    tag,
    message,
    signal: of,
    logLines: tail.slice(-shownLines),
    log
  })
  if (end !== undefined && "outputs" in end) return { state: "done", outputs: end.outputs }
  if (code === WorkerExit.stopped) {
    return {
      state: "killed",
      failure: failure("Killed", "stopped after a checkpoint; the next run goes on from it", "SIGTERM")
    }
  }
  if (end !== undefined) return { state: "failed", failure: failure(end.error.tag, end.error.message) }
  if (signal !== null && killing.has(signal)) {
    const why =
      signal === "SIGKILL" ? "somebody killed it, or the system ran out of memory" : "somebody asked it to end"
    return {
      state: "killed",
      failure: failure(
        "Killed",
        `the worker was ended by ${signal} (${why}); the next run goes on from its last checkpoint`
      )
    }
  }
  if (signal !== null) {
    const cause = causeOfCrash(tail)
    const said = `the worker crashed with ${signal} in native code${cause === undefined ? "" : `: ${cause}`}`
    return { state: "failed", failure: failure("Crashed", `${said}; its last lines are in ${log}`) }
  }
  const last = decodeLastWords(words)
  if (last._tag === "Some") return { state: "failed", failure: failure(last.value.tag, last.value.message) }
  return {
    state: "failed",
    failure: failure(
      "WorkerLost",
      `the worker ended with exit code ${code} without a word; its last lines are in ${log}`
    )
  }
}

/** Lines of a log that a failure shows. */
const shownLines = 12

/** The last lines of a log, oldest first; none if it cannot be read. */
export const lastLogLines = (path: string, count = shownLines): ReadonlyArray<string> => {
  let fd: number
  try {
    fd = openSync(path, "r")
  } catch {
    return []
  }
  try {
    const size = fstatSync(fd).size
    const buffer = Buffer.allocUnsafe(Math.min(size, 1 << 14))
    const read = readSync(fd, buffer, 0, buffer.length, size - buffer.length)
    return buffer.toString("utf8", 0, read).trimEnd().split("\n").slice(-count)
  } finally {
    closeSync(fd)
  }
}
