/**
 * Answers before and after redundancy filtering, as OP-GRPO's data has them: OP-V1 lists the window with many a
 * perspective said twice; OP-V2 is OP-V1 without what a judge took for a repetition of something said before
 * (arXiv 2602.20759: pairs in order, the second of a pair judged the same is dropped). The judge errs at its rate, so
 * OP-V2 keeps some repetitions and loses some perspectives.
 */
import { draws } from "./draws.ts"
import { judgeSame } from "./judge.ts"
import { type Saying, say } from "./language.ts"
import type { World, WorldSituation } from "./world.ts"

/** OP-V1: every perspective of the window once or, with probability `repeat`, twice, in random order. */
export const redundantAnswer = (
  world: World,
  seed: number,
  situation: WorldSituation,
  repeat = 0.5
): ReadonlyArray<Saying> => {
  const random = draws(seed, "world", "redundant", situation.id)
  return random.shuffled(
    situation.window.flatMap((item) =>
      Array.from({ length: random.chance(repeat) ? 2 : 1 }, () => say(world, "triplets", item, random))
    )
  )
}

/** Whether two sayings have a content word in common: all that is put to the judge, as pairs of similarity >= 0.75 are in OP-GRPO. */
const alike = (world: World, a: Saying, b: Saying): boolean => {
  if (a.item.perspective === b.item.perspective) return true
  const content = new Set(world.perspectives[a.item.perspective]!.words)
  const words = new Set(b.explanation.split(" "))
  return a.explanation.split(" ").some((word) => content.has(word) && words.has(word))
}

/** OP-V2: OP-V1 without what the judge takes for repetitions; never empty. */
export const filteredAnswer = (
  world: World,
  seed: number,
  situation: WorldSituation,
  redundant: ReadonlyArray<Saying> = redundantAnswer(world, seed, situation)
): ReadonlyArray<Saying> => {
  const random = draws(seed, "world", "redundancy judge", situation.id)
  const kept: Array<Saying> = []
  for (const saying of redundant) {
    const repeats = kept.some(
      (earlier) =>
        alike(world, earlier, saying) && judgeSame(earlier.item, saying.item, world.settings.judgeError, random)
    )
    if (!repeats) kept.push(saying)
  }
  return kept
}
