/**
 * A run takes minutes, and people edit while they wait. A worker loads what lies on the disk when it starts, so it checks
 * that this is the code which the plan has seen: a result is never kept under another code's digest.
 */
import { Effect, Schema } from "effect"
import type { AnyStage } from "../dsl/Stage.ts"
import { keptCode } from "./code.ts"
import type { TaskFile } from "./taskFile.ts"

const shown = 4

export class CodeChanged extends Schema.TaggedError<CodeChanged>()("CodeChanged", {
  files: Schema.Array(Schema.String)
}) {
  override get message() {
    const more = this.files.length > shown ? `, and ${this.files.length - shown} more` : ""
    return `the code was edited while the run was on (${this.files.slice(0, shown).join(", ")}${more}); run the same command again: what is done and not touched by it is reused`
  }
}

const differing = (
  before: Readonly<Record<string, string>>,
  after: Readonly<Record<string, string>>
): ReadonlyArray<string> =>
  [...new Set([...Object.keys(before), ...Object.keys(after)])].filter((name) => before[name] !== after[name]).sort()

/**
 * Fails with `CodeChanged` where a stage that has just been loaded is not the code of this digest.
 * @param root the warehouse directory, which has kept what the digest was made of; where it has not, nothing is checked.
 */
export const sameCode = Effect.fnUntraced(function* (
  root: string,
  stage: AnyStage,
  { codeDigest: digest, class: asked, params }: Pick<TaskFile, "codeDigest" | "class" | "params">
) {
  const planned = keptCode(root, digest)
  if (planned === null || Object.keys(planned.files).length === 0) return
  const [{ codeManifests }, { withBackend }] = yield* Effect.promise(() =>
    Promise.all([import("../dsl/digest.ts"), import("../dsl/plan.ts")])
  )
  const [found] = yield* Effect.promise(() => codeManifests([withBackend(stage, asked?.provider ?? "none", params)]))
  if (found === undefined || found.digest === digest) return
  const files = [...differing(planned.files, found.files), ...differing(planned.packages, found.packages)]
  return yield* new CodeChanged({ files })
})
