/**
 * Demonstrations: answers to learn to write from, narrow as people's answers are. Two to four lines of the window drawn
 * by popularity without replacement, and a thin tail of longer ones. A pure function of seed and index, so a sampler
 * may draw rows in any order.
 */
import { draws } from "./draws.ts"
import { say, writePlainLines, writeWorldAnswer } from "./language.ts"
import type { Item, World, WorldSituation } from "./world.ts"

/** A prompt and an answer to it. */
export interface Demonstration {
  readonly id: string
  readonly prompt: string
  readonly completion: string
}

const lineCount = (world: World, size: number, uniform: number, base: number): number => {
  const { demonstrations, usualLines, tail, mostLines } = world.settings
  if (demonstrations === "full") return Math.min(size, mostLines)
  let mass = 0
  for (let k = 0; k < tail.length; k++) {
    mass += tail[k]!
    if (uniform < mass) return Math.min(usualLines + 1 + k, size)
  }
  return Math.min(base, size)
}

/**
 * Draw `draw` of the demonstrations of a situation. A share `formed` of the draws has the answer's form, the others are the
 * very lines without block and summary: knowledge of what to say, and not of how.
 */
export const demonstrate = (
  world: World,
  seed: number,
  situation: WorldSituation,
  draw: number,
  formed = 1
): string => {
  const random = draws(seed, "world", "demonstration", situation.id, draw)
  const { leastLines, skew, usualLines } = world.settings
  const base = leastLines + random.integer(usualLines - leastLines + 1)
  const count = lineCount(world, situation.window.length, random.uniform(), base)
  const left = [...situation.window]
  const chosen: Array<Item> = []
  while (chosen.length < count) {
    const k = random.weighted(left.map((item) => world.perspectives[item.perspective]!.popularity ** skew))
    chosen.push(...left.splice(k, 1))
  }
  const sayings = chosen.map((item) => say(world, "demonstrations", item, random))
  return random.uniform() < formed ? writeWorldAnswer(sayings) : writePlainLines(sayings)
}

/** Draw `draw` of a situation, as a row. */
export const demonstrationOf = (
  world: World,
  seed: number,
  situation: WorldSituation,
  draw: number,
  formed = 1
): Demonstration => ({
  id: `${situation.id}/${draw}`,
  prompt: situation.prompt,
  completion: demonstrate(world, seed, situation, draw, formed)
})

/** Row `index` of an endless supply: training situations in turn, every pass with new demonstrations. */
export const demonstrationRow = (world: World, seed: number, index: number, formed = 1): Demonstration => {
  const situations = world.splits.train
  const situation = situations[index % situations.length]!
  return demonstrationOf(world, seed, situation, Math.floor(index / situations.length), formed)
}
