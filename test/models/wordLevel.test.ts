import { assert, describe, it } from "@effect/vitest"
import { Result } from "effect"
import * as fc from "fast-check"
import { fromFiles } from "../../src/models/tokenizer.ts"
import { wordLevelFiles } from "../../src/models/wordLevel.ts"
import { worldSpec } from "./world.ts"

const tokenizer = Result.getOrThrow(fromFiles("world", wordLevelFiles(worldSpec)))

describe("word-level tokenizer", () => {
  const answer =
    "<core perspectives>\nIn the perspective of Justice, The farmer sells well\nIn the perspective of Care, because of Duty\n</core perspectives>\n<summary>Justice Care</summary>"

  it("makes one token of every fixed phrase", () => {
    assert.deepStrictEqual(
      tokenizer.encode(answer).map((id) => tokenizer.tokenOf(id)),
      // biome-ignore format: one line per line of the answer
      [
        "<core perspectives>", "\n",
        "In the perspective of", "Justice", ",", "The", "farmer", "sells", "well", "\n",
        "In the perspective of", "Care", ",", "because", "of", "Duty", "\n",
        "</core perspectives>", "\n",
        "<summary>", "Justice", "Care", "</summary>"
      ]
    )
  })

  it("decodes to the very text", () => {
    assert.strictEqual(tokenizer.decode(tokenizer.encode(answer)), answer)
  })

  it("encode inverts decode on every sequence of tokens", () => {
    const ids = fc.integer({ min: 0, max: tokenizer.vocabularySize - 1 })
    fc.assert(
      fc.property(fc.array(ids), (sequence) => {
        assert.deepStrictEqual([...tokenizer.encode(tokenizer.decode(sequence, { special: true }))], sequence)
      }),
      { seed: 2 }
    )
  })

  it("leaves special tokens out of decoded text, and knows their roles", () => {
    const { bos, eos, pad, sep, unk } = tokenizer.special
    assert.deepStrictEqual([pad, bos, sep, eos, unk], [0, 1, 2, 3, 4])
    assert.strictEqual(tokenizer.decode([1, ...tokenizer.encode("The farmer"), 2, 3, 0]), "The farmer")
  })

  it("reads unknown words as [UNK], and refuses them without one", () => {
    assert.deepStrictEqual(tokenizer.encode("The zebra"), [tokenizer.idOf("The")!, 4])
    const { unk_token: _, ...roles } = worldSpec.roles
    const strict = Result.getOrThrow(fromFiles("world", wordLevelFiles({ ...worldSpec, roles })))
    assert.throws(() => strict.encode("The zebra"), /the word "zebra" is not in the vocabulary/)
  })

  it("puts the separator between a pair and numbers the segments", () => {
    const { ids, segments } = tokenizer.encodeForModel("The farmer", "sells")
    assert.deepStrictEqual(
      ids.map((id) => tokenizer.tokenOf(id)),
      ["The", "farmer", "<sep>", "sells"]
    )
    assert.deepStrictEqual(segments, [0, 0, 0, 1])
  })

  it("begins with [CLS] where there is one", () => {
    const phrases = [...worldSpec.phrases, { text: "[CLS]", special: true }]
    const files = wordLevelFiles({ ...worldSpec, phrases, roles: { ...worldSpec.roles, cls_token: "[CLS]" } })
    const classifier = Result.getOrThrow(fromFiles("world", files))
    const tokens = (ids: ReadonlyArray<number>) => ids.map((id) => classifier.tokenOf(id))
    assert.deepStrictEqual(tokens(classifier.encodeForModel("The").ids), ["[CLS]", "The"])
    const { ids, segments } = classifier.encodeForModel("The", "farmer")
    assert.deepStrictEqual(tokens(ids), ["[CLS]", "The", "<sep>", "farmer"])
    assert.deepStrictEqual(segments, [0, 0, 0, 1])
  })

  it("refuses vocabularies that could not be read back", () => {
    const spec = (words: ReadonlyArray<string>) => () => wordLevelFiles({ ...worldSpec, words })
    assert.throws(spec(["a", "a"]), /listed twice/)
    assert.throws(spec(["a b"]), /holds a space/)
    assert.throws(spec(["a,b"]), /holds the fixed phrase ","/)
    assert.throws(() => wordLevelFiles({ ...worldSpec, roles: { eos_token: "<end>" } }), /is no token/)
  })

  it("refuses a WordLevel tokenizer of another form, naming the file", () => {
    const files = wordLevelFiles(worldSpec)
    const other = files["tokenizer.json"]!.replace("WhitespaceSplit", "BertPreTokenizer")
    const error = Result.getOrThrow(Result.flip(fromFiles("folder", { ...files, "tokenizer.json": other })))
    assert.match(error.message, /folder\/tokenizer\.json: is a WordLevel tokenizer in a form that is not supported/)
  })
})
