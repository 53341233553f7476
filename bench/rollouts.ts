/**
 * What short answers cost: generation by a policy of the quickstart's size with so many end tokens that answers have some mean
 * length (lengths are geometric, the hardest case: how long an answer is says nothing of how much longer it will be). For
 * each length the share of decoded rows x steps that wrote a token, what only fills up, programs compiled, and processor time a
 * token in a second pass over the same batches, which compiles nothing.
 *
 *   node bench/rollouts.ts [--means 10,19,43,150] [--prompts 8] [--samples 8] [--batches 3] [--most TOKENS] [--device xla:cpu]
 *
 * On XLA it needs `exp device install cpu`.
 */
import { parseArgs } from "node:util"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { Effect, Layer } from "effect"
import { Device } from "../src/device/Device.ts"
import { OnnxCpu } from "../src/device/onnx/OnnxCpu.ts"
import { cpuPlugin } from "../src/device/xla/plugins.ts"
import { XlaDevice } from "../src/device/xla/XlaDevice.ts"
import { tinyPolicyOf } from "./works.ts"

const { values } = parseArgs({
  options: {
    means: { type: "string", default: "10,19,43,150" },
    prompts: { type: "string", default: "8" },
    samples: { type: "string", default: "8" },
    most: { type: "string" },
    batches: { type: "string", default: "3" },
    device: { type: "string", default: "xla:cpu" }
  }
})
const [prompts, samples, batches] = [Number(values.prompts), Number(values.samples), Number(values.batches)]
/** Executables are not kept, so that all are counted; all are compiled alike, fast rather than well. */
const device = () =>
  values.device === "cpu"
    ? OnnxCpu.layer({ threads: 1 })
    : XlaDevice.layer({ plugin: cpuPlugin, executables: null, quick: true })
const words = 482
const processor = () => {
  const { systemCPUTime, userCPUTime } = process.resourceUsage()
  return (systemCPUTime + userCPUTime) / 1e6
}

/** One mean length: prompts of 12 to 26 words, other ones in every batch. */
const measured = (mean: number) =>
  Effect.gen(function* () {
    const eosIds = Array.from({ length: Math.round(words / mean) }, (_, i) => 1 + i)
    const policy = yield* tinyPolicyOf({ eosIds, maxPositions: 1024 })
    const maxNewTokens = Number(values.most ?? Math.max(72, Math.ceil(mean * 3)))
    const pass = Effect.gen(function* () {
      const before = { ...(yield* policy.generationStats), processor: processor() }
      for (let batch = 0; batch < batches; batch++) {
        const asked = Array.from({ length: prompts }, (_, i) => ({
          promptId: `p${i}`,
          prompt: Array.from(
            { length: 12 + ((i * 5 + batch * 3) % 15) },
            (_, j) => `w${(i * 31 + j * 7) % words}`
          ).join(" ")
        }))
        yield* policy.generate(asked, { seed: batch, purpose: "bench", maxNewTokens, samples })
      }
      const after = yield* policy.generationStats
      const tokens = after.tokens - before.tokens
      return {
        length: tokens / (prompts * samples * batches),
        live: tokens / (after.rowSteps - before.rowSteps),
        microseconds: (1e6 * (processor() - before.processor)) / tokens
      }
    })
    const first = yield* pass
    const { cachePaddingShare = 0, compiled = 0, paddingShare = 0 } = yield* (yield* Device).stats
    const second = yield* pass
    const text = (x: number, digits = 2) => x.toFixed(digits)
    console.log(
      `${text(second.length, 1).padStart(6)} tokens an answer, at most ${maxNewTokens}: live ${text(second.live)}, padding of tokens ` +
        `${text(paddingShare)} and of the cache ${text(cachePaddingShare)}, ${compiled} programs; processor time a token ` +
        `${text(second.microseconds, 0)} us (${text(first.microseconds, 0)} with compiling)`
    )
  }).pipe(Effect.scoped, Effect.provide(Layer.merge(device(), NodeFileSystem.layer)))

await Effect.runPromise(Effect.forEach(values.means.split(",").map(Number), measured, { discard: true }))
