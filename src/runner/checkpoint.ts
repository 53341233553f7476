/**
 * Checkpoints of a running stage, in two phases: the folder `checkpoint/<step>` complete and on disk, then one line in
 * the journal that names its hash and how much of the journal belongs to it. So a checkpoint is whole or not there, and
 * the rows that stand before it are durable with it. At most two folders exist: the newest whole one and the next.
 */
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { mkdir, rm } from "node:fs/promises"
import { join } from "node:path"
import { Effect, Schema } from "effect"
import { hashFolder, identify, syncFolder } from "../artifact/folder.ts"
import { type JournalWriter, readJournal } from "./journal.ts"
import { assertJson } from "./nonFinite.ts"

const kind = "checkpoint"

/** Where an interrupted attempt can be taken up: the rows of its journal before `offset` stay, `step` is next. */
export const ResumePoint = Schema.Struct({
  attempt: Schema.String,
  offset: Schema.Int,
  step: Schema.Int,
  state: Schema.Unknown,
  sha256: Schema.String,
  /** It is an artifact that a shorter run left, and no folder of the attempt. */
  artifact: Schema.optionalKey(Schema.Boolean)
})
export type ResumePoint = typeof ResumePoint.Type

/** Folder of a checkpoint within its attempt's folder. */
export const checkpointDir = (attemptDir: string, step: number): string => join(attemptDir, "checkpoint", String(step))

/** Folder of what an attempt takes up; `attemptDir` is any attempt's. */
export const resumeDir = (attemptDir: string, { artifact, attempt, sha256, step }: ResumePoint): string =>
  artifact === true
    ? join(attemptDir, "..", "..", "artifacts", sha256)
    : checkpointDir(join(attemptDir, "..", attempt), step)

/** First phase: an empty folder for `step`. */
export const beginCheckpoint = async (attemptDir: string, step: number): Promise<string> => {
  const dir = checkpointDir(attemptDir, step)
  await rm(dir, { recursive: true, force: true })
  await mkdir(dir, { recursive: true })
  return dir
}

/** Second phase: the folder durable, the journal's rows durable, the line that makes both count; older folders go. */
export const commitCheckpoint = async (
  attemptDir: string,
  journal: JournalWriter,
  step: number,
  state: unknown
): Promise<void> => {
  assertJson(state, `the state of checkpoint ${step}`)
  const dir = checkpointDir(attemptDir, step)
  const { sha256 } = identify(kind, await hashFolder(dir, { sync: true }))
  await syncFolder(join(attemptDir, "checkpoint"))
  journal.sync()
  journal.append({ t: "checkpoint", step, state: state ?? null, sha256, offset: journal.length() })
  journal.sync()
  for (const other of readdirSync(join(attemptDir, "checkpoint"))) {
    if (other !== String(step)) await rm(join(attemptDir, "checkpoint", other), { recursive: true, force: true })
  }
}

const Line = Schema.Struct({
  t: Schema.Literal("checkpoint"),
  step: Schema.Int,
  state: Schema.Unknown,
  sha256: Schema.String,
  offset: Schema.Int
})
const isLine = Schema.is(Line)

/** The checkpoints that an attempt's journal names and whose folders are still there, newest first; not yet verified. */
const named = (attemptDir: string, attempt: string): ReadonlyArray<ResumePoint> => {
  const points = new Map<number, ResumePoint>()
  for (const { value } of readJournal(join(attemptDir, "journal.ndjson")).lines) {
    if (!isLine(value)) continue
    const { step, state, sha256, offset } = value
    if (existsSync(checkpointDir(attemptDir, step))) points.set(step, { attempt, offset, step, state, sha256 })
  }
  return [...points.values()].sort((a, b) => b.step - a.step)
}

const Asked = Schema.fromJsonString(Schema.Struct({ contentKey: Schema.String, codeDigest: Schema.String }))
const decodeAsked = Schema.decodeUnknownOption(Asked)

export interface Interrupted {
  /** The furthest verified checkpoint of any attempt at this very content and code. */
  readonly find: (contentKey: string, codeDigest: string) => Effect.Effect<ResumePoint | undefined>
  /** Removes the checkpoints of all attempts at it: it is done. */
  readonly forget: (contentKey: string, codeDigest: string) => Effect.Effect<void>
  /** An attempt begins, which may leave some. */
  readonly begun: (contentKey: string, codeDigest: string, attempt: string) => void
}

/**
 * Attempts that left checkpoints behind, found when first asked for (a run in which nothing has to be done never looks).
 * @param root the warehouse directory.
 */
export const interruptedAttempts = (root: string): Interrupted => {
  const home = join(root, "attempts")
  let index: Map<string, Array<string>> | undefined

  const scan = (): Map<string, Array<string>> => {
    const found = new Map<string, Array<string>>()
    if (!existsSync(home)) return found
    for (const attempt of readdirSync(home).sort()) {
      if (!existsSync(join(home, attempt, "checkpoint")) || !existsSync(join(home, attempt, "task.json"))) continue
      const asked = decodeAsked(readFileSync(join(home, attempt, "task.json"), "utf8"))
      if (asked._tag === "None") continue
      const key = keyOf(asked.value.contentKey, asked.value.codeDigest)
      found.set(key, [...(found.get(key) ?? []), attempt])
    }
    return found
  }
  const known = (): Map<string, Array<string>> => (index ??= scan())
  const keyOf = (contentKey: string, codeDigest: string): string => `${contentKey}/${codeDigest}`
  const attemptsAt = (contentKey: string, codeDigest: string): ReadonlyArray<string> =>
    known().get(keyOf(contentKey, codeDigest)) ?? []

  const sound = async (point: ResumePoint): Promise<boolean> => {
    try {
      const files = await hashFolder(checkpointDir(join(home, point.attempt), point.step))
      return identify(kind, files).sha256 === point.sha256
    } catch {
      return false
    }
  }

  const firstSound = async (points: ReadonlyArray<ResumePoint>): Promise<ResumePoint | undefined> => {
    for (const point of points) if (await sound(point)) return point
    return undefined
  }

  return {
    begun: (contentKey, codeDigest, attempt) => {
      const others = attemptsAt(contentKey, codeDigest).filter((one) => one !== attempt)
      known().set(keyOf(contentKey, codeDigest), [...others, attempt])
    },
    find: (contentKey, codeDigest) =>
      Effect.promise(async () => {
        const points = attemptsAt(contentKey, codeDigest)
          .flatMap((attempt) => named(join(home, attempt), attempt))
          .sort((a, b) => b.step - a.step || (a.attempt < b.attempt ? 1 : -1))
        const chosen = await firstSound(points)
        // The others will never be wanted again: a checkpoint further on stands for them, or they are corrupt.
        for (const { attempt, step } of points) {
          if (attempt !== chosen?.attempt || step !== chosen.step) {
            rmSync(checkpointDir(join(home, attempt), step), { recursive: true, force: true })
          }
        }
        return chosen
      }),
    forget: (contentKey, codeDigest) =>
      Effect.sync(() => {
        for (const attempt of attemptsAt(contentKey, codeDigest)) {
          rmSync(join(home, attempt, "checkpoint"), { recursive: true, force: true })
        }
        index?.delete(`${contentKey}/${codeDigest}`)
      })
  }
}
