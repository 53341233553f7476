/** What becomes of rows whose texts do not fit a model's context: an error that shows the text, or left out and counted. */
import { Effect, Option } from "effect"
import * as Param from "../dsl/param.ts"
import type { ModelError } from "../models/ModelError.ts"

export const tooLongField = Param.literal(
  ["fail", "skip"],
  "fail",
  "what becomes of a row with an answer that does not fit the model's context; skip: left out and counted"
)

const isTooLong = (error: ModelError) => error.reason._tag === "TextTooLong"

/** The rows as `encode` makes them, in order, and how many were left out. */
export const fitting = Effect.fnUntraced(function* <Row, A, R>(
  rows: ReadonlyArray<Row>,
  tooLong: "fail" | "skip",
  encode: (row: Row) => Effect.Effect<A, ModelError, R>
) {
  const encoded = yield* Effect.forEach(rows, (row) =>
    tooLong === "fail"
      ? Effect.asSome(encode(row))
      : Effect.asSome(encode(row)).pipe(Effect.catchIf(isTooLong, () => Effect.succeed(Option.none<A>())))
  )
  const kept = encoded.flatMap((row) => (Option.isSome(row) ? [row.value] : []))
  return { kept, skipped: rows.length - kept.length }
})
