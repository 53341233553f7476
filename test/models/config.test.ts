import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { decoderConfig, decoderConfigJson, ropeFrequencies } from "../../src/models/decoderConfig.ts"
import { encoderConfig, encoderConfigJson } from "../../src/models/encoderConfig.ts"

const llama = {
  model_type: "llama",
  vocab_size: 100,
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  max_position_embeddings: 32
}
const bert = { ...llama, model_type: "bert" }
const decoder = (fields: object) => decoderConfig("m/config.json", JSON.stringify({ ...llama, ...fields }))
const encoder = (fields: object) => encoderConfig("m/config.json", JSON.stringify({ ...bert, ...fields }))

describe("config.json", () => {
  it.effect("fills transformers' defaults", () =>
    Effect.gen(function* () {
      const config = yield* decoder({})
      assert.deepStrictEqual(
        [config.keyValueHeads, config.headSize, config.ropeTheta, config.normEpsilon, config.tied, config.qkvBias],
        [4, 16, 10000, 1e-6, false, false]
      )
      assert.strictEqual(
        (yield* decoder({ rope_parameters: { rope_theta: 5e5, rope_type: "default" } })).ropeTheta,
        5e5
      )
      assert.deepStrictEqual((yield* decoder({ eos_token_id: [1, 2] })).eosIds, [1, 2])
    })
  )

  it.effect("knows where each family has biases", () =>
    Effect.gen(function* () {
      const bias = (fields: object) => Effect.map(decoder(fields), ({ outputBias, qkvBias }) => [qkvBias, outputBias])
      assert.deepStrictEqual(yield* bias({ attention_bias: true }), [true, true])
      assert.deepStrictEqual(yield* bias({ model_type: "qwen2" }), [true, false])
      assert.deepStrictEqual(yield* bias({ model_type: "mistral" }), [false, false])
    })
  )

  it.effect.each([
    [{ model_type: "gpt2" }, /model_type is "gpt2", which is not supported; supported: llama, mistral, qwen2/],
    [{ hidden_act: "gelu" }, /hidden_act is "gelu"/],
    [{ rope_scaling: { rope_type: "llama3", factor: 8 } }, /rope_scaling of type llama3 needs/],
    [{ rope_scaling: { rope_type: "yarn", factor: 8 } }, /rope_scaling\.rope_type is "yarn"/],
    [{ rope_scaling: { type: "linear", factor: 8 } }, /rope_scaling\.rope_type is "linear"/],
    [{ model_type: "mistral", sliding_window: 16 }, /sliding_window is 16/],
    [{ hidden_size: 66 }, /do not divide/],
    [{ num_key_value_heads: 3 }, /do not divide/],
    [{ vocab_size: "many", hidden_size: 0 }, /vocab_size[\s\S]*|hidden_size/]
  ] as const)("refuses %j", ([fields, expected]) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(decoder(fields))
      assert.match(error.message, /^m\/config\.json: /)
      assert.match(error.message, expected)
    })
  )

  it.effect("refuses other encoders, MPNet by name", () =>
    Effect.gen(function* () {
      assert.match((yield* Effect.flip(encoder({ model_type: "mpnet" }))).message, /MPNet's relative attention bias/)
      assert.match((yield* Effect.flip(encoder({ hidden_act: "relu" }))).message, /hidden_act is "relu"/)
      assert.match(
        (yield* Effect.flip(encoder({ position_embedding_type: "relative_key" }))).message,
        /position_embedding_type/
      )
    })
  )

  it.effect("stretches Llama 3's slow frequencies", () =>
    Effect.gen(function* () {
      // Llama 3.2: d 64, theta 5e5. Turns over 8192 positions: 8192 theta^(-2i/64) / 2 pi
      const config = yield* decoder({
        head_dim: 64,
        rope_theta: 500000,
        rope_scaling: {
          rope_type: "llama3",
          factor: 32,
          low_freq_factor: 1,
          high_freq_factor: 4,
          original_max_position_embeddings: 8192
        }
      })
      const frequencies = ropeFrequencies(config)
      const plain = frequencies.map((_, i) => 500000 ** ((-2 * i) / 64))
      assert.strictEqual(frequencies[0], 1) // 1304 turns: kept
      assert.closeTo(frequencies[31]!, plain[31]! / 32, 1e-12) // 0.004 turns: stretched
      // i = 15: 2.78 turns, smooth = (2.78 - 1) / 3
      const turns = (8192 * plain[15]!) / (2 * Math.PI)
      const smooth = (turns - 1) / 3
      assert.isTrue(smooth > 0.5 && smooth < 0.7)
      assert.closeTo(frequencies[15]!, plain[15]! * ((1 - smooth) / 32 + smooth), 1e-12)
    })
  )

  it.effect("writes what it reads", () =>
    Effect.gen(function* () {
      for (const fields of [
        {},
        { model_type: "qwen2" },
        { attention_bias: true, mlp_bias: true, eos_token_id: [1, 2] }
      ]) {
        const config = yield* decoder(fields)
        assert.deepStrictEqual(yield* decoderConfig("x", decoderConfigJson(config)), config)
      }
      const labels = { architectures: ["BertForSequenceClassification"], id2label: { 0: "entailment", 1: "neutral" } }
      for (const fields of [{}, labels]) {
        const config = yield* encoder(fields)
        assert.deepStrictEqual(yield* encoderConfig("x", encoderConfigJson(config)), config)
      }
      assert.deepStrictEqual((yield* encoder(labels)).labels, ["entailment", "neutral"])
    })
  )
})
