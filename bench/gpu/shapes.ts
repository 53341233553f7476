/** What is timed: two shapes with their batches, and the same small, to try the programs without a card. */
import type { DecoderConfig } from "../../src/models/decoderConfig.ts"
import { half, qwen, three } from "../shapes.ts"

export interface Shape {
  readonly config: DecoderConfig
  /** Training: rows of a batch, tokens of a prompt, tokens of an answer; a row takes prompt + answer - 1 places. */
  readonly rows: number
  readonly prompt: number
  readonly answer: number
  readonly rank: number
  /** Decoding: tokens of a prompt, tokens written, answers of each prompt. */
  readonly context: number
  readonly written: number
  readonly samples: number
  /** Updates and generations that are timed, after two that are not: one that compiles, one that warms up. */
  readonly repeats: number
}

export const shapeNames = ["0.5B", "3B"] as const
export type ShapeName = (typeof shapeNames)[number]

/** 8 rows of 2,048 places, of which 1,536 are answer; decoding 256 tokens after 512. */
const real = { rows: 8, prompt: 513, answer: 1536, rank: 32, context: 512, written: 256, samples: 8, repeats: 5 }
const small = { rows: 4, prompt: 9, answer: 24, rank: 4, context: 8, written: 16, samples: 4, repeats: 2 }

const tiny = (layers: number): DecoderConfig =>
  qwen({
    hiddenSize: 32 * layers,
    intermediateSize: 64 * layers,
    layers,
    heads: 4,
    headSize: 8 * layers,
    vocabularySize: 512,
    maxPositions: 128,
    eosIds: [511]
  })

export const shapeOf = (name: ShapeName, isTiny: boolean): Shape =>
  isTiny ? { config: tiny(name === "3B" ? 2 : 1), ...small } : { config: name === "3B" ? three : half, ...real }

/** Rows that are decoded at once. */
export const batchOf = (batch: 64 | 256, isTiny: boolean): number => (isTiny ? batch / 16 : batch)
