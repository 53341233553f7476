/**
 * Supervised fine-tuning: the policy learns to give the answers of a data set. Loss on the answer's tokens only.
 *
 *     loss = - sum over answer tokens of log p(token | prompt, tokens before) / number of answer tokens
 *
 * Pretraining on a world's text, the warm start of OP-GRPO (arXiv 2602.20759, section 1.6 of the methods) and the
 * continued-SFT control are this stage with other data and settings. With 0 steps the policy passes through untrained.
 */
import { Effect, Schema } from "effect"
import { optional } from "../artifact/Kind.ts"
import { Checkpoint, Demonstrations, Policy } from "../artifact/kinds.ts"
import type { PromptCompletion } from "../data/records.ts"
import * as Param from "../dsl/param.ts"
import * as Stage from "../dsl/Stage.ts"
import { sft as objective } from "../objectives/sft.ts"
import { bucketPaddingMetrics } from "./bucketPadding.ts"
import { fitting, tooLongField } from "./fitting.ts"
import { developmentRows, keepingFields, openKeeper } from "./keeping.ts"
import { loraFieldWithDropout, openTrained } from "./lora.ts"
import { finalOf, growing, optimizerFields, optimizerSettings } from "./optimizing.ts"
import { stepRows } from "./order.ts"
import { runSteps } from "./steps.ts"

export const SftParams = Param.struct({
  steps: Param.int(100, "optimizer updates", { min: 0 }),
  batchSize: Param.int(64, "rows per update; a short last batch of a pass is dropped", { min: 1 }),
  order: Param.int(0, "names an order of the rows: more training on the same rows should not replay the same batches", {
    min: 0
  }),
  tooLong: tooLongField,
  maxLength: Param.optional(
    Schema.Int.check(Schema.isGreaterThanOrEqualTo(2)),
    "most tokens of a row with its answer, and of what packing puts into one; absent: the model's context, packing at most 1024"
  ),
  packing: Param.flag("puts several short rows into one, where they do not see each other, so that less is padding"),
  ...optimizerFields({ learningRate: 1e-3, schedule: "cosine", warmupSteps: 0, weightDecay: 0.01 }),
  ...loraFieldWithDropout,
  rematerialise: Param.boolean(false, "recompute layers in the backward pass: less memory, a third more work"),
  ...keepingFields(["eval/loss"])
})

/** Places of a row of packed examples unless said otherwise: TRL's default of `max_length`. */
const longestPacked = 1024

export class NothingToLearn extends Schema.TaggedError<NothingToLearn>()("NothingToLearn", { rows: Schema.Int }) {
  override get message() {
    return this.rows === 0
      ? "sft: the data set has no rows; look at the stage that made it"
      : `sft: none of ${this.rows} rows fits the model's context or maxLength; take shorter answers or a model with a longer one`
  }
}

const evaluated = { "eval/loss": "lower", "eval/kept_step": "none" } as const

export const sft = Stage.make("sft", {
  module: import.meta.url,
  version: 1,
  params: SftParams,
  inputs: { policy: Policy, data: Demonstrations, development: optional(Demonstrations) },
  outputs: { policy: Policy, checkpoint: Checkpoint },
  seeded: true,
  device: true,
  grows: growing,
  metrics: {
    loss: "lower",
    entropy: "none",
    grad_norm: "none",
    learning_rate: "none",
    updates: "none",
    "sft/skipped": "lower",
    ...evaluated,
    "perf/tokens_per_second": "none",
    "perf/step_seconds": "none",
    "perf/padding": "none",
    ...bucketPaddingMetrics
  },
  run: Effect.fn("stage.sft")(function* ({ inputs, outputs, params, seed }) {
    const policy = yield* openTrained(inputs.policy.dir, params, seed)
    const rows = yield* inputs.data.rows
    const encode = ({ completion, prompt }: PromptCompletion) => policy.sequence(prompt, completion, params.maxLength)
    const { kept: sequences, skipped } = yield* fitting(rows, params.tooLong, encode)
    if (sequences.length === 0 && params.steps > 0) return yield* new NothingToLearn({ rows: rows.length })
    const trainer = yield* policy.trainer(objective(), optimizerSettings(params, params.steps), {
      rematerialise: params.rematerialise,
      dropoutSeed: seed,
      rowLength: params.packing ? (params.maxLength ?? Math.min(policy.config.maxPositions, longestPacked)) : undefined
    })
    const order = params.order === 0 ? "sft" : `sft/${params.order}`
    const rowsOf = stepRows(seed, order, Math.max(1, sequences.length), params.batchSize)
    const development = yield* developmentRows("sft", params, inputs.development)
    const held = yield* fitting(development, params.tooLong, encode)
    if (params.evaluateEvery > 0 && held.kept.length === 0) return yield* new NothingToLearn({ rows: held.skipped })
    const keeper = yield* openKeeper(policy, params, evaluated)
    const file = (dir: string) => `${dir}/trainer.safetensors`
    yield* runSteps({
      total: params.steps,
      final: finalOf(params, outputs.checkpoint),
      restore: (dir, state) => Effect.andThen(trainer.restore(file(dir)), keeper.restore(dir, state)),
      save: (dir) => Effect.andThen(trainer.checkpoint(file(dir)), keeper.save(dir)),
      state: keeper.state,
      evaluate: {
        every: params.evaluateEvery,
        measure: Effect.fnUntraced(function* (k) {
          const logprobs = (yield* policy.logprobs(held.kept)).flatMap((row) => Array.from(row.logprobs))
          const metrics = { "eval/loss": -logprobs.reduce((sum, value) => sum + value, 0) / logprobs.length }
          yield* keeper.consider(k, metrics)
          return metrics
        })
      },
      step: (k) =>
        Effect.map(
          trainer.update({ sequences: rowsOf(k).map((row) => sequences[row]!) }),
          ({ metrics, padding, tokens }) => ({
            ...metrics,
            ...(k === 0 ? { "sft/skipped": skipped } : {}),
            tokens,
            "perf/padding": padding
          })
        )
    })
    yield* keeper.publish(outputs.policy.dir, params.steps)
  })
})
