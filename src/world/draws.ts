/**
 * A cursor over a named counter-based stream, for code that draws different kinds of things one after another.
 * Every draw takes a block of the stream of its own, so no two draws look at the same words.
 */
import { integerAt, stream, uniformAt } from "../device/random.ts"

/** Draws in order; equal names give equal draws. */
export interface Draws {
  /** In [0, 1). */
  readonly uniform: () => number
  /** In [0, n). */
  readonly integer: (n: number) => number
  /** True with the probability given. */
  readonly chance: (probability: number) => boolean
  /** One of the items, each equally likely. */
  readonly pick: <A>(items: ReadonlyArray<A>) => A
  /** An index, in proportion to the weights (>= 0, sum > 0). */
  readonly weighted: (weights: ReadonlyArray<number>) => number
  /** The items in random order. */
  readonly shuffled: <A>(items: ReadonlyArray<A>) => ReadonlyArray<A>
}

/** The draws of the stream `stream(seed, ...name)`. */
export const draws = (seed: number, ...name: ReadonlyArray<string | number>): Draws => {
  const source = stream(seed, ...name)
  let block = 0
  const uniform = () => uniformAt(source, 4 * block++)
  const integer = (n: number) => integerAt(source, block++, n)
  const weighted = (weights: ReadonlyArray<number>) => {
    const total = weights.reduce((sum, weight) => sum + weight, 0)
    if (!(total > 0)) throw new RangeError(`weights [${weights.length}] sum to ${total}; they must sum to more than 0`)
    let left = uniform() * total
    let last = 0
    for (let i = 0; i < weights.length; i++) {
      if (weights[i]! <= 0) continue
      last = i
      left -= weights[i]!
      if (left < 0) return i
    }
    return last
  }
  return {
    uniform,
    integer,
    chance: (probability) => uniform() < probability,
    pick: (items) => items[integer(items.length)]!,
    weighted,
    shuffled: (items) => {
      const order = [...items]
      for (let i = order.length - 1; i > 0; i--) {
        const j = integer(i + 1)
        const held = order[i]!
        order[i] = order[j]!
        order[j] = held
      }
      return order
    }
  }
}
