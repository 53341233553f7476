/**
 * One line of a journal (docs/formats.md) as rows of tables. Lines of an unknown type are passed over, so that an older
 * reader can follow a newer writer of the same format; a line that lacks what its type must have is an error.
 */
import { type Batch, type Cell, push } from "./tables.ts"

/** Thrown for a line that cannot be taken; the reader adds the file and the offset. */
export class BadLine extends Error {}

type Fields = Readonly<Record<string, unknown>>

const isObject = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const missing = (key: string, what: string, found: unknown): never => {
  throw new BadLine(`\`${key}\` should be ${what}, found ${JSON.stringify(found) ?? "nothing"}`)
}

const text = (f: Fields, key: string): string => {
  const value = f[key]
  return typeof value === "string" ? value : missing(key, "text", value)
}
const textOrNull = (f: Fields, key: string): string | null => (f[key] == null ? null : text(f, key))

const whole = (f: Fields, key: string): number => {
  const value = f[key]
  return Number.isSafeInteger(value) ? (value as number) : missing(key, "a whole number", value)
}
const wholeOrNull = (f: Fields, key: string): number | null => (f[key] == null ? null : whole(f, key))

/** Steps and sample indices are 32 bits wide in the tables. */
const step = (f: Fields, key: string): number => {
  const value = whole(f, key)
  return value === (value | 0) ? value : missing(key, "a whole number below 2^31", value)
}

/** NaN and infinities are written as null. */
const real = (f: Fields, key: string): number | null => {
  const value = f[key] ?? null
  return value === null || typeof value === "number" ? value : missing(key, "a number or null", value)
}

const json = (f: Fields, key: string): string | null => (f[key] === undefined ? null : JSON.stringify(f[key]))

const rows = (f: Fields, key: string): ReadonlyArray<Fields> => {
  const value = f[key]
  if (!Array.isArray(value)) return missing(key, "a list", value)
  return value.map((row) => (isObject(row) ? row : missing(key, "a list of objects", row)))
}

const object = (f: Fields, key: string): Fields => {
  const value = f[key]
  return isObject(value) ? value : missing(key, "an object", value)
}

/** Milliseconds since 1970 or ISO 8601 text, as microseconds. */
const time = (f: Fields, key: string): bigint | null => {
  const value = f[key] ?? null
  if (value === null) return null
  const ms = typeof value === "number" ? value : typeof value === "string" ? Date.parse(value) : Number.NaN
  return Number.isFinite(ms) ? BigInt(Math.round(ms * 1000)) : missing(key, "a time", value)
}

const format = (f: Fields): void => {
  if (f["format"] !== 1) {
    throw new BadLine(`is of format ${JSON.stringify(f["format"])}; this version of Overtone reads format 1`)
  }
}

const same = (f: Fields, key: string, id: string): string => {
  const value = text(f, key)
  if (value !== id) throw new BadLine(`says it is ${key} ${value}, but its file is named ${id}`)
  return value
}

type Reader = (batch: Batch, id: string, seq: number, f: Fields) => void

const attemptLines: Readonly<Record<string, Reader>> = {
  head: (batch, attempt, seq, f) => {
    format(f)
    same(f, "attempt", attempt)
    const resumes = f["resumes"] ?? null
    const from: ReadonlyArray<Cell> = isObject(resumes)
      ? [text(resumes, "attempt"), whole(resumes, "offset"), whole(resumes, "step")]
      : [null, null, null]
    const about = [textOrNull(f, "task"), textOrNull(f, "stage"), textOrNull(f, "contentKey")]
    push(batch, "heads", [attempt, seq, ...about, textOrNull(f, "codeDigest"), ...from])
  },
  metrics: (batch, attempt, seq, f) => {
    const at = step(f, "step")
    const values = object(f, "values")
    Object.keys(values).forEach((name, i) => {
      push(batch, "metrics", [attempt, seq, i, at, name, real(values, name)])
    })
  },
  samples: (batch, attempt, seq, f) => {
    for (const [i, row] of rows(f, "rows").entries()) {
      const which = [step(row, "step"), text(row, "promptId"), step(row, "idx")] as const
      const said = [textOrNull(row, "prompt"), textOrNull(row, "completion")]
      push(batch, "samples", [attempt, seq, i, ...which, ...said, real(row, "reward"), real(row, "advantage")])
      for (const [k, part] of (row["parts"] === undefined ? [] : rows(row, "parts")).entries()) {
        const scored = [text(part, "name"), real(part, "value"), real(part, "weight")]
        push(batch, "reward_parts", [attempt, seq, i, k, ...which, ...scored])
      }
    }
  },
  items: (batch, attempt, seq, f) => {
    for (const [i, row] of rows(f, "rows").entries()) {
      const item = [text(row, "promptId"), text(row, "split"), text(row, "name"), real(row, "value")]
      push(batch, "items", [attempt, seq, i, ...item])
    }
  },
  event: (batch, attempt, seq, f) => push(batch, "events", [attempt, seq, text(f, "name"), json(f, "detail")]),
  progress: (batch, attempt, seq, f) => push(batch, "progress", [attempt, seq, step(f, "step"), step(f, "of")]),
  checkpoint: (batch, attempt, seq, f) => {
    const written = [step(f, "step"), json(f, "state"), textOrNull(f, "sha256"), wholeOrNull(f, "offset")]
    push(batch, "checkpoints", [attempt, seq, ...written])
  },
  end: (batch, attempt, seq, f) => {
    for (const name of Object.keys(f["outputs"] == null ? {} : object(f, "outputs"))) {
      const output = object(object(f, "outputs"), name)
      const made = [textOrNull(output, "kind"), textOrNull(output, "sha256"), wholeOrNull(output, "bytes")]
      push(batch, "outputs", [attempt, seq, name, ...made])
    }
    push(batch, "ends", [attempt, seq, json(f, "error")])
  }
}

