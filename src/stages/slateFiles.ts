/**
 * Logged slates from files: one's own (JSONL, JSON, CSV, TSV, Parquet or a DuckDB query; `data/slates.ts`), or Amazon Reviews 2023
 * (`data/amazon.ts`), split by prompt into training, development and test slates; `equalVotes` is the control.
 */
import { Effect, Schema } from "effect"
import { LoggedSlates } from "../artifact/kinds.ts"
import { readAmazon } from "../data/amazon.ts"
import type { LoggedSlate } from "../data/records.ts"
import { readSlates } from "../data/slates.ts"
import { permutation, stream } from "../device/random.ts"
import * as Param from "../dsl/param.ts"
import * as Stage from "../dsl/Stage.ts"
import { Task } from "../dsl/Task.ts"
import { equalVotes } from "../world/slates.ts"

const splitFields = {
  development: Param.int(0, "prompts held out for tuning", { min: 0 }),
  test: Param.int(100, "prompts held out for the evaluation", { min: 1 }),
  splitSeed: Param.int(0, "the seed of the split; cells with different seeds share one split"),
  limit: Param.optional(Schema.Int.check(Schema.isGreaterThan(0)), "use the first slates only")
}

const column = (name: string, description: string) => Param.string(name, `column: ${description}`)

export const SlateFileParams = {
  path: Param.file("a file of logged slates: .jsonl, .json, .csv, .tsv or .parquet"),
  query: Param.optional(
    Schema.NonEmptyString,
    "a DuckDB query over the file, in which the table is called `data`, in place of all of its rows"
  ),
  columns: Param.struct({
    prompt: column("prompt", "what was asked"),
    responses: column("responses", "wide layout: the list of responses"),
    response: column("response", "long layout: a response a row"),
    slate: column("slate", "which slate a row belongs to; of the long layout, the prompt's unless said otherwise"),
    votes: column("votes", "votes, at least 0"),
    relevance: column("relevance", "a judgement of the response by itself"),
    exposure: column("exposure", "how many looks it got"),
    logprob: column("logprob", "log-probability under the behaviour policy"),
    tokens: column("tokens", "its tokens there, the end token included")
  }),
  ...splitFields
}

export const AmazonParams = {
  items: Param.file("the category's items: meta_*.jsonl of Amazon Reviews 2023"),
  reviews: Param.file("the category's reviews"),
  leastReviews: Param.int(2, "reviews that an item must have", { min: 1 }),
  mostReviews: Param.int(8, "reviews of an item that are kept: the most helpful", { min: 1 }),
  longest: Param.int(1000, "descriptions and reviews are cut here, in characters, between words", { min: 1 }),
  ...splitFields
}

export class TooFewSlates extends Schema.TaggedError<TooFewSlates>()("TooFewSlates", {
  file: Schema.String,
  prompts: Schema.Int,
  wanted: Schema.Int
}) {
  override get message() {
    return `${this.file} has slates of ${this.prompts} prompts; ${this.wanted} are held out (\`development\`, \`test\`) and at least one must be left to train on. Hold out fewer.`
  }
}

const outputs = {
  train: LoggedSlates,
  equalVotes: LoggedSlates,
  development: LoggedSlates,
  test: LoggedSlates
} as const

interface Split {
  readonly development: number
  readonly test: number
  readonly splitSeed: number
  readonly limit?: number | undefined
}

/** The slates of each split: no prompt is in two of them. */
const splitSlates = (file: string, all: ReadonlyArray<LoggedSlate>, { development, limit, splitSeed, test }: Split) =>
  Effect.gen(function* () {
    const slates = all.slice(0, limit ?? all.length)
    const prompts = [...new Set(slates.map(({ promptId }) => promptId))]
    if (prompts.length <= development + test) {
      return yield* new TooFewSlates({ file, prompts: prompts.length, wanted: development + test })
    }
    const place = new Map<string, number>()
    permutation(stream(splitSeed, "slates", "split"), prompts.length).forEach((prompt, k) => {
      place.set(prompts[prompt]!, k)
    })
    const within = (from: number, to: number) =>
      slates.filter(({ promptId }) => place.get(promptId)! >= from && place.get(promptId)! < to)
    return {
      test: within(0, test),
      development: within(test, test + development),
      train: within(test + development, prompts.length)
    }
  })

type Writers = {
  readonly [N in keyof typeof outputs]: { readonly write: (rows: Iterable<LoggedSlate>) => Effect.Effect<void> }
}

const writeSplit = Effect.fnUntraced(function* (
  to: Writers,
  file: string,
  slates: ReadonlyArray<LoggedSlate>,
  params: Split
) {
  const { development, test, train } = yield* splitSlates(file, slates, params)
  yield* to.train.write(train)
  yield* to.equalVotes.write(equalVotes(train))
  yield* to.development.write(development)
  yield* to.test.write(test)
})

/** `data` in a query is the file. */
const sourceOf = ({ path, query }: { readonly path: Param.FileRef; readonly query?: string }) =>
  query === undefined
    ? { path: path.path }
    : { query: `with data as (select * from '${path.path.replaceAll("'", "''")}') ${query}` }

export const slateFile = Stage.make("slate-file", {
  module: import.meta.url,
  version: 1,
  params: Schema.Struct(SlateFileParams),
  inputs: {},
  outputs,
  metrics: { "slates/slates": "none", "slates/responses": "none", "slates/unvoted": "none" },
  run: Effect.fn("stage.slate-file")(function* ({ outputs, params }) {
    const task = yield* Task
    const slates = yield* readSlates(sourceOf(params), params.columns)
    yield* writeSplit(outputs, params.path.path, slates, params)
    const responses = slates.flatMap((slate) => slate.responses)
    yield* task.metrics(0, {
      "slates/slates": slates.length,
      "slates/responses": responses.length,
      "slates/unvoted": responses.filter(({ votes }) => votes === undefined).length
    })
  })
})

export const amazon = Stage.make("amazon", {
  module: import.meta.url,
  version: 1,
  params: Schema.Struct(AmazonParams),
  inputs: {},
  outputs,
  metrics: {
    "slates/slates": "none",
    "slates/responses": "none",
    "amazon/undescribed": "none",
    "amazon/unknown": "none",
    "amazon/wordless": "none",
    "amazon/few": "none"
  },
  run: Effect.fn("stage.amazon")(function* ({ outputs, params }) {
    const task = yield* Task
    const { few, slates, undescribed, unknown, wordless } = yield* readAmazon(
      params.items.path,
      params.reviews.path,
      params
    )
    yield* writeSplit(outputs, params.reviews.path, slates, params)
    yield* task.metrics(0, {
      "slates/slates": slates.length,
      "slates/responses": slates.reduce((sum, { responses }) => sum + responses.length, 0),
      "amazon/undescribed": undescribed,
      "amazon/unknown": unknown,
      "amazon/wordless": wordless,
      "amazon/few": few
    })
  })
})
