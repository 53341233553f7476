/** XLA's CPU plugin for tests: where it is installed (`exp device install cpu`); without it they are skipped, and say so. */

import { cpuPlugin, locatePlugin } from "../../../src/device/xla/plugins.ts"
import { XlaDevice } from "../../../src/device/xla/XlaDevice.ts"
import type { DecoderConfig } from "../../../src/models/decoderConfig.ts"
import { titledBy } from "../support.ts"

const located = locatePlugin(cpuPlugin)

/** Why tests of XLA cannot run here; undefined where they can. */
export const absent = "missing" in located ? located.missing : undefined

export const titled = titledBy(absent)

/** The device, without a cache of executables. */
export const xlaCpu = XlaDevice.layer({ plugin: cpuPlugin, executables: null, quick: true })

/** The same in the class bf16. */
export const xlaBf16 = XlaDevice.layer({ plugin: cpuPlugin, dtype: "bf16", executables: null, quick: true })

/** A decoder as Qwen2.5's: biases of queries, keys and values alone, the head tied to the embedding. */
export const decoderOf = (
  sizes: Pick<
    DecoderConfig,
    | "vocabularySize"
    | "hiddenSize"
    | "intermediateSize"
    | "layers"
    | "heads"
    | "keyValueHeads"
    | "headSize"
    | "maxPositions"
  >
): DecoderConfig => ({
  kind: "decoder",
  ...sizes,
  ropeTheta: 1e4,
  normEpsilon: 1e-6,
  tied: true,
  qkvBias: true,
  outputBias: false,
  feedForwardBias: false,
  eosIds: [1]
})
