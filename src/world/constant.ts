/**
 * The best constant answer: the same lines whatever the prompt. Coverage is additive over distinct lines, so the best n
 * lines are exactly the n items with the greatest mean of [item in window] / |window|: no search is needed. Chosen on
 * training situations and measured on others, it says what reading the prompt is worth.
 */
import { meaningOf } from "./records.ts"
import type { Item, World, WorldSituation } from "./world.ts"

/** The best `lines` items on the training split, best first; ties by perspective, then stance. */
export const bestConstant = (world: World, lines: number = world.settings.mostLines): ReadonlyArray<Item> => {
  const worth = new Map<string, { readonly item: Item; total: number }>()
  for (const { window } of world.splits.train) {
    for (const item of window) {
      const entry = worth.get(meaningOf(item)) ?? { item, total: 0 }
      entry.total += 1 / window.length
      worth.set(meaningOf(item), entry)
    }
  }
  return [...worth.values()]
    .toSorted((a, b) => b.total - a.total || a.item.perspective - b.item.perspective || b.item.stance - a.item.stance)
    .slice(0, lines)
    .map(({ item }) => item)
}

/** Share of a situation's window that a set of items covers. */
export const coverageOf = (items: ReadonlyArray<Item>, situation: WorldSituation): number => {
  const said = new Set(items.map(meaningOf))
  return situation.window.filter((item) => said.has(meaningOf(item))).length / situation.window.length
}
