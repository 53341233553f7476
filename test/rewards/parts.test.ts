import { Schema } from "effect"
import { describe, expect, test } from "vitest"
import { coverage, coverageRate } from "../../src/rewards/coverage.ts"
import { format, formatScore } from "../../src/rewards/format.ts"
import { parseAnswer, writeAnswer } from "../../src/rewards/grammar.ts"
import { keywords, maskKeywords } from "../../src/rewards/masking.ts"
import type { Rows } from "../../src/rewards/matching.ts"
import type { RewardInput } from "../../src/rewards/part.ts"
import { type Profile, profiles } from "../../src/rewards/profile.ts"
import { coverageLadder, shapeCoverage, shapeUniqueness, uniquenessLadder } from "../../src/rewards/shaping.ts"
import { tag } from "../../src/rewards/tag.ts"
import { candidateTexts, referenceTexts } from "../../src/rewards/texts.ts"
import { scoreParts, totalReward } from "../../src/rewards/total.ts"
import { uniqueness, uniquenessRate } from "../../src/rewards/uniqueness.ts"

const parts = [coverage, uniqueness, format, tag] as const
const params = {
  coverage: { ...coverage.defaults, threshold: 0.7 },
  uniqueness: { ...uniqueness.defaults, threshold: 0.78 },
  format: format.defaults,
  tag: tag.defaults
}

/** One-hot rows: equal indices have cosine 1, others 0. */
const oneHot = (indices: ReadonlyArray<number>, width = 16): Rows => ({
  rows: indices.length,
  width,
  data: indices.flatMap((index) => Array.from({ length: width }, (_, k) => (k === index ? 1 : 0)))
})

const input = (
  text: string,
  references: ReadonlyArray<number>,
  candidates: ReadonlyArray<number>,
  profile: Profile = "paper"
): RewardInput => ({
  prompt: { situation: "helping a stranger", chat: "helping a stranger" },
  answer: parseAnswer(text, { tagsOnce: profiles[profile].tags === "once" }),
  references: references.map((k) => `In the perspective of Name${k}, text`),
  referenceEmbeddings: oneHot(references),
  candidateEmbeddings: oneHot(candidates),
  calibrated: { coverage: 0.5, uniqueness: 0.5 },
  options: profiles[profile]
})

const names = ["Justice", "Care", "Duty", "Freedom", "Faith"]
const answerOf = (list: ReadonlyArray<string>) =>
  writeAnswer(
    list.map((name) => `In the perspective of ${name}, because of ${name}.`),
    `It touches ${list.join(", ")}.`
  )

describe("ladders", () => {
  test("the authors' rungs", () => {
    expect([0, 0.1, 0.2, 0.4, 0.6, 0.8, 1].map(coverageLadder)).toEqual([0, 1, 2, 3, 4, 5, 5])
    expect([1, 0.9, 0.8, 0.7, 0.6].map(uniquenessLadder)).toEqual([1, 0.75, 0.4, 0.4, 0])
  })

  test("every quotient of small integers stands on the rung that exact arithmetic gives it", () => {
    for (let m = 1; m <= 21; m++) {
      for (let n = 0; n <= m; n++) {
        expect(coverageLadder(n / m)).toBe(n === 0 ? 0 : Math.min(5, Number((5n * BigInt(n)) / BigInt(m)) + 1))
        // u > 4/5 and u > 3/5 in integers.
        expect(uniquenessLadder(n / m)).toBe(n === m ? 1 : 5 * n > 4 * m ? 0.75 : 5 * n > 3 * m ? 0.4 : 0)
      }
    }
  })

  test("linear shaping has the ladders' range", () => {
    expect([shapeCoverage(0, "linear"), shapeCoverage(0.5, "linear"), shapeCoverage(1, "linear")]).toEqual([0, 2.5, 5])
    expect(shapeUniqueness(0.5, "linear")).toBe(0.5)
  })
})

