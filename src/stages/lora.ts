/**
 * The knob `lora` of the stages that train a policy (`docs/lora.md`): adapters are trained in place of all weights. Left out, it is
 * no part of a task's parameters.
 */
import { Effect, Schema } from "effect"
import * as Param from "../dsl/param.ts"
import { Task } from "../dsl/Task.ts"
import * as PolicyModel from "../models/Policy.ts"

const targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"] as const

const fields = {
  rank: Param.int(16, "rank of the adapters", { min: 1 }),
  alpha: Param.number(32, "adapters are scaled by alpha / rank", { above: 0 }),
  rslora: Param.boolean(false, "adapters are scaled by alpha / sqrt(rank) instead"),
  targets: Param.withDefault(
    Schema.Union([Schema.Literal("all-linear"), Schema.NonEmptyArray(Schema.Literals(targets))]),
    "all-linear",
    "layers that have an adapter: all but the head, or a list of names"
  )
}

const said = "train low-rank adapters beside frozen weights; absent: all weights are trained"

/** For stages that compare log-probabilities of the training pass with others: dropout would make noise of the comparison. */
export const loraField = { lora: Param.optional(Schema.Struct(fields), said) }

export const loraFieldWithDropout = {
  lora: Param.optional(
    Schema.Struct({
      ...fields,
      dropout: Param.number(0, "share of a layer's inputs that its adapter does not see in training", {
        min: 0,
        below: 1
      })
    }),
    said
  )
}

const Fields = Schema.Struct(loraField)

interface Wanted {
  readonly lora?: (NonNullable<(typeof Fields.Type)["lora"]> & { readonly dropout?: number }) | undefined
  readonly steps: number
}

/**
 * The policy in a folder, to be trained as the parameters say. An adapter that it has goes on if it is of the same shape and scale;
 * any other is merged into the weights first, which an event tells. Without steps it stays as it lies there.
 */
export const openTrained = Effect.fn("openTrained")(function* (dir: string, { lora, steps }: Wanted, seed: number) {
  if (steps === 0) return yield* PolicyModel.load(dir)
  const policy = yield* PolicyModel.load(dir, { lora: lora === undefined ? null : { dropout: 0, ...lora, seed } })
  if (policy.merged)
    yield* (yield* Task).event("adapter-merged", { trained: lora === undefined ? "weights" : "a new adapter" })
  return policy
})
