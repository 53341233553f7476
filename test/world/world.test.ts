import fc from "fast-check"
import { beforeAll, describe, expect, test } from "vitest"
import { parseAnswer, perspectiveName, stripPerspective } from "../../src/rewards/grammar.ts"
import { keywords, maskKeywords } from "../../src/rewards/masking.ts"
import { bestConstant, coverageOf } from "../../src/world/constant.ts"
import { demonstrate, demonstrationRow } from "../../src/world/demonstrations.ts"
import { families, perspectiveNameOf } from "../../src/world/lexicon.ts"
import { references, situationRecord } from "../../src/world/records.ts"
import { defaultSettings } from "../../src/world/settings.ts"
import { specialTokens, worldTokenizer } from "../../src/world/vocabulary.ts"
import { makeWorld, type World } from "../../src/world/world.ts"

const mean = (values: ReadonlyArray<number>) => values.reduce((sum, value) => sum + value, 0) / values.length

let world: World
beforeAll(() => {
  world = makeWorld(defaultSettings)
})

describe("situations", () => {
  test("3,000 / 200 / 200, windows of 5 to 10 different perspectives, every perspective in use", () => {
    const { train, development, test: held } = world.splits
    expect([train.length, development.length, held.length]).toEqual([3000, 200, 200])
    for (const { window } of [...train, ...development, ...held]) {
      expect(window.length).toBeGreaterThanOrEqual(5)
      expect(window.length).toBeLessThanOrEqual(10)
      expect(new Set(window.map(({ perspective }) => perspective)).size).toBe(window.length)
    }
    expect(new Set(train.flatMap(({ window }) => window.map(({ perspective }) => perspective))).size).toBe(64)
  })

  test("splits share no situation, no prompt, and held-out ones no (action, object) pair with training", () => {
    const { train, development, test: held } = world.splits
    const pair = ({ values }: { readonly values: ReadonlyArray<number> }) => `${values[1]}/${values[2]}`
    const trained = new Set(train.map(pair))
    expect([...development, ...held].filter((situation) => trained.has(pair(situation)))).toEqual([])
    const every = [...train, ...development, ...held]
    expect(new Set(every.map(({ values }) => values.join())).size).toBe(every.length)
    expect(new Set(every.map(({ id }) => id)).size).toBe(every.length)
    const prompts = new Set(train.map(({ prompt }) => prompt))
    expect([...development, ...held].filter(({ prompt }) => prompts.has(prompt))).toEqual([])
  })

  test("both stances occur, for one perspective in different situations", () => {
    const stances = new Map<number, Set<number>>()
    for (const { window } of world.splits.train) {
      for (const { perspective, stance } of window)
        stances.set(perspective, (stances.get(perspective) ?? new Set()).add(stance))
    }
    expect([...stances.values()].filter((both) => both.size === 2).length).toBeGreaterThan(48)
  })

  test("popularity is Zipf's: the k-th share is the first over k", () => {
    const shares = world.perspectives.map(({ popularity }) => popularity).toSorted((a, b) => b - a)
    expect(shares.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 12)
    shares.forEach((share, k) => {
      expect(share * (k + 1)).toBeCloseTo(shares[0]!, 12)
    })
  })

  test("the best constant answer covers little of the test windows", () => {
    for (const seed of [0, 1, 2]) {
      const made = seed === 0 ? world : makeWorld({ ...defaultSettings, seed })
      const lines = bestConstant(made)
      expect(lines).toHaveLength(7)
      const covered = mean(made.splits.test.map((situation) => coverageOf(lines, situation)))
      expect(covered).toBeLessThanOrEqual(0.3)
      expect(covered).toBeGreaterThan(0.1)
    }
  })

  test("no other set of lines does better in training than the best constant answer", () => {
    const best = bestConstant(world, 3)
    const value = (lines: typeof best) => mean(world.splits.train.map((situation) => coverageOf(lines, situation)))
    const top = value(best)
    const candidates = bestConstant(world, 12)
    fc.assert(
      fc.property(fc.subarray([...candidates], { minLength: 3, maxLength: 3 }), (lines) => {
        expect(value(lines)).toBeLessThanOrEqual(top + 1e-12)
      }),
      { numRuns: 40 }
    )
  })

  test("settings that leave too little are refused with the remedy", () => {
    expect(() => makeWorld({ ...defaultSettings, test: 40_000 })).toThrow(
      /for "test" and 40000 are asked for; ask for fewer/
    )
    expect(() => makeWorld({ ...defaultSettings, ownWords: 1, sharedWords: 1 })).toThrow(/raise `ownWords`/)
  })

  test("equal settings make equal worlds, other seeds others", () => {
    const small = { ...defaultSettings, train: 50, development: 5, test: 5 }
    const [a, b, c] = [makeWorld(small), makeWorld(small), makeWorld({ ...small, seed: 1 })]
    expect(b.splits).toEqual(a.splits)
    expect(b.perspectives).toEqual(a.perspectives)
    expect(c.splits.train).not.toEqual(a.splits.train)
  })
})

