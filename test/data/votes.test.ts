import { describe, expect, test } from "vitest"
import type { LoggedSlate } from "../../src/data/records.ts"
import { lessonsOf, lessonsOfPair, rankedResponses } from "../../src/data/votes.ts"

const slate = (...responses: ReadonlyArray<[string, number?, number?]>): LoggedSlate => ({
  id: "s",
  promptId: "p",
  prompt: "Sky?",
  responses: responses.map(([text, votes, exposure]) => ({
    text,
    ...(votes === undefined ? {} : { votes }),
    ...(exposure === undefined ? {} : { exposure })
  })) as never
})
const options = { by: "votes", most: 4, leastMargin: 0 } as const

describe("a slate with votes", () => {
  test("gives top against bottom, a ranking, judgements against its mean, and demonstrations", () => {
    // votes 1, 5, 2: mean 8/3, so only b is desirable
    expect(lessonsOf(slate(["a", 1], ["b", 5], ["c", 2]), options)).toEqual({
      pair: { id: "s", prompt: "Sky?", chosen: "b", rejected: "a", margin: 4 },
      ranked: {
        id: "s",
        prompt: "Sky?",
        answers: [
          { text: "b", relevance: 5 },
          { text: "c", relevance: 2 },
          { text: "a", relevance: 1 }
        ]
      },
      unpaired: [
        { id: "s/0", prompt: "Sky?", completion: "b", label: true },
        { id: "s/1", prompt: "Sky?", completion: "c", label: false },
        { id: "s/2", prompt: "Sky?", completion: "a", label: false }
      ],
      top: { id: "s", prompt: "Sky?", completion: "b" },
      bottom: { id: "s", prompt: "Sky?", completion: "a" }
    })
  })

  test("by rate: votes by exposure turn the order over; responses without either are left out", () => {
    const responses = slate(["a", 4, 8], ["b", 3, 3], ["c", 9])
    expect(rankedResponses(responses, "rate")).toEqual([
      { text: "b", worth: 1 },
      { text: "a", worth: 0.5 }
    ])
    expect(rankedResponses(responses, "votes").map(({ text }) => text)).toEqual(["c", "a", "b"])
  })

  test("a text that is there twice counts once, by its best place; ties stay in the slate's order", () => {
    expect(rankedResponses(slate(["a", 1], ["b", 3], ["a", 4], ["c", 3]), "votes")).toEqual([
      { text: "a", worth: 4 },
      { text: "b", worth: 3 },
      { text: "c", worth: 3 }
    ])
  })

  test("of a long ranking the best are kept, and the worst", () => {
    const found = lessonsOf(slate(["a", 5], ["b", 4], ["c", 3], ["d", 1]), { ...options, most: 3 })
    expect(typeof found === "string" ? found : found.ranked.answers.map(({ text }) => text)).toEqual(["a", "b", "d"])
  })
})

test.each([
  ["no votes at all", slate(["a"], ["b"]), "unvoted"],
  ["one response", slate(["a", 3]), "alone"],
  ["one text, twice", slate(["a", 3], ["a", 1]), "alone"],
  ["one response with votes", slate(["a", 3], ["b"]), "alone"],
  ["all votes equal", slate(["a", 2], ["b", 2], ["c", 2]), "undecided"],
  ["all votes zero", slate(["a", 0], ["b", 0]), "undecided"]
])("%s: says nothing", (_, silent, why) => {
  expect(lessonsOf(silent, options)).toBe(why)
})

test("a margin that is too small says nothing", () => {
  expect(lessonsOf(slate(["a", 3], ["b", 2]), { ...options, leastMargin: 2 })).toBe("undecided")
})

test("a judged pair is a ranking of two with relevance 1 and 0, and two judgements", () => {
  const { ranked, unpaired } = lessonsOfPair({ id: "x", prompt: "p", chosen: "a", rejected: "b" })
  expect(ranked.answers.map(({ relevance }) => relevance)).toEqual([1, 0])
  expect(unpaired.map(({ label }) => label)).toEqual([true, false])
})
