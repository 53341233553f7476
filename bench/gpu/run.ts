/**
 * Runs the steps of one part or of all, each in a process of its own under a limit of time, and records every one as it ends.
 * What is recorded as done is not run again. See run.sh.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { existsSync, readFileSync, rmSync } from "node:fs"
import { extname, join, resolve } from "node:path"
import { parseArgs } from "node:util"
import {
  allowance,
  type Entry,
  lacking,
  type PartRecord,
  readRecord,
  remaining,
  withEntry,
  writeRecord,
  writeWhole
} from "./record.ts"
import { reportOf } from "./report.ts"
import { type PlannedStep, parts, steps, stepsOf } from "./steps.ts"

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    device: { type: "string", default: "cuda" },
    part: { type: "string" },
    out: { type: "string", default: "gpu-bench" },
    python: { type: "string", default: "python3" },
    seconds: { type: "string", default: "570" },
    tiny: { type: "boolean", default: false }
  }
})

const refuse = (detail: string): never => {
  console.error(detail)
  process.exit(2)
}
const { device, python, tiny } = values
const seconds = Number(values.seconds)
if (device !== "cuda" && device !== "cpu") refuse(`--device ${device}: it is cuda or cpu`)
if (!(seconds > 0)) refuse(`--seconds ${values.seconds}: a number of seconds`)
const strange = positionals.filter((name) => !steps.some((step) => step.name === name))
if (strange.length > 0)
  refuse(`there is no step ${strange.join(", ")}; there are ${steps.map(({ name }) => name).join(", ")}`)
const asked = values.part === undefined ? parts : parts.filter((part) => part === values.part)
if (asked.length === 0) refuse(`--part ${values.part}: it is one of ${parts.join(", ")}`)
const out = resolve(values.out)
const deadline = performance.now() + 1000 * seconds

/** The last lines of what a process writes. */
const tailOf = (child: ChildProcess): (() => string) => {
  let text = ""
  const more = (chunk: Buffer) => {
    text = (text + chunk.toString()).slice(-4000)
  }
  child.stdout?.on("data", more)
  child.stderr?.on("data", more)
  return () => text.trim()
}

/** The command of a step; what it finds goes to `result`. */
const commandOf = ({ name, part }: PlannedStep, result: string): readonly [string, ReadonlyArray<string>] => {
  const common = ["--name", name, "--device", device, "--result", result, ...(tiny ? ["--tiny"] : [])]
  if (part === "c") return [python, [join(import.meta.dirname, "peer.py"), ...common]]
  const file = join(import.meta.dirname, `step${extname(import.meta.filename)}`)
  return [process.execPath, ["--disable-warning=ExperimentalWarning", "--max-old-space-size=16384", file, ...common]]
}

type Ended = Omit<Entry, "attempts"> & { readonly cut: boolean }

/** Runs a step; whatever becomes of it is an entry. A process that overruns its time is killed with all that it started. */
const perform = (step: PlannedStep, limit: { readonly seconds: number; readonly cut: boolean }): Promise<Ended> => {
  const result = join(out, `step.${process.pid}.json`)
  rmSync(result, { force: true })
  const [command, args] = commandOf(step, result)
  const startedAt = new Date().toISOString()
  const start = performance.now()
  const child = spawn(command, args, { detached: true, stdio: ["ignore", "pipe", "pipe"] })
  const tail = tailOf(child)
  const killAll = () => {
    if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL")
  }
  // a step has a process group of its own: whoever ends this command ends it too
  const interrupted = (signal: NodeJS.Signals) => {
    killAll()
    process.exit(signal === "SIGINT" ? 130 : 143)
  }
  process.on("SIGINT", interrupted).on("SIGTERM", interrupted)
  let overran = false
  const timer = setTimeout(() => {
    overran = true
    killAll()
  }, 1000 * limit.seconds)
  return new Promise((resolved) => {
    const end = (message: string | undefined) => {
      clearTimeout(timer)
      process.off("SIGINT", interrupted).off("SIGTERM", interrupted)
      const found: unknown = existsSync(result) ? JSON.parse(readFileSync(result, "utf8")) : null
      rmSync(result, { force: true })
      const entry = { startedAt, seconds: Math.round((performance.now() - start) / 10) / 100, result: found }
      resolved(
        message === undefined
          ? { ...entry, status: "done", cut: false }
          : { ...entry, status: "failed", message, tail: tail(), cut: overran && limit.cut }
      )
    }
    child.on("error", (error) => {
      // no Python is no failure of ours, and trying again does not bring one
      if (step.part === "c") writeWhole(result, JSON.stringify({ absent: [command] }))
      end(step.part === "c" ? undefined : `${command}: ${error.message}`)
    })
    child.on("close", (code, signal) => {
      if (overran) end(`it was stopped after ${limit.seconds.toFixed(0)} s`)
      else if (code === 0 && existsSync(result)) end(undefined)
      else end(code === 0 ? "it ended without a result" : `it ended with ${signal ?? `exit code ${code}`}`)
    })
  })
}

const fileOf = (part: string) => join(out, `${part}.json`)
const emptyOf = (part: string): PartRecord => ({ part, device, tiny, steps: {} })
const recordOf = (part: string): PartRecord => {
  try {
    return readRecord(fileOf(part), emptyOf(part))
  } catch (error) {
    return refuse(error instanceof Error ? error.message : String(error))
  }
}

const chosenOf = (part: PlannedStep["part"]) =>
  stepsOf(part).filter(({ name }) => positionals.length === 0 || positionals.includes(name))

let late = false
for (const part of asked) {
  let record = recordOf(part)
  for (const step of remaining(chosenOf(part), record)) {
    const limit = allowance(step, (deadline - performance.now()) / 1000)
    if (limit === undefined) {
      late = true
      break
    }
    process.stderr.write(`${part}  ${step.name} ... `)
    const { cut, ...entry } = await perform(step, limit)
    if (cut) {
      // the part's end, no failure of the step: it begins anew in the next run
      late = true
      process.stderr.write("no time left\n")
      break
    }
    record = withEntry(record, step.name, entry)
    writeRecord(fileOf(part), record)
    process.stderr.write(`${entry.status}, ${entry.seconds} s${entry.message ? `: ${entry.message}` : ""}\n`)
  }
  if (late) break
}

const records = parts.map(recordOf)
writeWhole(join(out, "report.md"), reportOf(records))
console.log(join(out, "report.md"))
const recordsOfAsked = asked.map((part) => ({ steps: chosenOf(part), record: recordOf(part) }))
const left = recordsOfAsked.some(({ record, steps }) =>
  remaining(steps, record).some(({ name }) => record.steps[name] === undefined || !lacking(record.steps[name]))
)
const failed = recordsOfAsked.some(({ record, steps }) =>
  steps.some(({ name }) => record.steps[name]?.status === "failed")
)
// 75 is EX_TEMPFAIL of sysexits.h: the same command again goes on
process.exitCode = left ? 75 : failed ? 1 : 0
