import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { FileSystem } from "effect/FileSystem"
import { fromTokenizer, type Message } from "../../src/models/chat.ts"
import * as tokenizer from "../../src/models/tokenizer.ts"
import { golden, realModel } from "./folders.ts"

interface Tokens {
  readonly text: string
  readonly ids: ReadonlyArray<number>
}
const minilm = realModel("minilm")
const smollm2 = realModel("smollm2")

layer(NodeServices.layer)("tokenizers of real models (weights in OVERTONE_MODELS)", (it) => {
  it.effect.skipIf(minilm === undefined)("MiniLM's ids, pairs and segments equal transformers'", () =>
    Effect.gen(function* () {
      const reference = golden<{
        tokens: ReadonlyArray<Tokens>
        pair: { text: string; second: string; input_ids: Array<number>; token_type_ids: Array<number> }
      }>("minilm.json")
      const it = yield* tokenizer.load(minilm!)
      for (const { ids, text } of reference.tokens) assert.deepStrictEqual([...it.encodeForModel(text).ids], ids, text)
      const { input_ids, second, text, token_type_ids } = reference.pair
      const pair = it.encodeForModel(text, second)
      assert.deepStrictEqual([[...pair.ids], [...pair.segments]], [input_ids, token_type_ids])
      assert.strictEqual(it.tokenOf(it.special.pad), "[PAD]")
    })
  )

  it.effect.skipIf(smollm2 === undefined)("SmolLM2's ids and chat template equal transformers'", () =>
    Effect.gen(function* () {
      const reference = golden<{
        tokens: ReadonlyArray<Tokens>
        cases: ReadonlyArray<{
          messages: ReadonlyArray<Message>
          text: string
          ids: Array<number>
          greedy: Array<number>
          greedyText: string
        }>
      }>("smollm2.json")
      const it = yield* tokenizer.load(smollm2!)
      assert.strictEqual(it.vocabularySize, 49152)
      for (const { ids, text } of reference.tokens) {
        assert.deepStrictEqual([...it.encode(text)], ids, text)
        assert.strictEqual(it.decode(ids, { special: true }), text)
      }
      const chat = yield* Effect.fromResult(fromTokenizer(smollm2!, it))
      assert.deepStrictEqual(chat.stopIds, [2])
      for (const { greedy, greedyText, ids, messages, text } of reference.cases) {
        assert.strictEqual(chat.render(messages), text)
        assert.deepStrictEqual([...chat.encodePrompt(messages)], ids)
        assert.strictEqual(it.decode(greedy), greedyText)
      }
    })
  )

  it.effect.skipIf(smollm2 === undefined)("saves its files byte for byte", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem
      const folder = yield* fs.makeTempDirectoryScoped()
      yield* tokenizer.save(folder, yield* tokenizer.load(smollm2!))
      for (const name of ["tokenizer.json", "tokenizer_config.json"]) {
        assert.strictEqual(
          yield* fs.readFileString(`${folder}/${name}`),
          yield* fs.readFileString(`${smollm2}/${name}`)
        )
      }
    })
  )

  it.effect("names the file that is missing, broken or inconsistent", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem
      const folder = yield* fs.makeTempDirectoryScoped()
      const message = Effect.map(Effect.flip(tokenizer.load(folder)), (error) => error.message)
      assert.match(yield* message, /tokenizer\.json: does not exist; save the tokenizer in its fast form/)
      yield* fs.writeFileString(`${folder}/tokenizer.json`, "{")
      assert.match(yield* message, /tokenizer\.json: is missing or not a JSON object/)
      yield* fs.writeFileString(`${folder}/tokenizer.json`, '{"model":{"type":"Odd"}}')
      assert.match(yield* message, /tokenizer\.json: cannot be used/)
    })
  )
})
