/**
 * Latent groups of people: each likes and dislikes perspectives in its own way. What votes and option distributions come
 * from; nothing else in the world knows them.
 *
 * A group's taste for a perspective is uniform in [-2, 2], with a popular perspective's taste half shared by all groups.
 * What a group thinks of an answer is the mean over its lines of its taste for the perspective, plus 1 for a true line,
 * minus 1 for any other; people approve with probability sigmoid(thought).
 */
import { draws } from "./draws.ts"
import { type Item, sameItem, type World, type WorldSituation } from "./world.ts"

export interface Group {
  readonly name: string
  /** Share of people in it; sums to 1 over groups. */
  readonly share: number
  /** By perspective. */
  readonly taste: ReadonlyArray<number>
}

export const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x))

/** The world's groups: a function of its seed. */
export const makeGroups = (world: World, count = 3): ReadonlyArray<Group> => {
  const { seed } = world.settings
  const common = draws(seed, "world", "common taste")
  const shared = world.perspectives.map(() => 4 * common.uniform() - 2)
  const weights = Array.from({ length: count }, (_, k) => 1 / (k + 1))
  const mass = weights.reduce((sum, weight) => sum + weight, 0)
  const average = 1 / world.perspectives.length
  return weights.map((weight, k) => {
    const own = draws(seed, "world", "taste", k)
    return {
      name: `group${k + 1}`,
      share: weight / mass,
      taste: world.perspectives.map(({ popularity }, perspective) => {
        const mine = 4 * own.uniform() - 2
        return popularity > average ? (mine + shared[perspective]!) / 2 : mine
      })
    }
  })
}

/** What a group thinks of lines on a situation. */
export const thought = (group: Group, items: ReadonlyArray<Item>, situation: WorldSituation): number =>
  items.reduce(
    (sum, item) =>
      sum + group.taste[item.perspective]! + (situation.window.some((truth) => sameItem(truth, item)) ? 1 : -1),
    0
  ) / Math.max(items.length, 1)

/** Share of all people who approve of lines on a situation. */
export const approval = (groups: ReadonlyArray<Group>, items: ReadonlyArray<Item>, situation: WorldSituation): number =>
  groups.reduce((sum, group) => sum + group.share * sigmoid(thought(group, items, situation)), 0)
