/** The same models on XLA and on onnxruntime. Most programs are padded: a tenth of the tokens at most. */
import { assert, describe } from "@effect/vitest"
import { modelsAgree } from "../modelsAgree.ts"
import { absent, titled, xlaCpu } from "./support.ts"

describe.skipIf(absent !== undefined)(titled("models on XLA and on onnxruntime"), () => {
  modelsAgree(
    xlaCpu,
    {
      rows: { count: 12, prompts: 5, answers: 13 },
      layers: 2,
      width: 32,
      updates: 5,
      rollouts: { prompts: 7, maxNewTokens: 24, samples: 3, updates: 2 }
    },
    (what, _, { cachePaddingShare, paddingShare }) => {
      if (what === "encoder") return
      assert.isAbove(paddingShare!, 0)
      assert.isBelow(paddingShare!, 0.1)
      if (what === "policy") return
      // keys and values in coarser steps
      assert.isAbove(cachePaddingShare!, paddingShare!)
      assert.isBelow(cachePaddingShare!, 0.4)
    }
  )
})
