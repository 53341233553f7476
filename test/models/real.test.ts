import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { FileSystem } from "effect/FileSystem"
import { Device } from "../../src/device/Device.ts"
import { i32 } from "../../src/device/HostTensor.ts"
import type { Message } from "../../src/models/chat.ts"
import { decoderParameters, headWeight, hidden } from "../../src/models/decoder.ts"
import * as Policy from "../../src/models/Policy.ts"
import { parameterInputs, readFolder } from "../../src/models/parameters.ts"
import * as SentenceEncoder from "../../src/models/SentenceEncoder.ts"
import { open } from "../../src/models/safetensors/read.ts"
import { samplingDifference } from "../../src/models/samplingDifference.ts"
import { linear } from "../../src/tensor/composites/linear.ts"
import { gather } from "../../src/tensor/ops/indexing.ts"
import { asRows } from "../../src/tensor/ops/shape.ts"
import { program } from "../../src/tensor/Program.ts"
import { input } from "../../src/tensor/Tensor.ts"
import { cpu } from "./device.ts"
import { golden, realModel } from "./folders.ts"

const minilm = realModel("minilm")
const smollm2 = realModel("smollm2")

layer(cpu)("real checkpoints (weights in OVERTONE_MODELS)", (it) => {
  it.effect.skipIf(minilm === undefined)("MiniLM's embeddings equal sentence-transformers' within 1e-4", () =>
    Effect.gen(function* () {
      const { embeddings, sentences } = golden<{ sentences: Array<string>; embeddings: Array<Array<number>> }>(
        "minilm.json"
      )
      const encoder = yield* SentenceEncoder.load(minilm!)
      assert.strictEqual(encoder.maxTokens, 256)
      const found = yield* encoder.embed(sentences)
      let worst = 0
      embeddings.forEach((row, i) => {
        row.forEach((value, j) => {
          worst = Math.max(worst, Math.abs(found[i]![j]! - value))
        })
      })
      assert.isBelow(worst, 1e-5)
    })
  )

  it.effect.skipIf(smollm2 === undefined)(
    "SmolLM2: logits and log-probabilities equal transformers' within 1e-3, greedy answers token by token",
    () =>
      Effect.gen(function* () {
        const { cases } = golden<{
          cases: ReadonlyArray<{
            messages: ReadonlyArray<Message>
            ids: Array<number>
            lastLogits: Array<number>
            logprobs: Array<number>
            greedy: Array<number>
            greedyText: string
          }>
        }>("smollm2.json")
        const policy = yield* Policy.load(smollm2!)
        assert.strictEqual(policy.parameterCount, 134_515_008)

        const scores = yield* policy.logprobs(
          cases.map(({ ids }) => ({ prompt: ids.slice(0, 1), completion: ids.slice(1) }))
        )
        cases.forEach(({ logprobs }, i) => {
          logprobs.forEach((value, j) => {
            assert.closeTo(scores[i]!.logprobs[j]!, value, 1e-3)
          })
        })

        const found = yield* policy.generate(
          cases.map(({ messages }, i) => ({ promptId: String(i), prompt: messages })),
          { seed: 0, purpose: "test", maxNewTokens: 16, temperature: 0 }
        )
        cases.forEach(({ greedy, greedyText }, i) => {
          assert.deepStrictEqual([...found[i]!.ids], greedy)
          assert.strictEqual(found[i]!.text, greedyText)
        })
        const again = yield* policy.logprobs(found.map(({ ids, prompt }) => ({ prompt, completion: ids })))
        const { max } = samplingDifference(
          found.map(({ logprobs }) => logprobs),
          again.map(({ logprobs }) => logprobs)
        )
        assert.isBelow(max, 1e-3)

        const device = yield* Device
        const table = decoderParameters(policy.config)
        const own = parameterInputs(table)
        const states = hidden(policy.config, own, input("ids", "i32", ["rows", "time"]))
        const last = gather(asRows(states), input("at", "i32", ["picked"]))
        const loaded = yield* device.load(
          program("logits", { outputs: { logits: linear(last, headWeight(policy.config, own)) } })
        )
        const weights = Object.fromEntries(yield* readFolder(table, smollm2!))
        for (const { ids, lastLogits } of cases) {
          const { logits } = yield* device.run(loaded, {
            ...weights,
            ids: i32([1, ids.length], ids),
            at: i32([1], [ids.length - 1])
          })
          lastLogits.forEach((value, i) => {
            assert.closeTo(Number(logits!.data[i * 97]), value, 1e-3)
          })
        }
      })
  )

  it.effect.skipIf(smollm2 === undefined)("SmolLM2 saves as BF16 what it loaded, bit by bit", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem
      const policy = yield* Policy.load(smollm2!)
      const folder = yield* fs.makeTempDirectoryScoped()
      yield* policy.save(folder, { dtype: "BF16" })
      const [before, after] = [yield* open(`${smollm2}/model.safetensors`), yield* open(`${folder}/model.safetensors`)]
      for (const name of ["model.layers.3.self_attn.k_proj.weight", "model.norm.weight"]) {
        const [a, b] = [before.tensors.get(name)!, after.tensors.get(name)!]
        assert.deepStrictEqual(yield* after.bytes(b), yield* before.bytes(a))
      }
      assert.strictEqual(
        yield* fs.readFileString(`${folder}/config.json`),
        yield* fs.readFileString(`${smollm2}/config.json`)
      )
    })
  )
})
