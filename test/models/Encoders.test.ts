import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { FileSystem } from "effect/FileSystem"
import * as Classifier from "../../src/models/Classifier.ts"
import type { EncoderConfig } from "../../src/models/encoderConfig.ts"
import * as SentenceEncoder from "../../src/models/SentenceEncoder.ts"
import { encodeRow } from "../../src/models/texts.ts"
import { fromFiles } from "../../src/models/tokenizer.ts"
import { wordLevelFiles } from "../../src/models/wordLevel.ts"
import { contrastive } from "../../src/objectives/contrastive.ts"
import { cpu } from "./device.ts"
import { worldSpec } from "./world.ts"

const phrases = [...worldSpec.phrases, { text: "[CLS]", special: true }]
const files = wordLevelFiles({ ...worldSpec, phrases, roles: { ...worldSpec.roles, cls_token: "[CLS]" } })
const config: EncoderConfig = {
  kind: "encoder",
  vocabularySize: phrases.length + worldSpec.words.length,
  hiddenSize: 32,
  intermediateSize: 64,
  layers: 2,
  heads: 4,
  maxPositions: 16,
  segments: 2,
  normEpsilon: 1e-12,
  labels: []
}
const dot = (a: Float32Array, b: Float32Array) => a.reduce((sum, x, i) => sum + x * b[i]!, 0)
// biome-ignore format: one triplet a line: anchor, positive, negative
const triplets = [
  ["The farmer sells", "farmer well", "Justice of Duty"],
  ["Care because", "because Care of", "The farmer"],
  ["Justice of Duty", "Duty Justice", "Care well"],
  ["sells well", "well sells The", "of because"]
]
const labels = ["entailment", "neutral", "contradiction"]

layer(cpu)("sentence encoder", (it) => {
  it.effect("gives unit vectors that neither padding nor company changes", () =>
    Effect.gen(function* () {
      const encoder = yield* SentenceEncoder.create({ config, seed: 1, tokenizerFiles: files })
      const texts = triplets.flat()
      const together = yield* encoder.embed(texts)
      for (const [i, text] of texts.entries()) {
        const [alone] = yield* encoder.embed([text])
        assert.closeTo(dot(alone!, alone!), 1, 1e-6)
        assert.closeTo(dot(alone!, together[i]!), 1, 1e-6)
      }
      assert.deepStrictEqual(yield* encoder.embed([]), [])
      const [empty] = yield* encoder.embed([""])
      assert.closeTo(dot(empty!, empty!), 1, 1e-6)
    })
  )

  it.effect("learns triplets, saves and loads byte by byte", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem
      const encoder = yield* SentenceEncoder.create({ config, seed: 1, tokenizerFiles: files, wordDeviation: 0.1 })
      const trainer = yield* encoder.trainer(
        contrastive(),
        { learningRate: 3e-3 },
        { wordDropout: { rate: 0.05, seed: 0 } }
      )
      let metrics: Readonly<Record<string, number>> = {}
      for (let i = 0; i < 40; i++) metrics = (yield* trainer.update(triplets)).metrics
      assert.isBelow(metrics["loss"]!, 0.5) // from log 8 = 2.08, words dropped
      const embeddings = yield* encoder.embed(triplets.flat())
      for (let i = 0; i < 4; i++) {
        const [a, p, n] = [0, 1, 2].map((k) => embeddings[3 * i + k]!)
        assert.isAbove(dot(a!, p!), dot(a!, n!) + 0.3)
      }
      const folders = [yield* fs.makeTempDirectoryScoped(), yield* fs.makeTempDirectoryScoped()]
      yield* encoder.save(folders[0]!)
      const loaded = yield* SentenceEncoder.load(folders[0]!)
      assert.deepStrictEqual(yield* loaded.embed(triplets.flat()), embeddings)
      yield* loaded.save(folders[1]!)
      const names = (yield* fs.readDirectory(folders[0]!, { recursive: true })).sort()
      assert.include(names, "1_Pooling/config.json")
      for (const name of names.filter((name) => name.includes("."))) {
        assert.deepStrictEqual(
          yield* fs.readFile(`${folders[1]}/${name}`),
          yield* fs.readFile(`${folders[0]}/${name}`),
          name
        )
      }
    })
  )

  it.effect("refuses poolings and modules that it does not do, and batches without negatives", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem
      const folder = yield* fs.makeTempDirectoryScoped()
      const encoder = yield* SentenceEncoder.create({ config, seed: 1, tokenizerFiles: files })
      yield* encoder.save(folder)
      const load = Effect.map(Effect.flip(SentenceEncoder.load(folder)), (error) => error.message)
      yield* fs.writeFileString(`${folder}/1_Pooling/config.json`, '{"pooling_mode_cls_token":true}')
      assert.match(yield* load, /1_Pooling\/config\.json: pooling is "?pooling_mode_cls_token/)
      yield* fs.writeFileString(`${folder}/modules.json`, '[{"type":"sentence_transformers.models.Dense"}]')
      assert.match(yield* load, /modules\.json: type is .*Dense/)
      const trainer = yield* encoder.trainer(contrastive(), { learningRate: 1e-3 })
      assert.match((yield* Effect.flip(trainer.update([["a", "b", "c"]]))).message, /at least 2 rows of 3 texts, not 1/)
      assert.match(
        (yield* Effect.flip(
          trainer.update([
            ["a", "b"],
            ["c", "d"]
          ])
        )).message,
        /one of 2 texts/
      )
    })
  )

  it.effect("names the tensor that is missing or has another shape", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem
      const folder = yield* fs.makeTempDirectoryScoped()
      const encoder = yield* SentenceEncoder.create({ config, seed: 1, tokenizerFiles: files })
      yield* encoder.save(folder)
      const text = yield* fs.readFileString(`${folder}/config.json`)
      const message = (change: object) =>
        fs.writeFileString(`${folder}/config.json`, JSON.stringify({ ...JSON.parse(text), ...change })).pipe(
          Effect.andThen(Effect.flip(SentenceEncoder.load(folder))),
          Effect.map((error) => error.message)
        )
      assert.match(
        yield* message({ num_hidden_layers: 3 }),
        /tensor "encoder\.layer\.2\.attention\.self\.query\.weight" with shape \[32, 32\] is missing/
      )
      assert.match(
        yield* message({ intermediate_size: 65 }),
        /model\.safetensors: tensor "encoder\.layer\.0\.intermediate\.dense\.weight" has shape \[64, 32\], config\.json asks for \[65, 32\]/
      )
      assert.match(yield* message({ vocab_size: 3 }), /word_embeddings/)
    })
  )
})

