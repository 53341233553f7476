/** The same models on WebGPU and on the CPU; and no more nodes on the CPU than are known. */
import { assert, describe } from "@effect/vitest"
import { modelsAgree } from "../modelsAgree.ts"
import { absent, titled, webGpu } from "./support.ts"

describe.skipIf(absent !== undefined)(titled("models on WebGPU and on the CPU"), () => {
  modelsAgree(
    webGpu,
    {
      rows: { count: 6, prompts: 3, answers: 7 },
      layers: 1,
      width: 16,
      updates: 2,
      rollouts: { prompts: 3, maxNewTokens: 8, samples: 2, updates: 1 }
    },
    (_, { fallbacks }) => {
      assert.deepStrictEqual(fallbacks, [])
    }
  )
})
