/**
 * The updates of a step: its answers in disjoint minibatches, each with what the objective asks for. Old log-probabilities
 * are the sampler's, which saves a pass: sampler and trainer are compared every step. With an importance correction they are
 * the trainer's own, and the weights say how far the sampler's distribution (after `topP`, `topK`, `minP`) is from it.
 */
import { Effect } from "effect"
import { Device } from "../../device/Device.ts"
import { permutation, stream } from "../../device/random.ts"
import type { Completion } from "../../models/generate.ts"
import type { Policy } from "../../models/Policy.ts"
import type { PolicyTrainer, PolicyUpdate } from "../../models/PolicyTrainer.ts"
import { importanceWeights } from "../../objectives/correction.ts"
import { differences } from "../samplerCheck.ts"
import type { Credit } from "./credit.ts"
import type { GrpoParams } from "./params.ts"

/** The order cut into pieces whose sizes differ by one at most; as many as asked for, if there are as many rows. */
const minibatches = (order: Int32Array, count: number): ReadonlyArray<ReadonlyArray<number>> => {
  const pieces = Math.min(count, order.length)
  const edge = (i: number) => Math.floor((i * order.length) / pieces)
  return Array.from({ length: pieces }, (_, i) => Array.from(order.subarray(edge(i), edge(i + 1))))
}

const mean = (values: ReadonlyArray<number>) => values.reduce((sum, value) => sum + value, 0) / values.length

/** exp(logp - old) over the tokens of all updates: how far the policy moved within the step. */
const ratios = (updates: ReadonlyArray<PolicyUpdate>, old: ReadonlyArray<ReadonlyArray<ArrayLike<number>>>) => {
  const found = { sum: 0, count: 0, min: Number.POSITIVE_INFINITY, max: 0 }
  updates.forEach(({ logprobs }, u) => {
    logprobs.forEach((row, i) => {
      for (let t = 0; t < row.length; t++) {
        const ratio = Math.exp(row[t]! - old[u]![i]![t]!)
        found.sum += ratio
        found.count++
        found.min = Math.min(found.min, ratio)
        found.max = Math.max(found.max, ratio)
      }
    })
  })
  return { "ratio/mean": found.sum / found.count, "ratio/min": found.min, "ratio/max": found.max }
}

export interface Lesson {
  readonly answers: ReadonlyArray<Completion>
  readonly credit: Credit
  /** Log-probabilities of the reference, where there is one. */
  readonly reference: ReadonlyArray<ArrayLike<number>> | undefined
}

/** Updates the policy on the answers of step `k` and gives the step's metrics of training. */
export const learn = Effect.fn("grpo.learn")(function* (
  params: GrpoParams,
  seed: number,
  k: number,
  policy: Policy,
  trainer: PolicyTrainer,
  { answers, credit, reference }: Lesson
) {
  const { correction, maskTruncated, updatesPerStep } = params
  const sequences = answers.map(({ ids, prompt }) => ({ prompt, completion: ids }))
  const metrics: Record<string, number> = {}

  let old: ReadonlyArray<Float32Array> = answers.map(({ logprobs }) => logprobs)
  let weights: ReadonlyArray<Float64Array> | undefined
  if (correction.kind !== "none") {
    const own = yield* policy.logprobs(sequences, { temperature: params.temperature })
    old = own.map(({ logprobs }) => logprobs)
    const drawn = answers.map(({ truncatedLogprobs }) => truncatedLogprobs)
    const found = importanceWeights(old, drawn, correction)
    weights = found.weights
    for (const name of ["mean", "min", "max", "cut"] as const) {
      metrics[`sampling/importance_sampling_ratio/${name}`] = found[name]
    }
  }

  const kept = answers.map(({ finish }) => (maskTruncated && finish === "length" ? 0 : 1))
  const tokensOf = (rows: ReadonlyArray<number>) =>
    rows.reduce((sum, row) => sum + kept[row]! * answers[row]!.ids.length, 0)
  const everyRow = answers.map((_, row) => row)
  if (maskTruncated) {
    const all = answers.reduce((sum, { ids }) => sum + ids.length, 0)
    metrics["completions/masked_ratio"] = 1 - tokensOf(everyRow) / all
  }

  const order = permutation(stream(seed, "grpo", "minibatches", k), answers.length)
  const pieces = minibatches(order, updatesPerStep)
  const updates: Array<PolicyUpdate> = []
  for (const rows of pieces) {
    const of = <A>(values: ReadonlyArray<A>): ReadonlyArray<A> => rows.map((row) => values[row]!)
    updates.push(
      yield* trainer.update({
        sequences: of(sequences),
        inputs: {
          advantages: rows.map((row) => credit.advantages[row]!) as ReadonlyArray<number> | ReadonlyArray<Float64Array>,
          oldLogprobs: of(old),
          ...(reference === undefined ? {} : { refLogprobs: of(reference) }),
          ...(weights === undefined ? {} : { weights: of(weights) }),
          kept: of(kept),
          keptTokens: Math.max(1, tokensOf(rows)),
          tokensPerUpdate: Math.max(1, tokensOf(everyRow) / pieces.length)
        }
      })
    )
  }

  const { info } = yield* Device
  const check = yield* differences(
    info.numericClass.dtype,
    policy.parameterCount,
    pieces[0]!.map((row) => answers[row]!.logprobs),
    updates[0]!.logprobs
  )
  const last = updates.at(-1)!.metrics
  return {
    ...Object.fromEntries(
      Object.keys(last).map((name) => [name, mean(updates.map((update) => update.metrics[name]!))])
    ),
    learning_rate: last["learning_rate"]!,
    updates: last["updates"]!,
    ...(updatesPerStep > 1
      ? ratios(
          updates,
          pieces.map((rows) => rows.map((row) => old[row]!))
        )
      : {}),
    ...metrics,
    ...check,
    "perf/padding": mean(updates.map(({ padding }) => padding))
  }
})