describe("coverage", () => {
  test("is matched pairs over references, 0 with an empty side", () => {
    expect(coverageRate(oneHot([0, 1, 2, 3]), oneHot([1, 1, 3, 9]), 0.7, "greedy")).toEqual({ pairs: 2, rate: 0.5 })
    expect(coverageRate(oneHot([]), oneHot([1]), 0.7, "greedy").rate).toBe(0)
    expect(coverageRate(oneHot([1]), oneHot([]), 0.7, "greedy").rate).toBe(0)
  })

  test("reads its own threshold or the estimator's", () => {
    // cosine .6: over the calibrated .5, under .7
    const near: RewardInput = {
      ...input("x", [0], [0]),
      referenceEmbeddings: { rows: 1, width: 2, data: [1, 0] },
      candidateEmbeddings: { rows: 1, width: 2, data: [0.6, 0.8] }
    }
    expect(coverage.score(near, { weight: 1, shape: "ladder", threshold: 0.7 }).value).toBe(0)
    expect(coverage.score(near, coverage.defaults).value).toBe(5)
  })

  test("P3: surplus lines are free in the paper and cost under strict", () => {
    // 2 of 2 references matched by 2 of 8 candidates: rate 1; strict 2 * 2 / (2 + 8) = .4 -> rung 3
    const dump = [0, 1, 2, 3, 4, 5, 6, 7]
    expect(coverage.score(input("x", [0, 1], dump), params.coverage)).toEqual({ value: 5, rates: { coverage_rate: 1 } })
    expect(coverage.score(input("x", [0, 1], dump, "strict"), params.coverage)).toEqual({
      value: 3,
      rates: { coverage_rate: 0.4 }
    })
  })
})

describe("uniqueness", () => {
  test("the scan: what repeats an earlier, not redundant one", () => {
    expect(uniquenessRate(oneHot([0, 1, 0, 0, 2]), 0.78)).toBe(3 / 5)
    expect(uniquenessRate(oneHot([0, 0]), 0.78)).toBe(0.5)
    expect(uniquenessRate(oneHot([0]), 0.78)).toBe(1)
    expect(uniquenessRate(oneHot([]), 0.78)).toBe(1)
  })

  test("a redundant candidate makes nothing redundant", () => {
    // Unit vectors at 0, 30 and 60 degrees; cosines .866 between neighbours, .5 across. At .78 the first makes the
    // second redundant; the second, skipped, does not reach the third: 2/3. Without the skip it would be 1/3.
    const at = (degrees: number) => [Math.cos((degrees * Math.PI) / 180), Math.sin((degrees * Math.PI) / 180)]
    expect(uniquenessRate({ rows: 3, width: 2, data: [0, 30, 60].flatMap(at) }, 0.78)).toBe(2 / 3)
  })
})

describe("format", () => {
  const score = (text: string, rule: "substring" | "whole-word" = "substring") => formatScore(parseAnswer(text), rule)

  test("2 for named, distinct perspectives that the summary takes up", () => {
    expect(score(answerOf(names))).toBe(2)
  })

  test("half a point for every repeated line and every repeated name", () => {
    // Five lines, one repeated word for word: one sentence and one name too many: 2 - 1.
    expect(score(answerOf(["Justice", "Care", "Duty", "Freedom", "Justice"]))).toBe(1)
    // The same name with other words: the name only: 2 - .5.
    expect(score(writeAnswer(["In the perspective of Care, a", "In the perspective of care, b"], "Care."))).toBe(1.5)
  })

  test("the keyword term's steps: 4, 3, 2, 1, 0 of four names in the summary", () => {
    const four = ["Justice", "Care", "Duty", "Freedom"]
    const lines = four.map((name) => `In the perspective of ${name}, x`)
    const scores = [4, 3, 2, 1, 0].map((n) => score(writeAnswer(lines, `So: ${four.slice(0, n).join(" ")}.`)))
    expect(scores).toEqual([2, 2, 1.5, 1.25, 1])
  })

  test("1 for 30 % to 70 % named, 0 below and without candidates", () => {
    // Text before the first perspective is a candidate without a name: 1 of 2 named.
    const text = (body: string) => `<core perspectives>${body}</core perspectives><summary>Care</summary>`
    expect(score(text("Preamble.\nIn the perspective of Care, x"))).toBe(1)
    expect(score("No perspective at all.")).toBe(0)
    expect(score("")).toBe(0)
  })

  test("never negative", () => {
    expect(score(answerOf(Array.from({ length: 9 }, () => "Care")))).toBe(0)
  })

  test("P4: a substring counts in the paper, a whole word only under strict", () => {
    const text = writeAnswer(["In the perspective of Life, x"], "A question of lifestyle.")
    expect(score(text)).toBe(2)
    expect(score(text, "whole-word")).toBe(1)
    expect(score(writeAnswer(["In the perspective of Life, x"], "Of a lifelong life."), "whole-word")).toBe(2)
  })
})

