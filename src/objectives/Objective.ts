/**
 * What an objective is: a graph function of what a model puts out and of named batch tensors. It knows no model and no
 * optimizer, so every objective of a kind works with every model of that kind, full or LoRA.
 *
 * A batch is worked through in micro-batches whose gradients are added up, so a loss is *additive*: each micro-batch gives
 * its share, already divided by totals of the whole batch (`totalTokens`, `totalRows`). The same holds for what is logged:
 * the values of the micro-batches add up to the value of the batch, whatever the plan of micro-batches.
 *
 * To add a loss: one file here that exports a function from its settings to a `TokenObjective` (policies),
 * `EmbeddingObjective` (encoders) or `LogitObjective` (classifiers). Nothing needs to be registered.
 */
import { type Dim, multiplyDims } from "../tensor/Dim.ts"
import { mul } from "../tensor/ops/elementwise.ts"
import { gather, segmentSum } from "../tensor/ops/indexing.ts"
import { slice } from "../tensor/ops/shape.ts"
import type { Tensor } from "../tensor/Tensor.ts"

/** A tensor that the caller gives with the batch: a value per completion token, per row, or one for the batch. */
export interface BatchInput {
  readonly per: "token" | "row" | "batch"
  readonly dtype: "f32" | "i32"
}

/** A loss to be minimised, and what to log beside it, by TRL's names. All scalars, all additive over micro-batches. */
export interface Loss {
  readonly loss: Tensor
  readonly logs: Readonly<Record<string, Tensor>>
}

export interface Objective<Outputs> {
  readonly name: string
  readonly inputs: Readonly<Record<string, BatchInput>>
  /**
   * Rows that belong together: 2 for pairs, K for slates; default 1. The batch gives the rows of a group one after the
   * other; a micro-batch holds whole groups. A row may be empty, so groups of different size are filled up.
   */
  readonly groupSize?: number
  readonly build: (outputs: Outputs, inputs: Readonly<Record<string, Tensor>>) => Loss
}

/**
 * The completion tokens of a micro-batch, packed: token i belongs to row `rows[i]`; prompts and padding are not there.
 * A backend with fixed shapes may fill up with tokens whose `mask` is 0.
 */
export interface TokenOutputs {
  /** log p(token | what precedes it) at the sampling temperature. f32 [tokens], <= 0. */
  readonly logprobs: Tensor
  /** Entropy of the distribution the token was drawn from, in nats. f32 [tokens]. */
  readonly entropies: Tensor
  /** 1 for a token, 0 for filling. f32 [tokens]. */
  readonly mask: Tensor
  /** i32 [tokens], in 0..rowCount-1. */
  readonly rows: Tensor
  readonly rowCount: Dim
  /** Groups of the micro-batch; rowCount = groupSize * groupCount, and row k of group g is row `k * groupCount + g`. */
  readonly groupCount: Dim
  /** Completion tokens of the whole batch. f32 scalar. */
  readonly totalTokens: Tensor
  /** Rows of the whole batch (with empty ones, where the objective has groups). f32 scalar. */
  readonly totalRows: Tensor
}

/** Unit embeddings of `texts` texts for each of `rows` rows: text k of row i is embedding `k * rows + i`. */
export interface EmbeddingOutputs {
  /** f32 [texts * rows, width]; every row has length 1. */
  readonly embeddings: Tensor
  readonly rowCount: Dim
  readonly texts: number
}

/** Class scores. */
export interface LogitOutputs {
  /** f32 [rows, classes]. */
  readonly logits: Tensor
  /** Rows of the whole batch. f32 scalar. */
  readonly totalRows: Tensor
}

export type TokenObjective = Objective<TokenOutputs>
export type EmbeddingObjective = Objective<EmbeddingOutputs>
export type LogitObjective = Objective<LogitOutputs>

/** The named batch tensor. Throws a RangeError where the caller did not give it. */
export const inputOf = (objective: string, inputs: Readonly<Record<string, Tensor>>, name: string): Tensor => {
  const tensor = inputs[name]
  if (tensor === undefined) throw new RangeError(`objective ${objective}: the batch tensor "${name}" is missing`)
  return tensor
}

/** A value per row [rows] as a value per token [tokens]. */
export const perToken = (rowValues: Tensor, { rows }: TokenOutputs): Tensor => gather(rowValues, rows)

/** Sums of token values over each row: [tokens] to [rows]; 0 for an empty row. */
export const perRow = (tokenValues: Tensor, { mask, rowCount, rows }: TokenOutputs): Tensor =>
  segmentSum(mul(tokenValues, mask), rows, rowCount)

/** Of a value per row [rows], that of row `k` of every group: [groups]. */
export const ofGroup = (rowValues: Tensor, k: number, { groupCount }: TokenOutputs): Tensor =>
  slice(rowValues, 0, multiplyDims(groupCount, k), multiplyDims(groupCount, k + 1))
