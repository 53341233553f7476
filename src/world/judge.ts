/** A judge of meaning that errs at a stated rate: it says the opposite of the truth that often, whatever the pair. */
import type { Draws } from "./draws.ts"
import { type Item, sameItem } from "./world.ts"

/** Whether two items mean the same, as a judge with this error rate says. */
export const judgeSame = (a: Item, b: Item, errorRate: number, random: Draws): boolean =>
  sameItem(a, b) !== random.chance(errorRate)