describe("words", () => {
  test("484 different tokens, letters and digits only beside the special ones; no name within another", () => {
    const { tokens, special } = world.vocabulary
    expect(tokens).toHaveLength(484)
    expect(new Set(tokens).size).toBe(484)
    expect(special.pad).toBe(0)
    const words = tokens.slice(Object.keys(specialTokens).length)
    expect(words.filter((word) => !/^[A-Za-z0-9]+$/.test(word))).toEqual([])
    const names = world.perspectives.map(({ name }) => name.toLowerCase())
    expect(names.filter((name) => names.some((other) => other !== name && other.includes(name)))).toEqual([])
    expect(perspectiveNameOf(64)).toBe("Value65")
  })

  test("masking by any prompt leaves every content word whole", () => {
    const { perspectives, splits } = world
    const masks = new Set(splits.train.flatMap(({ prompt }) => [...keywords(prompt)]))
    expect(masks.size).toBe(112)
    for (const { words } of perspectives) expect(maskKeywords(words.join(" "), masks)).toBe(words.join(" "))
  })

  test("decoding then encoding is the identity on ids, encoding then decoding on answers", () => {
    const { vocabulary } = world
    const { pad, begin, separator, end } = vocabulary.special
    const ids = fc
      .integer({ min: 0, max: vocabulary.tokens.length - 1 })
      .filter((id) => ![pad, begin, separator, end].includes(id))
    fc.assert(
      fc.property(fc.array(ids, { maxLength: 30 }), (sequence) => {
        expect(vocabulary.encode(vocabulary.decode(sequence))).toEqual(sequence)
      })
    )
    const { completion } = demonstrationRow(world, 3, 5)
    expect(vocabulary.decode(vocabulary.encode(completion))).toBe(completion)
    expect(vocabulary.decode([begin, 20, pad, end, 21])).toBe(vocabulary.tokens[20])
    expect(vocabulary.encode("never heard")).toEqual([vocabulary.special.unknown, vocabulary.special.unknown])
  })

  test("the tokenizer's specification lists the same tokens in the same order", () => {
    const { phrases, words, roles } = worldTokenizer(world.settings)
    expect([...phrases.map(({ text }) => text), ...words]).toEqual(world.vocabulary.tokens)
    expect(roles.eos_token).toBe("<eos>")
  })

  test("families share no filler and no word pair of a perspective", () => {
    for (const { pairs } of world.perspectives) {
      const every = families.flatMap((family) => pairs[family].map((pair) => pair.join()))
      expect(new Set(every).size).toBe(10)
      expect(every).toHaveLength(10)
    }
  })
})

