/**
 * Preference training: the policy learns from pairs of answers (DPO and its kin, SimPO, CPO, ORPO, TIS-DPO), from rankings
 * (Plackett-Luce DPO, IRPO) or from single judgements (KTO). `docs/stages/preference.md`.
 *
 * The reference is the policy that comes in. Its log-probabilities of every answer that will be trained on are computed
 * once, before the first update, by the program that scores; a resumed attempt computes the same ones again. KTO scores
 * every prompt with the answer of another prompt too, under the reference once and under the policy at every step.
 * TIS-DPO asks a contrastive pair of policies for the weights of tokens.
 *
 * Pairs that are held out are judged at the end by the change of their log-probabilities, DPO's implied reward at beta 1; with
 * `evaluateEvery` during training too, by the loss as well, and the best policy by one of these may be kept.
 */
import { Effect, Schema } from "effect"
import { optional } from "../artifact/Kind.ts"
import { Checkpoint, Policy, Preferences, RankedLists, UnpairedPreferences } from "../artifact/kinds.ts"
import * as Param from "../dsl/param.ts"
import * as Stage from "../dsl/Stage.ts"
import { Task } from "../dsl/Task.ts"
import type { Sequence } from "../models/batching.ts"
import * as PolicyModel from "../models/Policy.ts"
import { tokenWeights } from "../objectives/tisDpo.ts"
import { tooLongField } from "./fitting.ts"
import { developmentRows, keepingFields, openKeeper } from "./keeping.ts"
import { loraField, openTrained } from "./lora.ts"
import { finalOf, growing, optimizerFields, optimizerSettings } from "./optimizing.ts"
import { firstVisits, stepRows } from "./order.ts"
import { LossParams, needsOf, objectiveOf } from "./preference/losses.ts"
import { evaluated, heldOutLoss, judged, keptBy, preferenceRefusals } from "./preference/measuring.ts"
import { encodeRows, mismatchedSequences, pairRows, preferenceRows } from "./preference/rows.ts"
import { batchValues } from "./preference/values.ts"
import { runSteps } from "./steps.ts"

export const PreferenceParams = Param.struct({
  loss: LossParams,
  steps: Param.int(60, "optimizer updates", { min: 0 }),
  batchSize: Param.int(32, "pairs, rankings or single answers per update; a short last batch of a pass is dropped", {
    min: 1
  }),
  tooLong: tooLongField,
  ...optimizerFields({ learningRate: 5e-5, schedule: "constant", warmupSteps: 0, weightDecay: 0 }),
  ...loraField,
  rematerialise: Param.boolean(false, "recompute layers in the backward pass: less memory, a third more work"),
  ...keepingFields(keptBy)
})

export class NothingToPrefer extends Schema.TaggedError<NothingToPrefer>()("NothingToPrefer", {
  detail: Schema.String
}) {
  override get message() {
    return `preference: ${this.detail}`
  }
}

const sum = (values: ArrayLike<number>) => Array.from(values).reduce((total, value) => total + value, 0)

/** Above it 2^relevance is no weight of a loss any more. */
const greatestGrade = 30

/** Sequences that are scored in one go. */
const chunk = 256

/** Log-probabilities of some sequences, a chunk at a time, in an order of their own: the same ones whoever asks. */
const scored = Effect.fnUntraced(function* (policy: PolicyModel.Policy, sequences: ReadonlyArray<Sequence>) {
  const found: Array<Float32Array> = []
  for (let at = 0; at < sequences.length; at += chunk) {
    const scores = yield* policy.logprobs(sequences.slice(at, at + chunk))
    found.push(...scores.map(({ logprobs }) => logprobs))
  }
  return found
})