layer(cpu)("classifier", (it) => {
  it.effect("learns pairs, saves and loads", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem
      const classifier = yield* Classifier.create({ config: { ...config, labels }, seed: 2, tokenizerFiles: files })
      const pairs = [
        ["The farmer sells", "farmer sells"],
        ["The farmer sells", "Justice of Care"],
        ["Care of Duty", "Duty of Care"],
        ["Care of Duty", "farmer because"],
        ["sells well", "of"],
        ["because of", "well"]
      ] as const
      const classes = [0, 2, 0, 2, 1, 1]
      const trainer = yield* classifier.trainer({ learningRate: 3e-3 })
      let metrics: Readonly<Record<string, number>> = {}
      for (let i = 0; i < 60; i++) metrics = (yield* trainer.update(pairs, classes)).metrics
      assert.strictEqual(metrics["accuracy"], 1)
      const rows = yield* classifier.probabilities(pairs)
      rows.forEach((row, i) => {
        assert.closeTo(row[0]! + row[1]! + row[2]!, 1, 1e-6)
        assert.isAbove(row[classes[i]!]!, 0.8)
      })
      assert.deepStrictEqual(
        yield* classifier.entailment(pairs),
        Float32Array.from(rows, (row) => row[0]!)
      )
      const folder = yield* fs.makeTempDirectoryScoped()
      yield* classifier.save(folder)
      const loaded = yield* Classifier.load(folder)
      assert.deepStrictEqual(loaded.labels, labels)
      assert.deepStrictEqual(yield* loaded.probabilities(pairs), rows)
    })
  )

  it.effect(
    "refuses classes that it has not, folders that classify nothing, and a question that it cannot answer",
    () =>
      Effect.gen(function* () {
        const fs = yield* FileSystem
        const classifier = yield* Classifier.create({
          config: { ...config, labels: ["yes", "no"] },
          seed: 2,
          tokenizerFiles: files
        })
        const trainer = yield* classifier.trainer({ learningRate: 1e-3 })
        assert.match((yield* Effect.flip(trainer.update(["The"], [2]))).message, /classes in 0\.\.1, not class 2/)
        assert.match((yield* Effect.flip(trainer.update(["The"], []))).message, /1 texts and 0 classes/)
        assert.match(
          (yield* Effect.flip(classifier.entailment([["a", "b"]]))).message,
          /no class of \(yes, no\) is called entailment/
        )
        const folder = yield* fs.makeTempDirectoryScoped()
        const encoder = yield* SentenceEncoder.create({ config, seed: 1, tokenizerFiles: files })
        yield* encoder.save(folder)
        assert.match((yield* Effect.flip(Classifier.load(folder))).message, /config\.json: is no sequence classifier/)
      })
  )
})

layer(cpu)("rows of texts", (it) => {
  it.effect("are cut from the longer text, special tokens kept", () =>
    Effect.gen(function* () {
      const tokenizer = yield* Effect.fromResult(fromFiles("world", files))
      const words = (row: { readonly ids: ReadonlyArray<number> }) =>
        row.ids.map((id) => tokenizer.tokenOf(id)).join(" ")
      const row = encodeRow(tokenizer, ["The farmer sells well", "Justice of"], 6)
      assert.strictEqual(words(row), "[CLS] The farmer <sep> Justice of")
      assert.deepStrictEqual(row.segments, [0, 0, 0, 0, 1, 1])
      assert.strictEqual(words(encodeRow(tokenizer, "The farmer sells well", 3)), "[CLS] The farmer")
    })
  )
})