const runLines: Readonly<Record<string, Reader>> = {
  run: (batch, run, seq, f) => {
    format(f)
    same(f, "run", run)
    const about = [text(f, "experiment"), textOrNull(f, "file"), time(f, "startedAt")]
    push(batch, "runs", [run, seq, ...about, json(f, "provenance"), json(f, "report"), f["partial"] === true])
  },
  cell: (batch, run, seq, f) => {
    const cell = text(f, "cell")
    push(batch, "cells", [run, seq, cell, textOrNull(f, "arm"), wholeOrNull(f, "seed"), json(f, "params")])
    for (const [i, task] of rows(f, "tasks").entries()) {
      push(batch, "cell_tasks", [run, seq, i, cell, text(task, "key"), text(task, "node")])
    }
  },
  task: (batch, run, seq, f) => {
    const stage = f["stage"]
    const named = isObject(stage)
      ? [text(stage, "name"), wholeOrNull(stage, "version")]
      : [text(f, "stage"), wholeOrNull(f, "version")]
    const asked = [json(f, "params"), json(f, "inputs"), f["class"] === null ? null : json(f, "class")]
    push(batch, "tasks", [run, seq, text(f, "key"), ...named, ...asked, wholeOrNull(f, "seed")])
  },
  attempt: (batch, run, seq, f) => {
    const keys = [text(f, "attempt"), text(f, "key"), textOrNull(f, "contentKey"), textOrNull(f, "codeDigest")]
    push(batch, "attempts", [run, seq, ...keys, wholeOrNull(f, "pid"), time(f, "startedAt"), json(f, "resumes")])
  },
  state: (batch, run, seq, f) =>
    push(batch, "states", [run, seq, text(f, "key"), text(f, "state"), textOrNull(f, "attempt")]),
  bind: (batch, run, seq, f) =>
    push(batch, "binds", [run, seq, text(f, "key"), text(f, "attempt"), f["cached"] === true]),
  "attempt-end": (batch, run, seq, f) => {
    const ended = [text(f, "state"), textOrNull(f, "signal"), time(f, "endedAt"), json(f, "error")]
    push(batch, "attempt_ends", [run, seq, text(f, "attempt"), ...ended])
  },
  end: (batch, run, seq, f) => {
    const counts = [wholeOrNull(f, "ran"), wholeOrNull(f, "cached"), wholeOrNull(f, "failed")]
    push(batch, "run_ends", [run, seq, textOrNull(f, "state"), ...counts, time(f, "endedAt")])
  }
}

/** Which journal a file is. */
export interface Journal {
  readonly kind: "run" | "attempt"
  readonly id: string
}

/** A line's object; null for a line that is none, as a power failure may leave (zeros, say). */
const parse = (line: string): Fields | null => {
  try {
    const value: unknown = JSON.parse(line)
    return isObject(value) ? value : null
  } catch {
    return null
  }
}

/**
 * Adds the rows of one whole line, which begins at byte `seq` of its journal. Returns false for a line that is no JSON
 * object. Throws `BadLine` where a line is one but not as docs/formats.md has it; such a batch is not to be written.
 */
export const take = (batch: Batch, journal: Journal, seq: number, line: string): boolean => {
  const fields = parse(line)
  if (fields === null) return false
  const readers = journal.kind === "run" ? runLines : attemptLines
  const type = fields["t"]
  if (typeof type === "string" && Object.hasOwn(readers, type)) readers[type]!(batch, journal.id, seq, fields)
  return true
}
