import { beforeAll, describe, expect, test } from "vitest"
import { draws } from "../../src/world/draws.ts"
import { makeChecker } from "../../src/world/exact.ts"
import { judgeSame } from "../../src/world/judge.ts"
import { fillers } from "../../src/world/lexicon.ts"
import { nliPair, relation } from "../../src/world/nli.ts"
import { meaningOf } from "../../src/world/records.ts"
import { filteredAnswer, redundantAnswer } from "../../src/world/redundant.ts"
import { defaultSettings } from "../../src/world/settings.ts"
import { judgedPairs, triplet } from "../../src/world/triplets.ts"
import { makeWorld, sameItem, type World } from "../../src/world/world.ts"

let world: World
beforeAll(() => {
  world = makeWorld(defaultSettings)
})
const indices = (count: number) => Array.from({ length: count }, (_, k) => k)
const share = (flags: ReadonlyArray<boolean>) => flags.filter(Boolean).length / flags.length

describe("draws", () => {
  test("are those of their name, in order, and cover their range", () => {
    const [a, b] = [draws(1, "x", 2), draws(1, "x", 2)]
    expect(indices(20).map(() => a.integer(6))).toEqual(indices(20).map(() => b.integer(6)))
    const source = draws(0, "y")
    expect(new Set(indices(200).map(() => source.integer(6))).size).toBe(6)
    expect(source.shuffled(indices(30)).toSorted((x, y) => x - y)).toEqual(indices(30))
    const weighted = indices(2000).map(() => source.weighted([1, 0, 3]))
    expect(weighted).not.toContain(1)
    expect(Math.abs(share(weighted.map((k) => k === 2)) - 0.75)).toBeLessThan(0.05)
    expect(() => source.weighted([0, 0])).toThrow(RangeError)
  })
})

describe("triplets", () => {
  test("with a judge that never errs: positive same, negative different, all in the triplets' manner", () => {
    for (const index of indices(300)) {
      const { anchor, items, negative, positive } = triplet(world, 1, index, { prefix: "strip", errorRate: 0 })
      expect(sameItem(items[0], items[1])).toBe(true)
      expect(sameItem(items[0], items[2])).toBe(false)
      for (const text of [anchor, positive, negative]) {
        expect(text.startsWith("In the perspective")).toBe(false)
        expect(text.split(" ").filter((word) => fillers.triplets.includes(word))).toHaveLength(1)
      }
    }
  })

  test("most negatives are the stance flipped: the hardest there is", () => {
    const flips = indices(300).map((index) => {
      const { items } = triplet(world, 1, index, { prefix: "strip", errorRate: 0 })
      return items[0].perspective === items[2].perspective
    })
    expect(share(flips)).toBeGreaterThan(0.5)
  })

  test("a judge with errors spoils some, none too many; prefixes are kept where asked for", () => {
    const good = indices(1000).map((index) => {
      const { items } = triplet(world, 1, index, { prefix: "keep" })
      return sameItem(items[0], items[1]) && !sameItem(items[0], items[2])
    })
    expect(share(good)).toBeGreaterThan(0.8)
    expect(share(good)).toBeLessThan(0.95)
    expect(triplet(world, 1, 0, { prefix: "keep" }).anchor).toMatch(/^In the perspective of \w+ , /)
    expect(triplet(world, 1, 7, { prefix: "keep" })).toEqual(triplet(world, 1, 7, { prefix: "keep" }))
    expect(triplet(world, 2, 7, { prefix: "keep" })).not.toEqual(triplet(world, 1, 7, { prefix: "keep" }))
  })

  test("judged pairs: half the same, one flipped, in the two families' manners, judged with the stated error", () => {
    const rows = indices(500).flatMap((index) =>
      judgedPairs(world, 1, index, { prefix: "strip", families: ["triplets", "nli"] })
    )
    expect(share(rows.map(({ truth }) => truth))).toBe(0.5)
    expect(Math.abs(share(rows.map(({ same, truth }) => same !== truth)) - 0.075)).toBeLessThan(0.02)
    const uses = (text: string, words: ReadonlyArray<string>) => text.split(" ").some((word) => words.includes(word))
    expect(rows.every(({ left, right }) => uses(left, fillers.triplets) && uses(right, fillers.nli))).toBe(true)
  })

  test("the judge errs at its rate in both directions", () => {
    const random = draws(3, "judge")
    const [a, b] = [
      { perspective: 1, stance: 1 },
      { perspective: 1, stance: -1 }
    ] as const
    expect(judgeSame(a, a, 0, random)).toBe(true)
    expect(judgeSame(a, b, 0, random)).toBe(false)
    expect(Math.abs(share(indices(4000).map(() => judgeSame(a, b, 0.1, random))) - 0.1)).toBeLessThan(0.02)
    expect(Math.abs(share(indices(4000).map(() => judgeSame(a, a, 0.1, random))) - 0.9)).toBeLessThan(0.02)
  })
})