describe("demonstrations", () => {
  test("are in the strict form, read by the grammar of real text, true, and at most 72 tokens", () => {
    for (let index = 0; index < 400; index++) {
      const { prompt, completion } = demonstrationRow(world, 1, index)
      const situation = world.splits.train[index]!
      expect(prompt).toBe(situation.prompt)
      const answer = parseAnswer(completion, { tagsOnce: true })
      expect(answer.strict).toBe(true)
      const names = answer.candidates.map(perspectiveName)
      expect(answer.summary).toBe(names.join(" "))
      expect(answer.candidates.map((line) => stripPerspective(line).split(" ").length)).toEqual(names.map(() => 4))
      const window = new Set(situation.window.map(({ perspective }) => world.perspectives[perspective]!.name))
      expect(names.every((name) => name !== null && window.has(name))).toBe(true)
      expect(world.vocabulary.encode(completion).length + 1).toBeLessThanOrEqual(72)
    }
  })

  test("are 2 to 4 lines with a thin tail up to 7, and favour the popular", () => {
    const counts = new Array<number>(8).fill(0)
    const popularity: Array<number> = []
    const windows: Array<number> = []
    const shareOf = new Map(world.perspectives.map(({ name, popularity: share }) => [name, share]))
    for (let index = 0; index < 3000; index++) {
      const { candidates } = parseAnswer(demonstrationRow(world, 1, index).completion)
      counts[candidates.length]!++
      popularity.push(mean(candidates.map((line) => shareOf.get(perspectiveName(line)!)!)))
      windows.push(
        mean(world.splits.train[index]!.window.map((item) => world.perspectives[item.perspective]!.popularity))
      )
    }
    expect(counts.slice(0, 2)).toEqual([0, 0])
    // 93 % in three equal parts, then 4, 2 and 1 %; 3,000 rows: standard deviations of 25, 11, 8 and 5.
    for (const k of [2, 3, 4]) expect(Math.abs(counts[k]! - 930)).toBeLessThan(100)
    expect(Math.abs(counts[5]! - 120)).toBeLessThan(45)
    expect(Math.abs(counts[6]! - 60)).toBeLessThan(32)
    expect(Math.abs(counts[7]! - 30)).toBeLessThan(22)
    expect(mean(popularity)).toBeGreaterThan(1.2 * mean(windows))
  })

  test("are a pure function of seed and index; another pass or seed says something else", () => {
    const row = demonstrationRow(world, 1, 17)
    demonstrationRow(world, 1, 3)
    expect(demonstrationRow(world, 1, 17)).toEqual(row)
    expect(demonstrationRow(world, 1, 3017).prompt).toBe(row.prompt)
    expect(demonstrationRow(world, 1, 3017).completion).not.toBe(row.completion)
    expect(demonstrationRow(world, 2, 17).completion).not.toBe(row.completion)
  })

  test("full demonstrations take up to seven lines of the window", () => {
    const full: World = { ...world, settings: { ...world.settings, demonstrations: "full" } }
    for (const situation of world.splits.train.slice(0, 50)) {
      const { candidates } = parseAnswer(demonstrate(full, 1, situation, 0))
      expect(candidates).toHaveLength(Math.min(7, situation.window.length))
      expect(new Set(candidates.map(perspectiveName)).size).toBe(candidates.length)
    }
  })
})

describe("records", () => {
  test("references say the window, in a family by split, the same at every call", () => {
    const situation = world.splits.test[0]!
    const record = situationRecord(world, situation)
    expect(record).toEqual(situationRecord(world, situation))
    expect(record.perspectives).toHaveLength(situation.window.length)
    expect(record.perspectives.map(({ text }) => text)).toEqual(
      references(world, situation, "evaluation").map(({ text }) => text)
    )
    expect(record.perspectives[0].text).toBe(
      `In the perspective of ${record.perspectives[0].name} , ${record.perspectives[0].explanation}`
    )
    const trained = situationRecord(world, world.splits.train[0]!)
    expect(trained.perspectives.map(({ text }) => text)).toEqual(
      references(world, world.splits.train[0]!, "triplets").map(({ text }) => text)
    )
  })
})

describe("what demonstrations dwell on, and whether they have form", () => {
  const situationsOf = (skew: number, formed = 1) => {
    const other = makeWorld({ ...defaultSettings, skew, train: 300 })
    return other.splits.train.map((situation) => ({ situation, text: demonstrate(other, 0, situation, 0, formed) }))
  }
  /** Share of windows whose most popular perspective stands in the demonstration. */
  const dwelling = (skew: number) =>
    mean(
      situationsOf(skew).map(({ situation, text }) => {
        const first = situation.window.reduce((a, b) =>
          world.perspectives[b.perspective]!.popularity > world.perspectives[a.perspective]!.popularity ? b : a
        )
        return text.includes(perspectiveNameOf(first.perspective)) ? 1 : 0
      })
    )

  test("by how much: of about eight perspectives and three lines, three eighths hold the most popular at 0, nearly all at 3", () => {
    const [flat, people, narrow] = [dwelling(0), dwelling(1), dwelling(3)]
    expect(flat).toBeGreaterThan(0.3)
    expect(flat).toBeLessThan(0.5)
    expect(people).toBeGreaterThan(flat + 0.1)
    expect(narrow).toBeGreaterThan(0.9)
  })

  test("without form they are the same lines, and no strict answer", () => {
    const formed = situationsOf(1)
    const plain = situationsOf(1, 0)
    const half = situationsOf(1, 0.5).filter(({ text }) => parseAnswer(text).strict).length
    plain.forEach(({ text }, k) => {
      expect(parseAnswer(text).strict).toBe(false)
      expect(text.split("\n").join("|")).toBe(parseAnswer(formed[k]!.text).candidates.join("|"))
    })
    expect(half).toBeGreaterThan(120)
    expect(half).toBeLessThan(180)
  })
})
