/**
 * Situations with their perspectives from a file or a DuckDB query (JSONL, JSON, CSV, Parquet; the layouts of OP-V2 and
 * Modular Pluralism are known: `docs/data.md`), split into training, development and test situations, and the
 * reference answers as demonstrations for a warm start.
 *
 * The paper's demonstrations have a summary written by an LLM (Qwen3-14B); here the summary is a sentence that names
 * the perspectives, which is what the reward's format part asks of it.
 */
import { Effect, Schema } from "effect"
import { Demonstrations, Situations } from "../artifact/kinds.ts"
import { readRecords, situationReader } from "../data/readers.ts"
import type { PromptCompletion, Situation } from "../data/records.ts"
import { permutation, stream } from "../device/random.ts"
import * as Param from "../dsl/param.ts"
import * as Stage from "../dsl/Stage.ts"
import { writeAnswer } from "../rewards/grammar.ts"

export const DatasetParams = {
  path: Param.file("a file of situations: .jsonl, .json, .csv or .parquet"),
  query: Param.optional(
    Schema.NonEmptyString,
    "a DuckDB query over the file, in which the table is called `data`, in place of all of its rows"
  ),
  prompt: Param.withDefault(
    Schema.String.check(Schema.isIncluding("{situation}")),
    "{situation}",
    "what the policy is asked; {situation} stands for the situation"
  ),
  development: Param.int(0, "situations held out for tuning", { min: 0 }),
  test: Param.int(100, "situations held out for the evaluation", { min: 1 }),
  splitSeed: Param.int(0, "the seed of the split; cells with different seeds share one split"),
  limit: Param.optional(Schema.Int.check(Schema.isGreaterThan(0)), "use the first rows only")
}

export class DatasetTooSmall extends Schema.TaggedError<DatasetTooSmall>()("DatasetTooSmall", {
  file: Schema.String,
  rows: Schema.Int,
  wanted: Schema.Int
}) {
  override get message() {
    return `${this.file} has ${this.rows} situations; ${this.wanted} are held out (\`data.development\`, \`data.test\`) and at least one must be left to train on. Hold out fewer.`
  }
}

export class SituationTwice extends Schema.TaggedError<SituationTwice>()("SituationTwice", {
  file: Schema.String,
  by: Schema.Literals(["id", "text"]),
  value: Schema.String
}) {
  override get message() {
    return this.by === "id"
      ? `${this.file}: two situations have the id ${JSON.stringify(this.value)}; ids name prompts in random streams and results. Give each its own, or drop the column \`id\`: rows are then numbered.`
      : `${this.file}: the situation ${JSON.stringify(this.value)} is there twice; one could be trained on and the other evaluated. Give it one row, with the perspectives of both.`
  }
}

/** A reference answer in the strict form, the summary a sentence that names every perspective. */
const demonstration = ({ id, perspectives, prompt }: Situation): PromptCompletion => {
  const names = perspectives.map(({ name }) => name)
  const last = names.at(-1)!
  const listed = names.length === 1 ? last : `${names.slice(0, -1).join(", ")} and ${last}`
  const summary = `This can be seen in the light of ${listed}.`
  return {
    id,
    prompt,
    completion: writeAnswer(
      perspectives.map(({ text }) => text),
      summary
    )
  }
}

/** `data` in a query is the file. */
const sourceOf = ({ path, query }: { readonly path: Param.FileRef; readonly query?: string }) =>
  query === undefined ? { path: path.path } : { query, data: path.path }

export const dataset = Stage.make("dataset", {
  module: import.meta.url,
  version: 1,
  params: Schema.Struct(DatasetParams),
  inputs: {},
  outputs: {
    train: Situations,
    development: Situations,
    test: Situations,
    demonstrations: Demonstrations,
    developmentDemonstrations: Demonstrations
  },
  run: Effect.fn("stage.dataset")(function* ({ outputs, params }) {
    const records = yield* readRecords(situationReader, sourceOf(params))
    const rows = records.slice(0, params.limit ?? records.length).map(
      (record): Situation => ({
        ...record,
        // A function, for a replacement text would have its "$&" and "$$" read as patterns.
        prompt: params.prompt.replaceAll("{situation}", () => record.prompt),
        situation: record.situation ?? record.prompt
      })
    )
    for (const by of ["id", "text"] as const) {
      const seen = new Set<string>()
      for (const { id, prompt } of records.slice(0, rows.length)) {
        const value = by === "id" ? id : prompt.trim()
        if (seen.has(value)) return yield* new SituationTwice({ file: params.path.path, by, value })
        seen.add(value)
      }
    }
    const { development, test } = params
    if (rows.length <= development + test) {
      return yield* new DatasetTooSmall({ file: params.path.path, rows: rows.length, wanted: development + test })
    }
    const order = permutation(stream(params.splitSeed, "dataset", "split"), rows.length)
    const held = (from: number, to: number) => Array.from(order.slice(from, to)).map((k) => rows[k]!)
    const train = held(test + development, rows.length)
    yield* outputs.test.write(held(0, test))
    yield* outputs.development.write(held(test, test + development))
    yield* outputs.train.write(train)
    yield* outputs.demonstrations.write(train.map(demonstration))
    yield* outputs.developmentDemonstrations.write(held(test, test + development).map(demonstration))
  })
})
