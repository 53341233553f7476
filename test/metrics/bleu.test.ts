import { readFileSync } from "node:fs"
import { join } from "node:path"
import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { selfBleu, sentenceBleu } from "../../src/metrics/bleu.ts"

interface Golden {
  readonly bleu: ReadonlyArray<{ hypothesis: Array<string>; references: Array<Array<string>>; value: number }>
  readonly selfBleu: ReadonlyArray<{ outputs: Array<Array<string>>; value: number }>
}
const golden: Golden = JSON.parse(readFileSync(join(import.meta.dirname, "../golden/metrics/bleu.json"), "utf8"))

const words = (text: string) => text.split(" ")

describe("BLEU", () => {
  test("by hand: the cat is on the mat, against there is a cat on the mat", () => {
    // p1: the (1 of 2: the reference has one), cat, is, on, mat: 5/6. p2: of (the cat, cat is, is on, on the, the mat)
    // on the, the mat: 2/5. p3: on the mat: 1/4. p4: none of 3: 0.1/3. c = 6 < r = 7: BP = exp(1 - 7/6).
    const value = sentenceBleu(words("the cat is on the mat"), [words("there is a cat on the mat")])
    expect(value).toBeCloseTo(Math.exp(1 - 7 / 6) * ((5 / 6) * (2 / 5) * (1 / 4) * (0.1 / 3)) ** 0.25, 14)
  })

  test("of equal distances the shorter reference counts", () => {
    // c = 5; references of 4 and 6 words: r = 4, no penalty.
    const value = sentenceBleu(words("a b c d e"), [words("a b c d"), words("a b c d e f")])
    expect(value).toBe(1)
  })

  test("agrees with NLTK", () => {
    for (const { hypothesis, references, value } of golden.bleu)
      expect(sentenceBleu(hypothesis, references)).toBeCloseTo(value, 12)
    for (const { outputs, value } of golden.selfBleu) expect(selfBleu(outputs)).toBeCloseTo(value, 12)
  })

  test("nothing said, nothing to compare with, no word in common: 0", () => {
    expect(sentenceBleu([], [["a"]])).toBe(0)
    expect(sentenceBleu(["a"], [])).toBe(0)
    expect(sentenceBleu(["a"], [["b"]])).toBe(0)
    expect(selfBleu([])).toBe(0)
    expect(selfBleu([["a"]])).toBe(0)
  })

  test("Self-BLEU lies in [0, 1], does not depend on the order, and is 1 for long equal outputs", () => {
    const outputs = fc.array(fc.array(fc.constantFrom("a", "b", "c", "d"), { maxLength: 8 }), { maxLength: 6 })
    fc.assert(
      fc.property(outputs, (texts) => {
        const value = selfBleu(texts)
        expect(value).toBeGreaterThanOrEqual(0)
        expect(value).toBeLessThanOrEqual(1 + 1e-12)
        expect(selfBleu(texts.toReversed())).toBeCloseTo(value, 12)
      })
    )
    expect(selfBleu([words("a b c d e"), words("a b c d e")])).toBeCloseTo(1, 14)
  })
})
