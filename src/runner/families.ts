/**
 * Finished runs that a longer one can take up: `families/<family key>/<code digest>/<steps>.json` names the attempt whose
 * rows, and the artifact `checkpoint` from which, it goes on. An index over attempts: where a file of it is lost, the
 * longer run starts from nothing and comes to the same.
 */
import { readdirSync, readFileSync } from "node:fs"
import { mkdir, open, rename } from "node:fs/promises"
import { join } from "node:path"
import { Effect, Option, Result, Schema } from "effect"
import { errnoOf, type FileFailure, fileFailure } from "../artifact/FileFailure.ts"
import { syncFolder } from "../artifact/folder.ts"
import type { Output } from "../artifact/realisation.ts"
import type { Store, StoreError } from "../artifact/store.ts"
import type { ResumePoint } from "./checkpoint.ts"
import { readJournal } from "./journal.ts"

const Member = Schema.Struct({
  format: Schema.Literal(1),
  steps: Schema.Int,
  attempt: Schema.String,
  /** SHA-256 of the artifact. */
  checkpoint: Schema.String
})
type Member = typeof Member.Type
const decodeMember = Schema.decodeUnknownOption(Schema.fromJsonString(Member))

/** What `settle` needs of a `task.json`. */
const Asked = Schema.fromJsonString(
  Schema.Struct({
    codeDigest: Schema.String,
    family: Schema.optionalKey(Schema.NullOr(Schema.Struct({ key: Schema.String, steps: Schema.Int })))
  })
)
const decodeAsked = Schema.decodeUnknownOption(Asked)

const folderOf = (root: string, family: string, codeDigest: string): string =>
  join(root, "families", family, codeDigest)

/** Finished runs of a family with fewer steps, the longest first; whether their artifacts are there is not looked at. */
export const shorterRuns = (root: string, family: string, codeDigest: string, steps: number): ReadonlyArray<Member> => {
  const dir = folderOf(root, family, codeDigest)
  let names: ReadonlyArray<string>
  try {
    names = readdirSync(dir)
  } catch (cause) {
    if (errnoOf(cause) === "ENOENT") return []
    throw fileFailure("reading", dir)(cause)
  }
  return names
    .filter((name) => /^\d+\.json$/.test(name))
    .flatMap((name) => Option.toArray(decodeMember(readFileSync(join(dir, name), "utf8"))))
    .filter((member) => member.steps < steps)
    .sort((a, b) => b.steps - a.steps)
}

const HandedOver = Schema.Struct({
  t: Schema.Literal("checkpoint"),
  step: Schema.Int,
  state: Schema.Unknown,
  output: Schema.Literal("checkpoint"),
  offset: Schema.Int
})
const isHandedOver = Schema.is(HandedOver)

/**
 * Where a finished attempt handed over; undefined where its journal does not say. Its step counts all updates: those of a
 * phase before the steps that the family differs in (`nli`: `alignSteps`) as well.
 */
const pointOf = (root: string, { attempt, checkpoint }: Member): ResumePoint | undefined => {
  const { lines } = readJournal(join(root, "attempts", attempt, "journal.ndjson"))
  const line = lines.map(({ value }) => value).find(isHandedOver)
  if (line === undefined) return undefined
  return { attempt, offset: line.offset, step: line.step, state: line.state, sha256: checkpoint, artifact: true }
}

/**
 * Where a run of `steps` steps takes up the longest shorter one whose checkpoint is sound, if that one is beyond `after`.
 * A corrupt checkpoint is moved aside, as every artifact that is read is, and passed over.
 */
export const handedOver = Effect.fnUntraced(function* (
  { root, store }: { readonly root: string; readonly store: Store },
  wanted: {
    readonly family: string
    readonly codeDigest: string
    readonly steps: number
    readonly after: number
  }
): Effect.fn.Return<ResumePoint | undefined, StoreError> {
  for (const member of shorterRuns(root, wanted.family, wanted.codeDigest, wanted.steps)) {
    const point = pointOf(root, member)
    if (point === undefined) continue
    if (point.step <= wanted.after) return undefined
    const checked = yield* Effect.result(store.verify(member.checkpoint))
    if (Result.isSuccess(checked)) return point
    if (checked.failure.reason._tag !== "Corrupt" && checked.failure.reason._tag !== "Missing") {
      return yield* checked.failure
    }
  }
  return undefined
})

/** Enters a finished attempt into its family, if its task has one; durable. */
export const joinFamily = (
  root: string,
  attempt: string,
  outputs: Readonly<Record<string, Output>>
): Effect.Effect<void, FileFailure> => {
  const task = join(root, "attempts", attempt, "task.json")
  return Effect.tryPromise({
    try: async () => {
      const asked = Option.getOrUndefined(decodeAsked(readFileSync(task, "utf8")))
      const checkpoint = outputs["checkpoint"]?.sha256
      if (asked?.family == null || checkpoint === undefined) return
      const { key, steps } = asked.family
      const dir = folderOf(root, key, asked.codeDigest)
      const member: Member = { format: 1, steps, attempt, checkpoint }
      await mkdir(dir, { recursive: true })
      const draft = join(dir, `.${steps}.tmp`)
      const file = await open(draft, "w")
      try {
        await file.writeFile(`${JSON.stringify(member)}\n`)
        await file.sync()
      } finally {
        await file.close()
      }
      await rename(draft, join(dir, `${steps}.json`))
      await syncFolder(dir)
    },
    catch: fileFailure("writing", join(root, "families"))
  })
}
