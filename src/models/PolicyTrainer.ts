/**
 * Training of a policy by an objective over tokens: a batch of sequences becomes micro-batches of whole groups, their gradients add
 * up, one optimizer step follows. What is trained are the weights, or the adapter where there is one.
 */
import { Effect, type Scope } from "effect"
import type { FileSystem } from "effect/FileSystem"
import { Device } from "../device/Device.ts"
import type { DeviceError } from "../device/DeviceError.ts"
import type { TokenObjective } from "../objectives/Objective.ts"
import { type BatchValues, packInputs } from "./batchInputs.ts"
import { byRow, packRows, planGroups, type Sequence, scalar, sequenceLength } from "./batching.ts"
import { decoderParameters, loopBytes } from "./decoder.ts"
import type { DecoderConfig } from "./decoderConfig.ts"
import { type Adapter, adapterParameters, dropoutMasks, type Piece } from "./lora.ts"
import { asked, BadRequest, fail, type ModelError } from "./ModelError.ts"
import type { OptimizerSettings } from "./optimizer.ts"
import { type PackedPlan, planRows } from "./packing.ts"
import type { Weights } from "./parameters.ts"
import { isPackable, placesPerMicroBatch, policyLoss, unpackable } from "./score.ts"
import { makeTrainer, type Trainer } from "./Trainer.ts"
import type { Tokenizer } from "./tokenizer.ts"

export interface PolicyBatch {
  readonly sequences: ReadonlyArray<Sequence>
  /** What the objective asks for, by name, in the order of the sequences. */
  readonly inputs?: Readonly<Record<string, BatchValues>>
}

/** One optimizer update. `metrics` has TRL's names: loss, grad_norm, learning_rate, updates, and the objective's logs. */
export interface PolicyUpdate {
  readonly metrics: Readonly<Record<string, number>>
  /** Log-probabilities of the completions' tokens before the update, in the order of the sequences. */
  readonly logprobs: ReadonlyArray<Float32Array>
  /** Completion tokens of the batch. */
  readonly tokens: number
  readonly microBatches: number
  /** Share of padding in the batch's tensors. */
  readonly padding: number
}

export interface TrainingOptions {
  /** Divides the logits, as when sampling: GRPO trains at the sampling temperature. Default 1. */
  readonly temperature?: number
  /** Most places (rows x longest) of a micro-batch; default: 1024, less where activations would exceed 1 GiB. */
  readonly microBatchTokens?: number
  /**
   * Packs sequences into rows of at most so many places (`packing.ts`), and of no more than a micro-batch has; a longer one has a
   * row to itself. Only for objectives without groups and without values for a row. Default: every sequence has its own row.
   */
  readonly rowLength?: number | undefined
  /** Recomputes layers in the backward pass instead of keeping what is inside them. Default false. */
  readonly rematerialise?: boolean
  /** Names the random stream of an adapter's dropout. Default 0. */
  readonly dropoutSeed?: number
}

export interface PolicyTrainer extends Pick<Trainer, "checkpoint" | "restore" | "updates"> {
  readonly update: (batch: PolicyBatch) => Effect.Effect<PolicyUpdate, ModelError | DeviceError>
}

/** What is to be trained. */
export interface TrainedPolicy {
  readonly config: DecoderConfig
  readonly tokenizer: Tokenizer
  readonly weights: Weights
  readonly adapter: Adapter | undefined
  /** Fails where a sequence does not fit the context. */
  readonly fits: (sequence: Sequence) => Effect.Effect<Sequence, ModelError>
  /** Runs before the weights change. */
  readonly forget: Effect.Effect<void>
}

