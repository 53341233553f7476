/**
 * Log-probabilities of completion tokens as graphs: what a policy is scored and trained by. The states that predict a
 * completion token are gathered before the head, so the head never runs on prompt or padding, and `linearLogprobs` never
 * holds a whole [tokens, vocabulary].
 */

import { type MicroBatch, usualBatch } from "../device/microBatch.ts"
import type { BatchInput, TokenObjective } from "../objectives/Objective.ts"
import { linearLogprobs } from "../tensor/composites/linearLogprobs.ts"
import { rematerialise } from "../tensor/composites/rematerialise.ts"
import { multiplyDims, namedDim } from "../tensor/Dim.ts"
import { sub } from "../tensor/ops/elementwise.ts"
import { gather } from "../tensor/ops/indexing.ts"
import { iota } from "../tensor/ops/leaf.ts"
import { asRows, reshape } from "../tensor/ops/shape.ts"
import { type Program, program } from "../tensor/Program.ts"
import { input, type Tensor } from "../tensor/Tensor.ts"
import { attendWithin, type HiddenOptions, headWeight, hidden } from "./decoder.ts"
import type { DecoderConfig } from "./decoderConfig.ts"
import { adapting, dropoutTensors, type LoraSettings, policyInputs } from "./lora.ts"
import type { ParameterInputs } from "./parameters.ts"
import type { TrainerGraph } from "./Trainer.ts"

/** Tokens whose logits exist at once: a sixteenth of the bytes that the device gives, 64 MiB on a CPU; no fewer than 128. */
export const headChunk = ({ vocabularySize }: DecoderConfig, { bytes, places }: MicroBatch = usualBatch): number =>
  Math.max(128, Math.min(2 * places, Math.floor(bytes / 64 / vocabularySize)))

/**
 * Places of a micro-batch: at most those that the device likes, and few enough that activations take about the bytes that it
 * gives: what a layer keeps for its derivative, times the layers. No fewer than 256, or a quarter where a device takes less.
 */
export const placesPerMicroBatch = (
  config: DecoderConfig,
  { bytes, places }: MicroBatch = usualBatch,
  rematerialised = false
): number => {
  const { hiddenSize, intermediateSize, layers } = config
  const layer = 12 * hiddenSize + 4 * intermediateSize
  const floats = rematerialised ? layers * 2 * hiddenSize + layer : layers * layer
  return Math.max(1, Math.min(256, places / 4), Math.min(places, Math.floor(bytes / (4 * floats))))
}

/**
 * Scores of the tokens `targets` i32 [tokens], each predicted from state `at` i32 [tokens] of ids i32 [rows, time] (flat),
 * at the scalar `temperature`: log-probabilities and entropies [tokens].
 */
const tokenScores = (
  config: DecoderConfig,
  parameters: ParameterInputs,
  ids: Tensor,
  options: HiddenOptions,
  batch: MicroBatch | undefined
) => {
  const states = hidden(config, parameters, ids, options)
  const predicting = gather(asRows(states), input("at", "i32", ["tokens"]))
  return linearLogprobs(predicting, headWeight(config, parameters), input("targets", "i32", ["tokens"]), {
    chunk: headChunk(config, batch),
    temperature: input("temperature", "f32", [])
  })
}

/** The program that scores completions: outputs `logprobs`, `entropies` [tokens]. */
export const scoreProgram = (config: DecoderConfig, lora?: LoraSettings, batch?: MicroBatch): Program => {
  const parameters = policyInputs(config, lora)
  const ids = input("ids", "i32", ["rows", "time"])
  const adapt = adapting(config, lora)
  const { entropy, logprob } = tokenScores(config, parameters, ids, { adapt }, batch)
  return program("score", { outputs: { logprobs: logprob, entropies: entropy } })
}

export interface PolicyLossOptions {
  /** Compute layers again in the backward pass; default false. */
  readonly recompute?: boolean
  /** The layers as a loop over their weights laid on one another; default false. */
  readonly loop?: boolean | undefined
  readonly lora?: LoraSettings | undefined
  /** What the device takes at once; default `usualBatch`. */
  readonly batch?: MicroBatch | undefined
  /** Rows hold several sequences (`packing.ts`) and are so long at most: `starts`, of the shape of `ids`, is an input more. */
  readonly rowLength?: number | undefined
}

/** Whether an objective can be told of sequences that share rows: it has no groups, and no values for a row. */
export const isPackable = ({ groupSize = 1, inputs }: TokenObjective): boolean =>
  groupSize === 1 && Object.values(inputs).every(({ per }) => per !== "row")

/** What to tell whoever wants to pack rows of an objective that is not packable. */
export const unpackable = ({ name }: TokenObjective): string =>
  `${name}: sequences cannot share rows where an objective has groups, or a value for each row; leave packing off`

/** How sequences that share rows attend, and where they stand: each counts from 0. */
const sharing = (starts: Tensor, rowLength: number): Pick<HiddenOptions, "attend" | "positions"> => ({
  attend: attendWithin(starts, rowLength),
  positions: sub(iota([starts.shape[1]!]), starts)
})

/**
 * An objective's loss over a policy's parameters, an adapter's among them; `logprobs` [tokens] are an output. With dropout every
 * adapted layer has an input more, its mask: `dropoutMasks`. Throws a RangeError for packed rows of an objective that is not
 * packable.
 */
export const policyLoss = (
  config: DecoderConfig,
  parameters: ParameterInputs,
  objective: TokenObjective,
  { batch, loop, lora, recompute = false, rowLength }: PolicyLossOptions = {}
): TrainerGraph => {
  const { groupSize = 1 } = objective
  if (rowLength !== undefined && !isPackable(objective)) throw new RangeError(unpackable(objective))
  // Fed as [groupSize, groups, ...], so that both dimensions can be read off: see `byRow` in batching.ts.
  const groupCount = namedDim("groups")
  const rowCount = multiplyDims(groupCount, groupSize)
  const perPlace = (name: string) => reshape(input(name, "i32", [groupSize, groupCount, "time"]), [rowCount, "time"])
  const ids = perPlace("ids")
  const mask = (name: string, columns: number) =>
    reshape(input(name, "f32", [groupSize, groupCount, "time", columns]), [rowCount, "time", columns])
  const options: HiddenOptions = {
    adapt: adapting(config, lora),
    more: dropoutTensors(config, lora, mask),
    loop,
    ...(rowLength === undefined ? {} : sharing(perPlace("starts"), rowLength)),
    ...(recompute ? { wrap: (layer, x) => rematerialise([x], (y) => [layer(y!)])[0]! } : {})
  }
  const { entropy, logprob } = tokenScores(config, parameters, ids, options, batch)
  const given = ([name, { dtype, per }]: readonly [string, BatchInput]) => {
    if (per === "row") return reshape(input(`batch:${name}`, dtype, [groupSize, groupCount]), [rowCount])
    return input(`batch:${name}`, dtype, per === "token" ? ["tokens"] : [])
  }
  const inputs = Object.entries(objective.inputs).map((entry) => [entry[0], given(entry)] as const)
  const loss = objective.build(
    {
      logprobs: logprob,
      entropies: entropy,
      mask: input("mask", "f32", ["tokens"]),
      rows: input("rows", "i32", ["tokens"]),
      // of packed sequences there are no more than tokens, since each has one
      rowCount: rowLength === undefined ? rowCount : namedDim("tokens"),
      groupCount,
      totalTokens: input("totalTokens", "f32", []),
      totalRows: input("totalRows", "f32", [])
    },
    Object.fromEntries(inputs)
  )
  return { ...loss, outputs: { logprobs: logprob } }
}
