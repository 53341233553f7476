/**
 * The section of a reward of a user's own in YAML, by where it comes from:
 *
 *     { from: ./mine.ts#name, weight: 1, ... }                                 a module's export; its Schema has the rest
 *     { exec: [python3, reward.py], version: "1", weight: 1, timeout: 30 }     a command, kept alive
 *     { http: "http://127.0.0.1:8000/score", version: "1", weight: 1 }         a service
 */
import { Schema } from "effect"
import * as Param from "../../dsl/param.ts"
import { asReward, paramsOf } from "../../rewards/custom.ts"
import { Weight } from "../../rewards/weight.ts"

/** Keys of every reward of a user's own. */
export const commonFields = (weight = 1) => ({
  weight: Param.withDefault(Weight, weight, "weight in the reward; { from, to, steps } moves it over the steps"),
  timeout: Param.number(60, "seconds that a batch may take", { above: 0 })
})

const outside = {
  version: Param.required(Schema.String, "part of the key: another version scores anew"),
  params: Param.optional(Schema.Record(Schema.String, Schema.Unknown), "handed over with every batch"),
  ...commonFields()
}

const From = Schema.StructWithRest(
  Schema.Struct({
    from: Param.required(Param.CodeParam, "a module's export: ./mine.ts#name or package/path#name"),
    ...commonFields()
  }),
  [Schema.Record(Schema.String, Schema.Unknown)]
)
const Exec = Schema.Struct({
  exec: Param.required(
    Schema.NonEmptyArray(Param.WordParam),
    "a command: batches on its stdin, scores on its stdout; files that it names are hashed"
  ),
  ...outside
})
const Http = Schema.Struct({
  http: Param.required(
    Schema.String.check(Schema.isPattern(/^https?:\/\/\S+$/, { message: "expected a URL, http://..." })),
    "a URL that batches are posted to"
  ),
  ...outside
})

const accepts = (exported: unknown) => {
  const custom = asReward(exported, Param.withDefault as never)
  return "wrong" in custom ? custom : { params: paramsOf(custom, commonFields(custom.weight)) }
}

/** A reward of a user's own. */
export const OwnReward = Schema.Union([From, Exec, Http]).annotate({
  description: "a reward of one's own: from a module, a command or a service",
  [Param.ownAnnotation]: { what: "reward", origins: ["from", "exec", "http"], accepts }
})
export type OwnReward = typeof OwnReward.Type
export type FromReward = typeof From.Type
export type ExecReward = typeof Exec.Type
export type HttpReward = typeof Http.Type
