/**
 * Triplets for the similarity estimator: an anchor, another saying of the same thing, and the nearest saying of
 * something else, as a judge with a stated error rate tells them apart (OP-GRPO, arXiv 2602.20759, `train_st`).
 *
 * The pool is a redundant answer: four perspectives of a window, each said twice and once with its stance flipped, and
 * two out of the window. Candidate pairs share the name or a content word; the positive is the first of them *in random order* that
 * is judged the same; the nearest in words first, as with a pretrained encoder, teaches a scratch encoder word overlap only. The negative is the nearest in
 * words that is judged different.
 */
import type { JudgedPair, Triplet } from "../data/records.ts"
import { stripPerspective } from "../rewards/grammar.ts"
import { type Draws, draws } from "./draws.ts"
import { judgeSame } from "./judge.ts"
import { type Saying, say } from "./language.ts"
import type { Family } from "./lexicon.ts"
import type { Item, Stance, World } from "./world.ts"

export interface TripletOptions {
  /** Whether texts begin with "In the perspective of NAME ,". OP-GRPO strips it (pitfall P6). */
  readonly prefix: "strip" | "keep"
  /** How often the judge is wrong; by default the world's `judgeError`. */
  readonly errorRate?: number
  readonly family?: Family
}

/** A triplet with what its texts mean, for measuring the judge. */
export interface LabelledTriplet extends Triplet {
  readonly id: string
  readonly items: readonly [Item, Item, Item]
}

const flipped = ({ perspective, stance }: Item): Item => ({ perspective, stance: stance === 1 ? -1 : 1 })

/**
 * How near two sayings are in words: content words in common, and a little for stance words and fillers, which are
 * common to everything (as TF-IDF would weigh them). Sayings tie often; ties are broken at random by the caller.
 */
const nearness = (world: World, a: Saying, b: Saying): number => {
  const content = new Set(world.perspectives[a.item.perspective]!.words)
  const words = new Set(a.explanation.split(" "))
  return b.explanation
    .split(" ")
    .filter((word) => words.has(word))
    .reduce((sum, word) => sum + (content.has(word) ? 1 : 0.04), 0)
}

const textOf = (saying: Saying, prefix: TripletOptions["prefix"]) =>
  prefix === "keep" ? saying.text : stripPerspective(saying.text)

const pool = (world: World, family: Family, random: Draws): ReadonlyArray<Saying> => {
  const situation = random.pick(world.splits.train)
  const items = random.shuffled(situation.window).slice(0, 4)
  const strangers = Array.from({ length: 2 }, (): Item => {
    const stance: Stance = random.chance(0.5) ? 1 : -1
    return { perspective: random.integer(world.perspectives.length), stance }
  })
  return [...items.flatMap((item) => [item, item, flipped(item)]), ...strangers].map((item) =>
    say(world, family, item, random)
  )
}

/** Triplet `index` of an endless supply: a pure function of seed and index. */
export const triplet = (world: World, seed: number, index: number, options: TripletOptions): LabelledTriplet => {
  const { prefix, errorRate = world.settings.judgeError, family = "triplets" } = options
  const random = draws(seed, "world", "triplet", family, index)
  for (;;) {
    const sayings = pool(world, family, random)
    const pairs = sayings.flatMap((a, i) =>
      sayings.flatMap((b, j) =>
        i < j && (a.item.perspective === b.item.perspective || nearness(world, a, b) >= 1) ? [[i, j] as const] : []
      )
    )
    const found = random
      .shuffled(pairs)
      .find(([i, j]) => judgeSame(sayings[i]!.item, sayings[j]!.item, errorRate, random))
    if (found === undefined) continue
    const [anchor, positive] = [sayings[found[0]]!, sayings[found[1]]!]
    const others = random.shuffled(sayings.filter((_, k) => k !== found[0] && k !== found[1]))
    const negative = others
      .toSorted((a, b) => nearness(world, anchor, b) - nearness(world, anchor, a))
      .find((saying) => !judgeSame(anchor.item, saying.item, errorRate, random))
    if (negative === undefined) continue
    return {
      id: `triplet/${index}`,
      anchor: textOf(anchor, prefix),
      positive: textOf(positive, prefix),
      negative: textOf(negative, prefix),
      items: [anchor.item, positive.item, negative.item]
    }
  }
}

/**
 * Judged pairs `4 * index` to `4 * index + 3`: two of the same meaning, one with the stance flipped, one with another
 * perspective of the same window; `left` in the manner of one family, `right` of another. The coverage threshold is
 * calibrated across families, the uniqueness threshold within one.
 */
export const judgedPairs = (
  world: World,
  seed: number,
  index: number,
  options: {
    readonly prefix: TripletOptions["prefix"]
    readonly families: readonly [Family, Family]
    readonly errorRate?: number
  }
): ReadonlyArray<JudgedPair & { readonly truth: boolean }> => {
  const { prefix, families, errorRate = world.settings.judgeError } = options
  const random = draws(seed, "world", "judged pairs", families[0], families[1], index)
  const [item, other] = random.shuffled(random.pick(world.splits.train).window) as [Item, Item]
  return [item, item, flipped(item), other].map((against) => {
    const left = say(world, families[0], item, random)
    const right = say(world, families[1], against, random)
    return {
      left: textOf(left, prefix),
      right: textOf(right, prefix),
      same: judgeSame(item, against, errorRate, random),
      truth: item === against
    }
  })
}
