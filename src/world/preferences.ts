/**
 * Preference pairs: two answers to a prompt, the better one chosen by a judge who goes by exact F1 of coverage and
 * uniqueness and errs at the stated rate. Answers are demonstrations, each spoilt with probability 1/2 (a line repeated,
 * its stance flipped, or replaced by a perspective from out of the window).
 */
import type { PreferencePair } from "../data/records.ts"
import { type Draws, draws } from "./draws.ts"
import { harmonicMean } from "./exact.ts"
import { say, writeWorldAnswer } from "./language.ts"
import { meaningOf } from "./records.ts"
import type { Item, World, WorldSituation } from "./world.ts"

const spoil = (world: World, items: ReadonlyArray<Item>, random: Draws): ReadonlyArray<Item> => {
  const at = random.integer(items.length)
  const spoilt = items[at]!
  const kind = random.integer(3)
  const other: Item =
    kind === 0
      ? items[(at + 1) % items.length]!
      : kind === 1
        ? { ...spoilt, stance: spoilt.stance === 1 ? -1 : 1 }
        : { ...spoilt, perspective: random.integer(world.perspectives.length) }
  return items.with(at, other)
}

const worth = (items: ReadonlyArray<Item>, situation: WorldSituation): number => {
  const window = new Set(situation.window.map(meaningOf))
  const distinct = new Set(items.map(meaningOf).filter((item) => window.has(item))).size
  return harmonicMean(distinct / window.size, distinct / items.length)
}

/** Pair `index` of an endless supply, training situations in turn: a pure function of seed and index. */
export const preferencePair = (
  world: World,
  seed: number,
  index: number,
  options: { readonly errorRate?: number } = {}
): PreferencePair & { readonly worth: { readonly chosen: number; readonly rejected: number } } => {
  const situations = world.splits.train
  const situation = situations[index % situations.length]!
  const random = draws(seed, "world", "preference", index)
  const { leastLines, usualLines, judgeError } = world.settings
  const answer = () => {
    const count = leastLines + random.integer(usualLines - leastLines + 1)
    const items = random.shuffled(situation.window).slice(0, count)
    const said = random.chance(0.5) ? spoil(world, items, random) : items
    return {
      worth: worth(said, situation),
      text: writeWorldAnswer(said.map((item) => say(world, "demonstrations", item, random)))
    }
  }
  let [a, b] = [answer(), answer()]
  while (a.worth === b.worth) [a, b] = [answer(), answer()]
  const right = !random.chance(options.errorRate ?? judgeError)
  const [chosen, rejected] = a.worth > b.worth === right ? [a, b] : [b, a]
  return {
    id: `preference/${index}`,
    prompt: situation.prompt,
    chosen: chosen.text,
    rejected: rejected.text,
    worth: { chosen: chosen.worth, rejected: rejected.worth }
  }
}
