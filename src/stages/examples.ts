/**
 * Examples to learn from out of a file, in TRL's dataset types (`src/data/trl.ts`): language modelling, prompt-completion,
 * preference with explicit or implicit prompt, unpaired preference, each as texts or as messages. JSONL, JSON, CSV, TSV and
 * Parquet; a DuckDB query over the file picks a split or makes columns.
 *
 * The data sets that the type does not give stay empty. Pairs also give rankings of two, single judgements and
 * demonstrations; desirable single answers are demonstrations too. The rows held out go to `heldOut` (of pairs).
 */
import { Effect, Schema } from "effect"
import { Preferences } from "../artifact/kinds.ts"
import { readRecords } from "../data/readers.ts"
import { languageModelling, preferencePairs, promptCompletion, renamed, unpairedPreferences } from "../data/trl.ts"
import { lessonsOfPair } from "../data/votes.ts"
import { permutation, stream } from "../device/random.ts"
import * as Param from "../dsl/param.ts"
import * as Stage from "../dsl/Stage.ts"
import { Task } from "../dsl/Task.ts"
import { preferenceOutputs, writeLessons } from "./preference/lessons.ts"

const column = (of: string) => Param.optional(Schema.NonEmptyString, `what the file calls the column \`${of}\``)

export const ExamplesParams = {
  path: Param.file("a file of examples: .jsonl, .json, .csv, .tsv or .parquet"),
  query: Param.optional(
    Schema.NonEmptyString,
    "a DuckDB query over the file, in which the table is called `data`, in place of all of its rows"
  ),
  type: Param.literal(
    ["preference", "unpaired-preference", "prompt-completion", "language-modelling"],
    "preference",
    "TRL's dataset type"
  ),
  columns: Param.struct(
    {
      prompt: column("prompt"),
      completion: column("completion"),
      chosen: column("chosen"),
      rejected: column("rejected"),
      label: column("label"),
      text: column("text"),
      messages: column("messages"),
      margin: column("margin"),
      weight: column("weight"),
      id: column("id")
    },
    "columns that the file calls otherwise"
  ),
  prompt: Param.optional(Schema.NonEmptyString, "language modelling of bare texts: what they are the answer to"),
  heldOut: Param.int(0, "rows kept from training", { min: 0 }),
  splitSeed: Param.int(0, "the seed of the split; cells with different seeds share one split"),
  limit: Param.optional(Schema.Int.check(Schema.isGreaterThan(0)), "use the first rows only")
}

export class TooFewExamples extends Schema.TaggedError<TooFewExamples>()("TooFewExamples", {
  file: Schema.String,
  rows: Schema.Int,
  heldOut: Schema.Int
}) {
  override get message() {
    return `${this.file} has ${this.rows} examples; with ${this.heldOut} held out none is left to train on. Hold out fewer.`
  }
}

export const examples = Stage.make("examples", {
  module: import.meta.url,
  version: 1,
  params: Schema.Struct(ExamplesParams),
  inputs: {},
  outputs: { ...preferenceOutputs, heldOut: Preferences },
  metrics: { "examples/rows": "none", "examples/held_out": "none" },
  run: Effect.fn("stage.examples")(function* ({ outputs, params }) {
    const task = yield* Task
    const { heldOut, limit, path, query, splitSeed, type } = params
    const source =
      query === undefined
        ? { path: path.path }
        : { query: `with data as (select * from '${path.path.replaceAll("'", "''")}') ${query}` }

    /** The rows to train on and those held out. */
    const split = Effect.fnUntraced(function* <A>(all: ReadonlyArray<A>) {
      const rows = all.slice(0, limit ?? all.length)
      if (rows.length <= heldOut) return yield* new TooFewExamples({ file: path.path, rows: rows.length, heldOut })
      const order = permutation(stream(splitSeed, "examples", "split"), rows.length)
      const held = new Set(order.subarray(0, heldOut))
      yield* task.metrics(0, { "examples/rows": rows.length - heldOut, "examples/held_out": heldOut })
      return { train: rows.filter((_, k) => !held.has(k)), held: rows.filter((_, k) => held.has(k)) }
    })

    switch (type) {
      case "preference": {
        const { held, train } = yield* split(yield* readRecords(renamed(preferencePairs, params.columns), source))
        yield* writeLessons(outputs, train.map(lessonsOfPair))
        return yield* outputs.heldOut.write(held)
      }
      case "unpaired-preference": {
        const { train } = yield* split(yield* readRecords(renamed(unpairedPreferences, params.columns), source))
        const labelled = (wanted: boolean) =>
          train.flatMap(({ completion, id, label, prompt }) => (label === wanted ? [{ id, prompt, completion }] : []))
        yield* writeLessons(outputs, [])
        yield* outputs.unpaired.write(train)
        yield* outputs.top.write(labelled(true))
        yield* outputs.bottom.write(labelled(false))
        return yield* outputs.heldOut.write([])
      }
      case "prompt-completion":
      case "language-modelling": {
        const reader = type === "prompt-completion" ? promptCompletion : languageModelling(params.prompt)
        const { train } = yield* split(yield* readRecords(renamed(reader, params.columns), source))
        yield* writeLessons(outputs, [])
        yield* outputs.top.write(train)
        return yield* outputs.heldOut.write([])
      }
    }
  })
})
