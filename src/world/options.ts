/**
 * Option distributions: how the people of one latent group choose among perspectives of a window. A question is a
 * situation, its options are names (single tokens, so a policy's own distribution is that of the token after "In the
 * perspective of"), the gold distribution is the softmax of the group's tastes.
 */
import type { OptionQuestion } from "../data/records.ts"
import { draws } from "./draws.ts"
import { makeGroups } from "./groups.ts"
import type { World } from "./world.ts"

/** Question `index` of an endless supply: test situations in turn, then the next group, `count` options of the window. */
export const optionQuestion = (world: World, seed: number, index: number, count = 4): OptionQuestion => {
  const situations = world.splits.test
  const groups = makeGroups(world)
  const situation = situations[index % situations.length]!
  const group = groups[Math.floor(index / situations.length) % groups.length]!
  const items = draws(seed, "world", "options", situation.id).shuffled(situation.window).slice(0, count)
  const weights = items.map(({ perspective }) => Math.exp(group.taste[perspective]!))
  const mass = weights.reduce((sum, weight) => sum + weight, 0)
  return {
    id: `option/${index}`,
    question: situation.prompt,
    options: items.map(({ perspective }) => world.perspectives[perspective]!.name),
    attribute: group.name,
    goldDistribution: weights.map((weight) => weight / mass)
  }
}