export const preference = Stage.make("preference", {
  module: import.meta.url,
  version: 1,
  params: PreferenceParams,
  inputs: {
    policy: Policy,
    pairs: optional(Preferences),
    ranked: optional(RankedLists),
    unpaired: optional(UnpairedPreferences),
    positive: optional(Policy),
    negative: optional(Policy),
    heldOut: optional(Preferences)
  },
  outputs: { policy: Policy, checkpoint: Checkpoint },
  seeded: true,
  device: true,
  grows: growing,
  metrics: {
    loss: "lower",
    grad_norm: "none",
    learning_rate: "none",
    updates: "none",
    "rewards/*": "none",
    "logps/*": "none",
    ...evaluated,
    nll_loss: "none",
    log_odds_chosen: "none",
    log_odds_ratio: "none",
    kl: "none",
    "preference/equal": "lower",
    "preference/skipped": "lower",
    "perf/*": "none"
  },
  run: Effect.fn("stage.preference")(function* ({ inputs, outputs, params, seed }) {
    const { loss } = params
    const needs = needsOf(loss)
    const nothing = (detail: string) => new NothingToPrefer({ detail })
    const [refused] = preferenceRefusals(params, "preference")
    if (refused !== undefined) return yield* nothing(`${refused.path}: ${refused.message}`)
    yield* developmentRows("preference", params, inputs.heldOut, "heldOut")

    const rows = yield* preferenceRows(needs, inputs)
    if (rows === undefined) {
      return yield* nothing(`the loss \`${loss.kind}\` learns from the input \`${needs.data}\`, which is not there`)
    }
    if (rows.length === 0) return yield* nothing(`\`${needs.data}\` has no row that says what is better`)
    const policy = yield* openTrained(inputs.policy.dir, params, seed)
    const { equal, examples, size, skipped } = yield* encodeRows(policy, rows, params.tooLong)
    if (examples.length === 0) {
      return yield* nothing(
        `of ${rows.length} rows ${equal} have equal texts and ${skipped} do not fit the model's ${policy.config.maxPositions} positions: none is left`
      )
    }

    if (loss.kind === "irpo" && loss.gain === "exponential") {
      const most = examples.reduce((greatest, { relevance }) => Math.max(greatest, ...relevance), 0)
      if (most > greatestGrade) {
        return yield* nothing(
          `\`loss.gain: exponential\` is for grades up to ${greatestGrade}, and a relevance is ${most}: counts of votes want \`gain: linear\``
        )
      }
    }

    const kept = inputs.heldOut
      ? (yield* encodeRows(policy, pairRows(yield* inputs.heldOut.rows), params.tooLong)).examples
      : []
    const measures = params.evaluateEvery > 0
    if (measures && kept.length === 0) {
      return yield* nothing(
        "none of the pairs that are held out prefers a text to another and fits the model's context"
      )
    }
    const keptSequences = kept.flatMap(({ sequences }) => sequences)
    const before = yield* scored(policy, keptSequences)

    const objective = objectiveOf(loss, size)
    const trainer = yield* policy.trainer(objective, optimizerSettings(params, params.steps), {
      rematerialise: params.rematerialise
    })
    const rowsOf = stepRows(seed, "preference", examples.length, params.batchSize)
    // Scored as they are first visited, step by step: a longer run then has the very numbers of a shorter one.
    const visits = firstVisits(params.steps, rowsOf)

    /** By row, what a model says of some sequences of every row that will be visited. */
    const ofVisited = Effect.fnUntraced(function* (
      model: PolicyModel.Policy,
      sequencesOf: (row: number) => ReadonlyArray<Sequence>
    ) {
      const found = new Map<number, ReadonlyArray<Float32Array>>()
      for (const rows of visits) {
        const scores = yield* scored(model, rows.flatMap(sequencesOf))
        let at = 0
        for (const row of rows) {
          const count = sequencesOf(row).length
          found.set(row, scores.slice(at, at + count))
          at += count
        }
      }
      return found
    })
    const answersOf = (row: number) => examples[row]!.sequences
    const reference = needs.reference ? yield* ofVisited(policy, answersOf) : undefined

    const mismatched = loss.kind === "kto" ? mismatchedSequences(examples, seed, policy.config.maxPositions) : []
    const mismatchedReference = loss.kind === "kto" ? yield* ofVisited(policy, (row) => mismatched[row]!) : undefined

    /** Token weights by row and answer, from the contrastive pair; its models are gone afterwards. */
    const contrast = Effect.fnUntraced(function* (dir: string) {
      const model = yield* PolicyModel.load(dir)
      if (model.config.vocabularySize !== policy.config.vocabularySize) {
        return yield* nothing(`the contrastive policies must have the policy's tokenizer, and ${dir} has another`)
      }
      return { visited: yield* ofVisited(model, answersOf), held: measures ? yield* scored(model, keptSequences) : [] }
    }, Effect.scoped)
    if (loss.kind === "tis-dpo" && !(inputs.positive && inputs.negative)) {
      return yield* nothing(
        "the loss `tis-dpo` needs the inputs `positive` and `negative`, a contrastive pair of policies"
      )
    }
    const [positive, negative] =
      loss.kind === "tis-dpo" && inputs.positive && inputs.negative
        ? [yield* contrast(inputs.positive.dir), yield* contrast(inputs.negative.dir)]
        : []
    const weightsOf = (good: ReadonlyArray<Float32Array>, bad: ReadonlyArray<Float32Array>) =>
      loss.kind === "tis-dpo"
        ? good.map((likely, k) => tokenWeights(likely, bad[k]!, k % 2 === 0 ? "chosen" : "rejected", loss))
        : []
    const heldWeights = positive && negative ? weightsOf(positive.held, negative.held) : []

    const step = Effect.fnUntraced(function* (k: number) {
      const batch = rowsOf(k)
      const of = batch.map((row) => examples[row]!)
      let kl = 0
      if (mismatchedReference) {
        const once = batch.flatMap((row) => mismatchedReference.get(row)!)
        const now = yield* policy.logprobs(batch.flatMap((row) => mismatched[row]!))
        const ratios = now.map(({ logprobs }, i) => sum(logprobs) - sum(once[i]!))
        kl = ratios.length === 0 ? 0 : sum(ratios) / ratios.length
      }
      const values = batchValues(loss, of, {
        refLogprobs: reference ? batch.flatMap((row) => reference.get(row)!) : [],
        kl,
        tokenWeights:
          positive && negative
            ? batch.flatMap((row) => weightsOf(positive.visited.get(row)!, negative.visited.get(row)!))
            : []
      })
      const { metrics, padding, tokens } = yield* trainer.update({
        sequences: of.flatMap(({ sequences }) => sequences),
        inputs: Object.fromEntries(Object.keys(objective.inputs).map((name) => [name, values[name]!]))
      })
      return {
        ...metrics,
        ...(loss.kind === "kto" ? { kl: Math.max(0, kl) } : {}),
        ...(k === 0 ? { "preference/equal": equal, "preference/skipped": skipped } : {}),
        "perf/padding": padding,
        tokens
      }
    })

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
          const held = { before, now: yield* scored(policy, keptSequences) }
          const metrics = { ...heldOutLoss(loss, objective, kept, held, heldWeights), ...judged(held) }
          yield* keeper.consider(k, metrics)
          return metrics
        })
      },
      step
    })
    // Measured in training, the last step has been measured already.
    if (kept.length > 0 && (!measures || params.steps === 0)) {
      const task = yield* Task
      const metrics = judged({ before, now: yield* scored(policy, keptSequences) })
      yield* task.metrics(Math.max(0, params.steps - 1), metrics)
    }
    yield* keeper.publish(outputs.policy.dir, params.steps)
  })
})
