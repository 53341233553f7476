/** The optimizer's parameters, as every training stage has them (AdamW, schedule, clipping). */
import { Schema } from "effect"
import type { Folder } from "../artifact/Kind.ts"
import * as Param from "../dsl/param.ts"
import type { OptimizerSettings } from "../models/optimizer.ts"

interface Defaults {
  readonly learningRate: number
  readonly schedule: "constant" | "cosine" | "linear"
  readonly warmupSteps: number
  readonly weightDecay: number
}

export const optimizerFields = (defaults: Defaults) => ({
  learningRate: Param.number(defaults.learningRate, "peak learning rate of AdamW", { min: 0 }),
  schedule: Param.literal(
    ["constant", "cosine", "linear"],
    defaults.schedule,
    "what the learning rate does after the warm-up"
  ),
  warmupSteps: Param.int(defaults.warmupSteps, "optimizer updates over which the learning rate rises", { min: 0 }),
  finalFactor: Param.number(0.1, "what is left of the peak learning rate at the end of a cosine or linear schedule", {
    min: 0,
    max: 1
  }),
  weightDecay: Param.number(defaults.weightDecay, "decoupled weight decay", { min: 0 }),
  beta1: Param.number(0.9, "AdamW's beta1", { min: 0, below: 1 }),
  beta2: Param.number(0.95, "AdamW's beta2", { min: 0, below: 1 }),
  maxGradientNorm: Param.number(1, "clips the global gradient norm", { above: 0 })
})

const Fields = Schema.Struct(optimizerFields({ learningRate: 0, schedule: "constant", warmupSteps: 0, weightDecay: 0 }))

/** The settings of an optimizer that does `totalUpdates` updates. */
export const optimizerSettings = (params: typeof Fields.Type, totalUpdates: number): OptimizerSettings => ({
  learningRate: params.learningRate,
  schedule: params.schedule,
  warmupUpdates: params.warmupSteps,
  totalUpdates: Math.max(1, totalUpdates),
  finalFactor: params.finalFactor,
  weightDecay: params.weightDecay,
  beta1: params.beta1,
  beta2: params.beta2,
  maxGradientNorm: params.maxGradientNorm
})

/**
 * Training by these settings takes up a shorter run unless the learning rate of a step depends on how many there are. Such a
 * stage has an output `checkpoint`, into which `runSteps` leaves its last state: `finalOf`.
 */
export const growing = {
  param: "steps",
  unless: ({ schedule }: Pick<typeof Fields.Type, "schedule">) =>
    schedule === "constant" ? null : `the ${schedule} schedule spans all steps`
}

/** Where to leave the last state; nowhere if no longer run could take it up: the output is then empty. */
export const finalOf = (params: Pick<typeof Fields.Type, "schedule">, checkpoint: Folder): string | undefined =>
  growing.unless(params) === null ? checkpoint.dir : undefined
