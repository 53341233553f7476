/**
 * Answers that others published, as if a policy of ours had given them: a stratum of OP-V2's test situations, and the
 * answers of a system to it, matched by the text of the prompt. Files have the names they were published under.
 *
 * An answer that its author marked as unparsed (`ok` false) stays, with whatever text it has: to drop it would flatter
 * its system. Every situation must be answered; no text is an answer too, and covers nothing.
 */
import { existsSync, readdirSync } from "node:fs"
import { join } from "node:path"
import { Effect, Schema, Stream } from "effect"
import { Completions, Situations } from "../artifact/kinds.ts"
import { completionReader, readRecords, situationReader } from "../data/readers.ts"
import { streamRows } from "../data/rows.ts"
import * as Param from "../dsl/param.ts"
import * as Stage from "../dsl/Stage.ts"
import { Task } from "../dsl/Task.ts"

const situationsFile = (stratum: string) => `op_v2_test_${stratum}.csv`

/** The systems whose answers are known, and what their files are called. */
const answerFiles = {
  "op-grpo": (stratum: string) => `op_grpo_outputs_${stratum}.csv`,
  "modular-pluralism": (stratum: string) => `modular_pluralism_outputs_${stratum}.json`
} as const

export const System = Schema.Literals(["op-grpo", "modular-pluralism"])
export type System = typeof System.Type

/** Files of a stratum that a folder lacks, and the strata that it has in full; for a check before anything runs. */
export const missingFiles = (folder: string, stratum: string, system: System) => {
  const files = (of: string) => [situationsFile(of), answerFiles[system](of)]
  const names = existsSync(folder) ? readdirSync(folder) : []
  const strata = names.flatMap((name) => /^op_v2_test_(\w+)\.csv$/.exec(name)?.[1] ?? [])
  return {
    missing: files(stratum).filter((name) => !names.includes(name)),
    strata: strata.filter((of) => files(of).every((name) => names.includes(name)))
  }
}

const folderFields = {
  data: Param.file("the folder of the published files"),
  stratum: Param.string("5p", "which test situations: 5p, those with 5 perspectives; 7p; ..."),
  limit: Param.optional(
    Schema.Int.check(Schema.isGreaterThan(0)),
    "use the first situations only; answers to the others are left out"
  )
}

/** The test situations of a stratum, all of them unless `limit` says otherwise. */
export const stratum = Stage.make("stratum", {
  module: import.meta.url,
  version: 1,
  params: Schema.Struct(folderFields),
  inputs: {},
  outputs: { situations: Situations },
  run: Effect.fn("stage.stratum")(function* ({ outputs, params }) {
    const path = join(params.data.path, situationsFile(params.stratum))
    const all = yield* readRecords(situationReader, { path })
    yield* outputs.situations.write(all.slice(0, params.limit ?? all.length))
  })
})

export class PublishedMismatch extends Schema.TaggedError<PublishedMismatch>()("PublishedMismatch", {
  file: Schema.String,
  detail: Schema.String
}) {
  override get message() {
    return `${this.file}: ${this.detail}`
  }
}

const unparsed = (ok: unknown) => ["0", "false", "no"].includes(String(ok ?? "1").toLowerCase())
const quoted = (prompt: string) => JSON.stringify(prompt.length > 80 ? `${prompt.slice(0, 80)}...` : prompt)

/** The answers of a system to the situations of a stratum. */
export const published = Stage.make("published", {
  module: import.meta.url,
  version: 1,
  params: Schema.Struct({ ...folderFields, system: System }),
  inputs: { situations: Situations },
  outputs: { completions: Completions },
  metrics: { "published/answers": "none", "published/unparsed": "lower", "published/empty": "lower" },
  run: Effect.fn("stage.published")(function* ({ inputs, outputs, params }) {
    const task = yield* Task
    const file = answerFiles[params.system](params.stratum)
    const path = join(params.data.path, file)
    const mismatch = (detail: string) => new PublishedMismatch({ file: path, detail })
    const asked = new Map<string, string>()
    for (const { id, prompt } of yield* inputs.situations.rows) {
      if (asked.has(prompt.trim())) {
        return yield* new PublishedMismatch({
          file: join(params.data.path, situationsFile(params.stratum)),
          detail: `the situation ${quoted(prompt)} is there twice, and answers are matched by its text; drop one row`
        })
      }
      asked.set(prompt.trim(), id)
    }
    const rows = yield* streamRows({ path }).pipe(
      Stream.mapEffect((row) =>
        Effect.map(Effect.fromResult(completionReader.read(row, file)), (answer) => ({
          ...answer,
          place: row.place,
          failed: unparsed(row.values["ok"])
        }))
      ),
      Stream.runCollect
    )
    const answered = new Map<string, number>()
    const answers: Array<{
      readonly id: string
      readonly idx: number
      readonly prompt: string
      readonly text: string
    }> = []
    for (const { place, prompt, text } of rows) {
      const id = asked.get(prompt.trim())
      if (id === undefined) {
        if (params.limit !== undefined) continue
        return yield* mismatch(
          `${place} answers ${quoted(prompt)}, which is no situation of ${situationsFile(params.stratum)}; the files belong to different strata, or the prompt was edited`
        )
      }
      const idx = answered.get(id) ?? 0
      answered.set(id, idx + 1)
      answers.push({ id, idx, prompt, text })
    }
    const unanswered = [...asked].filter(([, id]) => !answered.has(id))
    if (unanswered.length > 0) {
      return yield* mismatch(
        `${unanswered.length} of ${asked.size} situations have no answer, the first ${quoted(unanswered[0]![0])}; add a row for each, with an empty text where the system gave none`
      )
    }
    yield* task.samples(
      answers.map(({ id, idx, prompt, text }) => ({
        step: 0,
        promptId: id,
        idx,
        prompt,
        completion: text,
        reward: null,
        advantage: null,
        parts: []
      }))
    )
    yield* task.metrics(0, {
      "published/answers": answers.length,
      "published/unparsed": rows.filter(({ failed, prompt }) => failed && asked.has(prompt.trim())).length,
      "published/empty": answers.filter(({ text }) => text.trim() === "").length
    })
    yield* outputs.completions.write(answers.map(({ id, prompt, text }) => ({ id, prompt, text })))
  })
})