describe("NLI pairs", () => {
  test("labels in equal shares, true but for the stated error, in the NLI family's manner", () => {
    const checker = makeChecker(world)
    const rows = indices(1500).map((index) => nliPair(world, 1, index, { prefix: "keep" }))
    for (const label of ["entailment", "neutral", "contradiction"]) {
      expect(rows.filter(({ truth }) => truth === label)).toHaveLength(500)
    }
    expect(Math.abs(share(rows.map(({ label, truth }) => label !== truth)) - 0.075)).toBeLessThan(0.025)
    for (const { hypothesis, premise, truth } of rows) {
      const said = checker.meaning(hypothesis)!
      // The premise bears no name: it must say what the hypothesis says under exactly the names that fit.
      const fits = world.perspectives
        .map(({ name }) => checker.meaning(`In the perspective of ${name} , ${premise}`))
        .filter((item) => item !== null)
      expect(fits.some((item) => relation(item, said) === truth)).toBe(true)
      if (truth === "entailment") expect(fits.some((item) => sameItem(item, said))).toBe(true)
      expect(premise.split(" ").some((word) => fillers.nli.includes(word))).toBe(true)
    }
  })
})

describe("redundant and filtered answers", () => {
  test("OP-V1 says the window with repetitions; a sure judge's OP-V2 says each once", () => {
    const sure: World = { ...world, settings: { ...world.settings, judgeError: 0 } }
    const sizes = world.splits.train.slice(0, 200).map((situation) => {
      const redundant = redundantAnswer(world, 1, situation)
      const window = new Set(situation.window.map(meaningOf))
      expect(new Set(redundant.map(({ item }) => meaningOf(item)))).toEqual(window)
      const filtered = filteredAnswer(sure, 1, situation)
      expect(filtered).toHaveLength(window.size)
      expect(new Set(filtered.map(({ item }) => meaningOf(item)))).toEqual(window)
      return redundant.length / window.size
    })
    expect(Math.abs(sizes.reduce((sum, size) => sum + size, 0) / sizes.length - 1.5)).toBeLessThan(0.05)
  })

  test("a judge that errs leaves about as many repetitions as it overlooks", () => {
    const left = world.splits.train.slice(0, 400).map((situation) => {
      const filtered = filteredAnswer(world, 1, situation)
      return filtered.length - new Set(filtered.map(({ item }) => meaningOf(item))).size
    })
    // 400 windows of about 7.9, half of each said twice, 7.5 % overlooked: about .3 a situation
    const mean = left.reduce((sum, count) => sum + count, 0) / left.length
    expect(mean).toBeGreaterThan(0.2)
    expect(mean).toBeLessThan(0.4)
  })

  test("and takes a few neighbours that share a word for repetitions: their perspectives are lost", () => {
    const lost = world.splits.train.slice(0, 400).map((situation) => {
      const said = new Set(filteredAnswer(world, 1, situation).map(({ item }) => meaningOf(item)))
      return situation.window.length - said.size
    })
    const share = lost.reduce((sum, count) => sum + count, 0) / lost.length
    expect(share).toBeGreaterThan(0)
    expect(share).toBeLessThan(0.3)
  })
})
