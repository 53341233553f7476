/** A stage: how many words each answer has. Items are per-prompt results, which the report compares between arms. */

import { writeFile } from "node:fs/promises"
import { Effect } from "effect"
import { Completions, Report } from "overtone/artifact/kinds"
import * as Param from "overtone/dsl/param"
import * as Stage from "overtone/dsl/Stage"
import { Task } from "overtone/dsl/Task"

export const wordiness = Stage.make("wordiness", {
  module: import.meta.url,
  version: 1,
  params: Param.struct({}),
  inputs: { completions: Completions },
  outputs: { report: Report },
  items: { "mine/words": "lower" },
  run: Effect.fn("stage.wordiness")(function* ({ inputs, outputs }) {
    const task = yield* Task
    const answers = yield* inputs.completions.rows
    const words = answers.map(({ text }) => text.split(/\s+/).filter((word) => word !== "").length)
    yield* task.items(
      answers.map(({ id }, k) => ({ promptId: id, split: "test", name: "mine/words", value: words[k]! }))
    )
    const mean = words.reduce((sum, n) => sum + n, 0) / words.length
    yield* Effect.promise(() => writeFile(`${outputs.report.dir}/summary.json`, `${JSON.stringify({ words: mean })}\n`))
  })
})