/** A trainer with optimizer state of its own. */
export const makePolicyTrainer = Effect.fn("Policy.trainer")(function* (
  { adapter, config, fits, forget, tokenizer, weights }: TrainedPolicy,
  objective: TokenObjective,
  optimizer: OptimizerSettings,
  training: TrainingOptions = {}
): Effect.fn.Return<PolicyTrainer, ModelError | DeviceError, Device | FileSystem | Scope.Scope> {
  const lora = adapter?.settings
  const table = decoderParameters(config)
  const { dropoutSeed = 0, microBatchTokens, rematerialise = false, temperature = 1 } = training
  const { groupSize = 1 } = objective
  const { batch, loopBytes: room = 0, numericClass } = (yield* Device).info
  // what is kept of layers lies in a stack, which is worth it where little is kept; masks of dropout would be copied too
  const own = loopBytes(config, { bf16: numericClass.dtype === "bf16", frozen: adapter !== undefined })
  const loop = rematerialise && (lora?.dropout ?? 0) === 0 && own <= room
  const places = microBatchTokens ?? placesPerMicroBatch(config, batch, rematerialise)
  const rowLength = training.rowLength === undefined ? undefined : Math.min(training.rowLength, places)
  if (rowLength !== undefined && !isPackable(objective)) {
    return yield* fail(new BadRequest({ detail: unpackable(objective) }))
  }
  const trainer = yield* makeTrainer({
    name: `policy.${objective.name}`,
    ...(adapter
      ? {
          table: adapterParameters(config, adapter.settings),
          weights: adapter.weights,
          frozen: { table, weights },
          beforeChange: Effect.void
        }
      : { table, weights, beforeChange: forget }),
    optimizer,
    build: (inputs) => policyLoss(config, inputs, objective, { recompute: rematerialise, loop, lora, batch, rowLength })
  })
  const planOf = (lengths: ReadonlyArray<number>): PackedPlan => {
    if (rowLength !== undefined) return planRows(lengths, rowLength, places)
    const { padding, parts } = planGroups(lengths, groupSize, places)
    return { padding, parts: parts.map((part) => part.map((row) => [row])) }
  }
  const update = Effect.fn("PolicyTrainer.update")(function* (batch: PolicyBatch) {
    const { inputs = {}, sequences } = batch
    for (const sequence of sequences) yield* fits(sequence)
    const { padding, parts } = yield* asked(() => planOf(sequences.map(sequenceLength)))
    const tokens = sequences.reduce((n, { completion }) => n + completion.length, 0)
    if (tokens === 0) {
      return yield* fail(
        new BadRequest({ detail: "the batch has no completion tokens: there is nothing to learn from" })
      )
    }
    const rows = parts.reduce((n, part) => n + part.flat().length, 0)
    const done = yield* trainer.updates
    const masksOf = (pieces: ReadonlyArray<Piece>, shape: readonly [number, number]) =>
      Object.entries(lora && lora.dropout > 0 ? dropoutMasks(config, lora, dropoutSeed, done, pieces, shape) : {}).map(
        ([name, mask]) => [name, byRow(mask, groupSize)] as const
      )
    const logprobs: Array<Float32Array> = sequences.map(() => new Float32Array(0))
    for (const laid of parts) {
      const part = laid.flat()
      const feeds = yield* asked(() => {
        const packed = packRows(
          laid.map((row) => row.map((sequence) => sequences[sequence]!)),
          tokenizer.special.pad
        )
        const time = packed.ids.shape[1]!
        const pieces = part.map((sequence, i) => ({
          sequence,
          first: packed.firsts[i]!,
          places: rowLength === undefined ? time : sequenceLength(sequences[sequence]!)
        }))
        const mask = new Float32Array(packed.tokens).fill(1)
        return {
          ids: byRow(packed.ids, groupSize),
          ...(rowLength === undefined ? {} : { starts: byRow(packed.starts, groupSize) }),
          at: packed.at,
          targets: packed.targets,
          rows: packed.rows,
          mask: { dtype: "f32" as const, shape: [packed.tokens], data: mask },
          temperature: scalar(temperature),
          totalTokens: scalar(tokens),
          totalRows: scalar(rows),
          ...Object.fromEntries(masksOf(pieces, [laid.length, time])),
          ...packInputs(objective, inputs, sequences, part)
        }
      })
      const { data } = (yield* trainer.accumulate(feeds))["logprobs"]!
      let next = 0
      for (const row of part) {
        const end = next + sequences[row]!.completion.length
        logprobs[row] = Float32Array.from(data.subarray(next, end), Number)
        next = end
      }
    }
    const { gradNorm, learningRate, logs, loss, updates } = yield* trainer.apply
    return {
      metrics: { loss, grad_norm: gradNorm, learning_rate: learningRate, updates, ...logs },
      logprobs,
      tokens,
      microBatches: parts.length,
      padding
    }
  })
  return { update, checkpoint: trainer.checkpoint, restore: trainer.restore, updates: trainer.updates }
})