describe("the whole reward", () => {
  test("a perfect answer has 2.0: .3 * 5 + .3 * 1 + .1 * 2", () => {
    const { reward, rows } = scoreParts(parts, params, input(answerOf(names), [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]))
    expect(reward).toBeCloseTo(2, 12)
    expect(rows).toEqual([
      { name: "coverage", value: 5, weight: 0.3 },
      { name: "uniqueness", value: 1, weight: 0.3 },
      { name: "format", value: 2, weight: 0.1 },
      { name: "tag", value: 0, weight: 1 },
      { name: "coverage_rate", value: 1, weight: 0 },
      { name: "uniqueness_rate", value: 1, weight: 0 }
    ])
  })

  test("P2: text without form that matches nothing has .3 - .2 = .1, and 0 under strict", () => {
    expect(scoreParts(parts, params, input("Nonsense.", [0, 1], [9])).reward).toBeCloseTo(0.1, 12)
    expect(scoreParts(parts, params, input("Nonsense.", [0, 1], [9], "strict")).reward).toBe(0)
  })

  test("is the clamped weighted sum of the rows, whatever the weights", () => {
    expect(totalReward([{ name: "tag", value: -0.2, weight: 1 }])).toBe(0)
    expect(totalReward([{ name: "a", value: 2, weight: 0 }])).toBe(0)
    expect(totalReward([])).toBe(0)
  })

  test("an unscorable part is left out; nothing scorable is NaN", () => {
    const nan = { name: "a", value: Number.NaN, weight: 1 }
    expect(totalReward([nan, { name: "b", value: 1, weight: 0.5 }])).toBe(0.5)
    expect(totalReward([nan, { name: "b", value: 1, weight: 0 }])).toBeNaN()
  })

  test("a part without parameters is refused by name", () => {
    expect(() => scoreParts(parts as never, {} as never, input("x", [0], [0]))).toThrow(/"coverage"/)
  })

  test("fields decode the defaults and refuse what they do not know", () => {
    const schema = Schema.Struct(coverage.fields)
    expect(Schema.decodeSync(schema)(coverage.defaults)).toEqual(coverage.defaults)
    const steep: unknown = { ...coverage.defaults, shape: "steep" }
    expect(() => Schema.decodeUnknownSync(schema)(steep)).toThrow()
    expect(parts.map(({ module }) => module.split("/").at(-1))).toEqual([
      "coverage.ts",
      "uniqueness.ts",
      "format.ts",
      "tag.ts"
    ])
  })
})

describe("masking", () => {
  test("keywords are the prompt's words without stop words", () => {
    expect([...keywords("Provide a structured analysis: buying a sleeping bag for someone, don't you?")]).toEqual([
      "provide",
      "structured",
      "analysis",
      "buying",
      "sleeping",
      "bag",
      "someone"
    ])
    expect([...keywords("snake_case is one token with an underscore")]).not.toContain("snake_case")
  })

  test("masking keeps words, drops punctuation, and is the identity without keywords", () => {
    expect(maskKeywords("Buying a bag, kindly, helps.", keywords("buying bags, a bag"))).toBe(
      "[KW] a [KW] kindly helps"
    )
    expect(maskKeywords("As it is, kept.", new Set())).toBe("As it is, kept.")
  })

  test("P1 and P6: what the estimator reads", () => {
    const prompt = { situation: "helping a stranger", chat: "system: comprehensive opinions. user: helping a stranger" }
    const line = "In the perspective of Care, helping is comprehensive."
    const answer = parseAnswer(writeAnswer([line], "Care."))
    const read = (profile: Profile) => [
      candidateTexts(answer, prompt, profiles[profile], "strip"),
      referenceTexts([line], prompt, profiles[profile], "strip")
    ]
    expect(read("paper")).toEqual([["In the perspective of Care [KW] is [KW]"], [line]])
    expect(read("strict")).toEqual([["[KW] is comprehensive"], ["[KW] is comprehensive"]])
    expect(candidateTexts(answer, prompt, profiles.strict, "keep")).toEqual([
      "In the perspective of Care [KW] is comprehensive"
    ])
  })
})
