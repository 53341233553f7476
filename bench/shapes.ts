/** Shapes of real models, for programs and policies with nothing loaded. */
import type { DecoderConfig } from "../src/models/decoderConfig.ts"

type Sizes = Pick<DecoderConfig, "hiddenSize" | "intermediateSize" | "layers" | "heads" | "headSize">

/** A decoder as Qwen2.5's: vocabulary, grouped heads, biases, tied embedding. */
export const qwen = (sizes: Sizes & Partial<DecoderConfig>): DecoderConfig => ({
  kind: "decoder",
  vocabularySize: 151_936,
  keyValueHeads: 2,
  maxPositions: 32_768,
  ropeTheta: 1e6,
  normEpsilon: 1e-6,
  tied: true,
  qkvBias: true,
  outputBias: false,
  feedForwardBias: false,
  eosIds: [151_645],
  ...sizes
})

/** Qwen2.5-0.5B. */
export const half = qwen({ hiddenSize: 896, intermediateSize: 4864, layers: 24, heads: 14, headSize: 64 })
/** Qwen2.5-3B. */
export const three = qwen({ hiddenSize: 2048, intermediateSize: 11_008, layers: 36, heads: 16, headSize: 128 })
