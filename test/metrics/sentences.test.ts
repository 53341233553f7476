import { describe, expect, test } from "vitest"
import { splitCandidates, splitReferences, splitSentences } from "../../src/metrics/sentences.ts"

describe("OP-GRPO's splitting", () => {
  test("candidates are cut at every sentence mark, numbers of a list included", () => {
    expect(splitCandidates("One thing.  \n2. **Two**: yes? No! 好。3.5")).toEqual([
      "One thing",
      "2",
      "**Two**: yes",
      "No",
      "好",
      "3",
      "5"
    ])
    expect(splitCandidates("Said [1] so [23].")).toEqual(["Said\n so"])
    expect(splitCandidates(" . ")).toEqual([])
  })

  test("references are cut before every perspective, wherever it stands", () => {
    expect(
      splitReferences("In the perspective of A, x. From the perspective of B, y\nin the perspective of C, z")
    ).toEqual(["In the perspective of A, x.", "From the perspective of B, y", "in the perspective of C, z"])
  })
})

/** Expected sentences: the Python package `sentence_splitter` 1.4, `SentenceSplitter(language="en").split(text)`. */
describe("the Europarl splitter", () => {
  test.each([
    [
      'Dr. Smith went to Washington. He met Mr. J. Jones at 5 p.m. on Monday! Was it No. 7? "Yes." He left... Then he slept.',
      [
        "Dr. Smith went to Washington.",
        "He met Mr. J. Jones at 5 p.m. on Monday!",
        "Was it No. 7?",
        '"Yes."',
        "He left...",
        "Then he slept."
      ]
    ],
    [
      "It costs 3.50 dollars. 2 of them (in all.) Are here. e.g. this one vs. that one. The U.S. government acts.",
      [
        "It costs 3.50 dollars.",
        "2 of them (in all.)",
        "Are here. e.g. this one vs. that one.",
        "The U.S. government acts."
      ]
    ],
    [
      'In the perspective of Justice, it is fair. (See Art. 5.) "Why?" he asked. No. He did not.\nA new line here',
      [
        "In the perspective of Justice, it is fair.",
        "(See Art. 5.)",
        '"Why?" he asked.',
        "No.",
        "He did not.",
        "A new line here"
      ]
    ],
    [
      "¿Qué? ¡No! A. B. Smith et al. Said so. Wait?! Yes. 'Quoted.' 'Again.' End",
      ["¿Qué?", "¡No!", "A. B. Smith et al. Said so.", "Wait?!", "Yes.", "'Quoted.'", "'Again.'", "End"]
    ],
    ["", []]
  ])("%s", (text, sentences) => {
    expect(splitSentences(text)).toEqual(sentences)
  })
})
