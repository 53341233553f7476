import type { DecoderConfig } from "../../src/models/decoderConfig.ts"
import type { SamplerOptions } from "../../src/models/generate.ts"
import * as Policy from "../../src/models/Policy.ts"
import { wordLevelFiles } from "../../src/models/wordLevel.ts"
import { worldSpec } from "./world.ts"

/** A policy over the small world that trains in milliseconds. */
export const tinyConfig: DecoderConfig = {
  kind: "decoder",
  vocabularySize: worldSpec.phrases.length + worldSpec.words.length,
  hiddenSize: 32,
  intermediateSize: 64,
  layers: 2,
  heads: 4,
  keyValueHeads: 2,
  headSize: 8,
  maxPositions: 64,
  ropeTheta: 10000,
  normEpsilon: 1e-5,
  tied: true,
  qkvBias: false,
  outputBias: false,
  feedForwardBias: false,
  eosIds: [3]
}
/** With random weights. */
export const tinyPolicy = (
  seed = 0,
  options: SamplerOptions = {},
  config: Partial<DecoderConfig> = {},
  tokenizerFiles = wordLevelFiles(worldSpec)
) => Policy.create({ config: { ...tinyConfig, ...config }, tokenizerFiles, seed }, options)
