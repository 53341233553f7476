import { beforeAll, describe, expect, test } from "vitest"
import { makeChecker } from "../../src/world/exact.ts"
import { approval, makeGroups } from "../../src/world/groups.ts"
import { optionQuestion } from "../../src/world/options.ts"
import { preferencePair } from "../../src/world/preferences.ts"
import { defaultSettings } from "../../src/world/settings.ts"
import { defaultSlateSettings, loggedSlate } from "../../src/world/slates.ts"
import { makeWorld, type World } from "../../src/world/world.ts"

let world: World
beforeAll(() => {
  world = makeWorld({ ...defaultSettings, train: 300, development: 20, test: 20 })
})
const indices = (count: number) => Array.from({ length: count }, (_, k) => k)
const mean = (values: ReadonlyArray<number>) => values.reduce((sum, value) => sum + value, 0) / values.length

describe("groups", () => {
  test("shares sum to 1; people approve more of what is true", () => {
    const groups = makeGroups(world)
    expect(groups.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1, 12)
    for (const situation of world.splits.train.slice(0, 50)) {
      const [item] = situation.window
      const flipped = { ...item!, stance: item!.stance === 1 ? (-1 as const) : (1 as const) }
      expect(approval(groups, [item!], situation)).toBeGreaterThan(approval(groups, [flipped], situation))
    }
  })
})

describe("logged slates", () => {
  const slates = () => indices(300).map((index) => loggedSlate(world, 1, index))

  test("both policies are distributions over the pool; the target is worth more", () => {
    for (const { pool, value, responses } of slates().slice(0, 100)) {
      expect(pool.reduce((sum, answer) => sum + answer.behaviour, 0)).toBeCloseTo(1, 12)
      expect(pool.reduce((sum, answer) => sum + answer.target, 0)).toBeCloseTo(1, 12)
      for (const response of responses) {
        expect(response.text).toBe(pool[response.answer]!.text)
        expect(response.behaviourLogprob).toBeCloseTo(Math.log(pool[response.answer]!.behaviour), 12)
      }
      expect(value.target).toBeLessThanOrEqual(Math.max(...pool.map((answer) => answer.approval)))
    }
    expect(mean(slates().map(({ value }) => value.target - value.behaviour))).toBeGreaterThan(0.05)
  })

  test("mostLines bounds an answer's lines, each number as likely", () => {
    const lines = (mostLines?: number) =>
      indices(100).flatMap((index) =>
        loggedSlate(world, 1, index, {
          ...defaultSlateSettings,
          ...(mostLines === undefined ? {} : { mostLines })
        }).pool.map(({ items }) => items.length)
      )
    expect(new Set(lines(1))).toEqual(new Set([1]))
    expect(lines(2)).toEqual(lines())
    expect(mean(lines(3))).toBeGreaterThan(1.9)
    expect(mean(lines(3))).toBeLessThan(2.1)
    expect(new Set(lines(3))).toEqual(new Set([1, 2, 3]))
  })

  test("with full overlap the policies are equal", () => {
    for (const index of indices(20)) {
      const { pool, value } = loggedSlate(world, 1, index, { ...defaultSlateSettings, overlap: 1 })
      for (const answer of pool) expect(answer.target).toBeCloseTo(answer.behaviour, 12)
      expect(value.target).toBeCloseTo(value.behaviour, 12)
    }
  })

  test("importance weighting the first position's votes recovers the target's value", () => {
    // Position 0 is always looked at, so votes / voters has mean approval, and w = pi / pi_0 makes it the target's.
    const rows = indices(3000).map((index) => {
      const { responses, value } = loggedSlate(world, 2, index)
      const [first] = responses
      const weight = Math.exp(first!.targetLogprob - first!.behaviourLogprob)
      return { estimate: (weight * first!.votes) / defaultSlateSettings.voters, truth: value.target }
    })
    expect(Math.abs(mean(rows.map(({ estimate }) => estimate)) - mean(rows.map(({ truth }) => truth)))).toBeLessThan(
      0.03
    )
  })

  test("position bias: later positions get fewer votes, without it as many", () => {
    const votes = (positionBias: number) => {
      const logged = indices(300).map((index) =>
        loggedSlate(world, 1, index, { ...defaultSlateSettings, positionBias })
      )
      return indices(4).map((position) => mean(logged.map(({ responses }) => responses[position]!.votes)))
    }
    const biased = votes(0.6)
    expect(biased[3]! / biased[0]!).toBeLessThan(0.35)
    expect(votes(1)[3]! / votes(1)[0]!).toBeGreaterThan(0.9)
  })

  test("are a pure function of seed and index", () => {
    expect(loggedSlate(world, 1, 5)).toEqual(loggedSlate(world, 1, 5))
    expect(loggedSlate(world, 2, 5).responses).not.toEqual(loggedSlate(world, 1, 5).responses)
  })
})

describe("preference pairs", () => {
  test("the chosen answer is the better one but for the judge's errors; worth is exact F1", () => {
    const checker = makeChecker(world)
    const rows = indices(600).map((index) => preferencePair(world, 1, index))
    const wrong = rows.filter(({ worth }) => worth.chosen < worth.rejected).length / rows.length
    expect(Math.abs(wrong - 0.075)).toBeLessThan(0.035)
    rows.slice(0, 100).forEach(({ chosen, worth, prompt }, index) => {
      const situation = world.splits.train[index]!
      expect(prompt).toBe(situation.prompt)
      expect(checker.score(chosen, situation, situation).f1).toBeCloseTo(worth.chosen, 12)
    })
    expect(
      indices(50).every((k) => {
        const { worth } = preferencePair(world, 1, k, { errorRate: 0 })
        return worth.chosen > worth.rejected
      })
    ).toBe(true)
  })
})

describe("option distributions", () => {
  test("are distributions over names of the window, other for other groups", () => {
    const question = optionQuestion(world, 1, 3)
    expect(question.goldDistribution.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 12)
    const names = world.splits.test[3]!.window.map(({ perspective }) => world.perspectives[perspective]!.name)
    expect(question.options).toHaveLength(4)
    expect(question.options.every((name) => names.includes(name))).toBe(true)
    const other = optionQuestion(world, 1, 23)
    expect([other.question, other.options]).toEqual([question.question, question.options])
    expect(other.attribute).not.toBe(question.attribute)
    expect(other.goldDistribution).not.toEqual(question.goldDistribution)
  })
})
