import { beforeAll, describe, expect, test } from "vitest"
import { draws } from "../../src/world/draws.ts"
import { type Checker, harmonicMean, makeChecker, shuffledIndex } from "../../src/world/exact.ts"
import { say, writeWorldAnswer } from "../../src/world/language.ts"
import { families } from "../../src/world/lexicon.ts"
import { defaultSettings } from "../../src/world/settings.ts"
import { type Item, makeWorld, type World, type WorldSituation } from "../../src/world/world.ts"

let world: World
let checker: Checker
let situation: WorldSituation
let other: WorldSituation
beforeAll(() => {
  world = makeWorld({ ...defaultSettings, train: 200, development: 20, test: 20 })
  checker = makeChecker(world)
  // A window of exactly five, so that shares are fifths, and one that shares no item with it.
  situation = [...world.splits.train].find(({ window }) => window.length === 5)!
  const own = new Set(situation.window.map(({ perspective }) => perspective))
  other = world.splits.train.find(({ window }) => window.every(({ perspective }) => !own.has(perspective)))!
})

const random = () => draws(0, "test")
const flip = ({ perspective, stance }: Item): Item => ({ perspective, stance: stance === 1 ? -1 : 1 })
const answer = (items: ReadonlyArray<Item>) =>
  writeWorldAnswer(items.map((item) => say(world, "demonstrations", item, random())))

describe("the meaning of a line", () => {
  test("is found in every family's manner of every item", () => {
    const source = random()
    for (const family of families) {
      for (let perspective = 0; perspective < 64; perspective++) {
        for (const stance of [1, -1] as const) {
          const item = { perspective, stance }
          expect(checker.meaning(say(world, family, item, source).text)).toEqual(item)
        }
      }
    }
  })

  test.each([
    ["another name", "In the perspective of Justice , indeed supports compassion1 compassion2"],
    ["words of two perspectives", "In the perspective of Compassion , indeed supports compassion1 kindness1"],
    ["one content word", "In the perspective of Compassion , indeed supports compassion1 indeed"],
    ["both stances", "In the perspective of Compassion , opposes supports compassion1 compassion2"],
    ["no stance", "In the perspective of Compassion , indeed indeed compassion1 compassion2"],
    ["no comma", "In the perspective of Compassion indeed supports compassion1 compassion2"],
    ["no name", "In the perspective of , indeed supports compassion1 compassion2"],
    ["too many words", `In the perspective of Compassion , supports compassion1 compassion2${" indeed".repeat(5)}`],
    ["no phrase", "Compassion , indeed supports compassion1 compassion2"],
    ["nothing", ""]
  ])("is none with %s", (_, line) => {
    expect(checker.meaning(line)).toBeNull()
  })

  test("a word of the cluster counts for each of its perspectives", () => {
    expect(checker.meaning("In the perspective of Compassion , indeed supports caring1 compassion2")).toEqual({
      perspective: 0,
      stance: 1
    })
    expect(checker.meaning("In the perspective of Kindness , indeed opposes kindness1 caring1")).toEqual({
      perspective: 1,
      stance: -1
    })
  })
})

describe("exact scores", () => {
  test("the whole window, in order", () => {
    expect(checker.score(answer(situation.window), situation, other)).toEqual({
      coverage: 1,
      atM: 1,
      precision: 1,
      uniqueness: 1,
      f1: 1,
      lines: 5,
      strict: 1,
      shuffled: 0
    })
  })

  test("repetitions, flips and strangers, by hand", () => {
    // Lines: w0, w0, flip of w1, stranger, w2, w3, w4. True: 5 of 7 (w0 twice), distinct 4 of M = 5.
    // First five lines: w0, w0, -, -, w2: 2 of 5. Coverage 4/5, uniqueness 4/7, F1 = 2 * .8 * (4/7) / (.8 + 4/7) = 2/3.
    const [w0, w1, w2, w3, w4] = situation.window as [Item, Item, Item, Item, Item]
    const stranger = other.window[0]!
    const scores = checker.score(answer([w0, w0, flip(w1), stranger, w2, w3, w4]), situation, other)
    expect(scores.coverage).toBe(0.8)
    expect(scores.precision).toBeCloseTo(5 / 7, 12)
    expect(scores.uniqueness).toBeCloseTo(4 / 7, 12)
    expect(scores.f1).toBeCloseTo(2 / 3, 12)
    expect(scores.atM).toBe(0.4)
    expect(scores.lines).toBe(7)
    expect(scores.shuffled).toBeCloseTo(1 / other.window.length, 12)
  })

  test("a truncated answer is read as far as it goes and is not strict", () => {
    const whole = answer(situation.window)
    const cut = whole.slice(0, whole.indexOf("</core perspectives>"))
    expect(checker.score(cut, situation, other)).toMatchObject({ coverage: 1, lines: 5, strict: 0 })
    const inside = whole.slice(0, whole.lastIndexOf("In the perspective of") + 30)
    expect(checker.score(inside, situation, other)).toMatchObject({ coverage: 0.8, lines: 5, strict: 0 })
    const noSummary = whole.slice(0, whole.indexOf("<summary>"))
    expect(checker.score(noSummary, situation, other)).toMatchObject({ coverage: 1, lines: 5, strict: 0 })
  })

  test("an empty answer scores 0 everywhere", () => {
    expect(checker.score("", situation, other)).toEqual({
      coverage: 0,
      atM: 0,
      precision: 0,
      uniqueness: 0,
      f1: 0,
      lines: 0,
      strict: 0,
      shuffled: 0
    })
  })

  test("the shuffled situation is never the own one, and every one is used once", () => {
    for (const count of [2, 3, 37, 38, 200]) {
      const order = Array.from({ length: count }, (_, k) => shuffledIndex(k, count))
      expect(order.every((to, from) => to !== from)).toBe(true)
      expect(new Set(order).size).toBe(count)
    }
    expect(harmonicMean(0, 0)).toBe(0)
  })
})
