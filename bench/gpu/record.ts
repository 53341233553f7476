/**
 * What the steps of a part gave: one JSON file a part, written anew after every step, so that a part that is cut off goes on
 * where it stopped. Nothing here knows what a step does.
 */
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs"
import { dirname } from "node:path"

/** What became of a step. */
export interface Entry {
  readonly status: "done" | "failed"
  readonly attempts: number
  /** ISO 8601. */
  readonly startedAt: string
  readonly seconds: number
  /** Of a step that failed: what it had found by then. */
  readonly result: unknown
  /** Why it failed, and the last lines that it wrote. */
  readonly message?: string
  readonly tail?: string
}

export interface PartRecord {
  readonly part: string
  readonly device: string
  readonly tiny: boolean
  readonly steps: Readonly<Record<string, Entry>>
}

export interface Limited {
  readonly name: string
  /** Seconds that it may take. */
  readonly limit: number
}

/** Attempts at a step that fails. */
const mostAttempts = 2
/** Less time than this is not worth a start, in seconds. */
const leastSeconds = 20

/**
 * A part's record, empty where there is none yet. Throws a RangeError for that of another device or of other sizes: numbers of
 * two kinds do not belong into one table.
 */
export const readRecord = (file: string, empty: PartRecord): PartRecord => {
  if (!existsSync(file)) return empty
  const found: PartRecord = JSON.parse(readFileSync(file, "utf8"))
  if (found.device !== empty.device || found.tiny !== empty.tiny || found.part !== empty.part) {
    const said = ({ device, part, tiny }: PartRecord) => `part ${part}, device ${device}${tiny ? ", tiny" : ""}`
    throw new RangeError(`${file} is of ${said(found)}, and asked for is ${said(empty)}: give another --out`)
  }
  return found
}

/** Writes a file so that whoever reads it finds the old one or the new one, whole. */
export const writeWhole = (file: string, text: string): void => {
  mkdirSync(dirname(file), { recursive: true })
  const beside = `${file}.${process.pid}.new`
  writeFileSync(beside, text)
  renameSync(beside, file)
}

export const writeRecord = (file: string, record: PartRecord): void =>
  writeWhole(file, `${JSON.stringify(record, null, 2)}\n`)

/** The record with what became of a step. */
export const withEntry = (record: PartRecord, name: string, entry: Omit<Entry, "attempts">): PartRecord => ({
  ...record,
  steps: { ...record.steps, [name]: { ...entry, attempts: (record.steps[name]?.attempts ?? 0) + 1 } }
})

/** Whether a step found that what it needs is not there: nothing failed, and another command may bring it. */
export const lacking = ({ result }: Pick<Entry, "result">): boolean =>
  typeof result === "object" && result !== null && "absent" in result

/** Steps that are left, in order: those never tried first, then those that lacked something, or failed and may be tried again. */
export const remaining = <S extends Limited>(
  steps: ReadonlyArray<S>,
  { steps: known }: PartRecord
): ReadonlyArray<S> => {
  const untried = steps.filter(({ name }) => known[name] === undefined)
  const failed = steps.filter(({ name }) => known[name]?.status === "failed" && known[name].attempts < mostAttempts)
  const lacked = steps.filter(({ name }) => known[name]?.status === "done" && lacking(known[name]))
  return [...untried, ...lacked, ...failed]
}

/**
 * Seconds that a step gets of what is left of its part; undefined where that is too little to start. `cut` says that the
 * part's end comes before the step's own limit: running out of it is then no failure of the step.
 */
export const allowance = (
  { limit }: Limited,
  left: number
): { readonly seconds: number; readonly cut: boolean } | undefined =>
  left < Math.min(limit, leastSeconds) ? undefined : { seconds: Math.min(limit, left), cut: left < limit }
