/** What generation says of how well it fills the device. */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { OnnxCpu } from "../../src/device/onnx/OnnxCpu.ts"
import { watchDecoding } from "../../src/stages/decoding.ts"
import { absent, titled, xlaCpu } from "../device/xla/support.ts"
import { tinyPolicy } from "../models/tinyPolicy.ts"

const prompts = ["The farmer", "farmer sells well because of Duty", "Duty"].map((prompt, i) => ({
  promptId: `p${i}`,
  prompt
}))

/** The metrics of a second generation, of nothing, and what the policy says of both. */
const watched = Effect.gen(function* () {
  const policy = yield* tinyPolicy(1)
  const ask = (maxNewTokens: number) => policy.generate(prompts, { seed: 0, purpose: "test", samples: 4, maxNewTokens })
  yield* ask(5)
  const first = yield* policy.generationStats
  const decoding = yield* watchDecoding(policy)
  const nothing = yield* decoding.metrics
  yield* ask(24)
  const second = yield* policy.generationStats
  const live = (second.tokens - first.tokens) / (second.rowSteps - first.rowSteps)
  return { live, nothing, metrics: yield* decoding.metrics }
}).pipe(Effect.scoped)

describe("decoding", () => {
  it.effect("says the share of rows x steps that wrote a token, of what was done since", () =>
    Effect.gen(function* () {
      const { live, metrics, nothing } = yield* watched
      assert.deepStrictEqual(metrics, { "perf/live_share": live })
      assert.isTrue(live > 0.6 && live < 1)
      assert.deepStrictEqual(nothing, {})
    }).pipe(Effect.provide(Layer.merge(OnnxCpu.layer({ threads: 1 }), NodeServices.layer)))
  )

  describe.skipIf(absent !== undefined)(titled("on a device that compiles for sizes"), () => {
    it.effect("says what only fills up, too", () =>
      Effect.gen(function* () {
        const { live, metrics, nothing } = yield* watched
        assert.hasAllKeys(metrics, ["perf/live_share", "perf/bucket_padding/tokens", "perf/bucket_padding/cache"])
        assert.strictEqual(metrics["perf/live_share"], live)
        for (const kind of ["tokens", "cache"]) {
          const share = metrics[`perf/bucket_padding/${kind}`]!
          assert.isTrue(share > 0 && share < 0.4, `${kind}: ${share}`)
        }
        assert.deepStrictEqual(nothing, {})
      }).pipe(Effect.provide(Layer.merge(xlaCpu, NodeServices.layer)))
    )
  })
})
