/**
 * Every logged response as a demonstration: what a behaviour policy is fine-tuned on where nobody knows who wrote the log
 * (POPE's GPT2-Medium, arXiv 2509.19333; reconstructed). A text that a query has twice is there twice, as it was logged.
 */
import { Effect } from "effect"
import { Demonstrations, LoggedSlates } from "../artifact/kinds.ts"
import * as Param from "../dsl/param.ts"
import * as Stage from "../dsl/Stage.ts"

export const responses = Stage.make("responses", {
  module: import.meta.url,
  version: 1,
  params: Param.struct({}),
  inputs: { slates: LoggedSlates },
  outputs: { data: Demonstrations },
  run: Effect.fn("stage.responses")(function* ({ inputs, outputs }) {
    const slates = yield* inputs.slates.rows
    yield* outputs.data.write(
      slates.flatMap(({ id, prompt, responses }) =>
        responses.map(({ text }, k) => ({ id: `${id}/${k}`, prompt, completion: text }))
      )
    )
  })
})
