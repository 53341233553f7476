import fc from "fast-check"
import { describe, expect, test } from "vitest"
import {
  parseAnswer,
  perspectiveName,
  splitPerspectives,
  stripPerspective,
  writeAnswer
} from "../../src/rewards/grammar.ts"

const lines = ["In the perspective of Justice, it is fair.", "From the perspective of Duty of care, one must help."]

describe("grammar", () => {
  test("reads the strict form", () => {
    const answer = parseAnswer(writeAnswer(lines, "Both justice and a duty of care speak for it."))
    expect(answer.strict).toBe(true)
    expect(answer.candidates).toEqual(lines)
    expect(answer.summary).toBe("Both justice and a duty of care speak for it.")
    expect(answer.candidates.map(perspectiveName)).toEqual(["Justice", "Duty of care"])
    expect(answer.candidates.map(stripPerspective)).toEqual(["it is fair.", "one must help."])
  })

  test("tags in any case, white space around blocks and inside the tag", () => {
    expect(parseAnswer("  <CORE\n perspectives> a </Core Perspectives>\n\n<Summary>b</summary> \n").strict).toBe(true)
  })

  test.each([
    ["no tags", lines.join("\n")],
    ["an empty core", "<core perspectives> </core perspectives><summary>b</summary>"],
    ["an empty summary", "<core perspectives>a</core perspectives><summary> </summary>"],
    ["text before", "Well: <core perspectives>a</core perspectives><summary>b</summary>"],
    ["text after", "<core perspectives>a</core perspectives><summary>b</summary> ok?"],
    ["text between", "<core perspectives>a</core perspectives> so <summary>b</summary>"],
    ["the wrong order", "<summary>b</summary><core perspectives>a</core perspectives>"],
    ["a missing end", "<core perspectives>a</core perspectives><summary>b"],
    ["nothing", ""]
  ])("is not strict with %s", (_, text) => {
    const answer = parseAnswer(text)
    expect(answer.strict).toBe(false)
    expect(answer.core).toBe(text.trim())
  })

  test("two core blocks pass the authors' form, not the one that counts tags", () => {
    const text = "<core perspectives>a</core perspectives><core perspectives>b</core perspectives><summary>c</summary>"
    expect(parseAnswer(text).strict).toBe(true)
    expect(parseAnswer(text, { tagsOnce: true }).strict).toBe(false)
  })

  test("without form the whole text is read; text without perspectives is one candidate", () => {
    expect(parseAnswer("I think so.").candidates).toEqual(["I think so."])
    expect(parseAnswer(`Well.\n${lines.join("\n")}`).candidates).toEqual(["Well.", ...lines])
    expect(parseAnswer("").candidates).toEqual([])
  })

  test("splits at line starts only, in any case", () => {
    expect(
      splitPerspectives("in the perspective of a, b in the perspective of c, d\nIN THE PERSPECTIVE OF e, f")
    ).toEqual(["in the perspective of a, b in the perspective of c, d", "IN THE PERSPECTIVE OF e, f"])
  })

  test("the format part's blocks are found anywhere, else the whole text", () => {
    const answer = parseAnswer("Sure! <core perspectives> a </core perspectives> and <summary> b </summary> bye")
    expect([answer.looseCore, answer.looseSummary, answer.summary]).toEqual(["a", "b", "b"])
    const bare = parseAnswer(" a b ")
    expect([bare.looseCore, bare.looseSummary, bare.summary]).toEqual(["a b", "a b", null])
  })

  test("a name ends at a comma, a full stop or the line's end; a prefix needs its comma", () => {
    expect(perspectiveName("In the perspective of Care. It helps")).toBe("Care")
    expect(perspectiveName("No perspective here")).toBeNull()
    expect(perspectiveName("So, in the perspective of care, yes")).toBe("care")
    expect(stripPerspective("In the perspective of Care it helps")).toBe("In the perspective of Care it helps")
  })

  test("writing then reading is the identity", () => {
    const word = fc.stringMatching(/^[a-z]{1,8}$/)
    fc.assert(
      fc.property(fc.array(fc.tuple(word, word), { minLength: 1, maxLength: 8 }), word, (pairs, summary) => {
        const written = pairs.map(([name, explanation]) => `In the perspective of ${name}, ${explanation}`)
        const answer = parseAnswer(writeAnswer(written, summary), { tagsOnce: true })
        expect(answer.strict).toBe(true)
        expect(answer.candidates).toEqual(written)
        expect(answer.candidates.map(perspectiveName)).toEqual(pairs.map(([name]) => name))
        expect(answer.candidates.map(stripPerspective)).toEqual(pairs.map(([, explanation]) => explanation))
        expect(answer.summary).toBe(summary)
      })
    )
  })
})
