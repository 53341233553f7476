/**
 * Dimensions of a padded program: their bounds over the sizes that it serves, and their values in a run, which are
 * computed in the program from one scalar for each name.
 */
import type { Atom, Dim } from "../../../tensor/Dim.ts"
import { addDims, ceilDivideDims, dimNames, dimText, evaluateDim, multiplyDims } from "../../../tensor/Dim.ts"
import { add, div, mul } from "../../../tensor/ops/elementwise.ts"
import { constant } from "../../../tensor/ops/leaf.ts"
import type { Tensor } from "../../../tensor/Tensor.ts"
import { input } from "../../../tensor/Tensor.ts"
import type { Bucket } from "../buckets.ts"

/** The program cannot be padded over these sizes; it is compiled for each set of sizes instead. */
export class Unpaddable extends Error {}

/** The input that a padded program has for the size of a name. */
export const sizeInput = (name: string): string => `size of ${name}`

/** Combinations of sizes that are tried to find the bounds of a dimension. */
const mostCombinations = 20_000

const increasing = (dim: Dim): boolean =>
  typeof dim === "number" ||
  dim.terms.every(({ atoms, coefficient }) => coefficient > 0 && atoms.every(({ kind }) => kind === "name"))

export class Sizes {
  readonly ranges: Readonly<Record<string, Bucket>>
  readonly #bounds = new Map<string, Bucket>()
  readonly #settled = new Map<string, Dim>()
  readonly #values = new Map<string, Tensor>()

  constructor(ranges: Readonly<Record<string, Bucket>>) {
    this.ranges = ranges
  }

  /** The least and the greatest size. Throws Unpaddable where there are too many combinations to try. */
  bounds(dim: Dim): Bucket {
    if (typeof dim === "number") return { low: dim, high: dim }
    const known = this.#bounds.get(dim.text)
    if (known) return known
    const names = dimNames(dim)
    const at = (which: "low" | "high") =>
      evaluateDim(dim, Object.fromEntries(names.map((name) => [name, this.ranges[name]![which]])))
    const made = increasing(dim) ? { low: at("low"), high: at("high") } : this.#tried(dim, names)
    this.#bounds.set(dim.text, made)
    return made
  }

  #tried(dim: Dim, names: ReadonlyArray<string>): Bucket {
    const ranges = names.map((name) => this.ranges[name]!)
    if (ranges.reduce((n, { high, low }) => n * (high - low + 1), 1) > mostCombinations) {
      throw new Unpaddable(`${dimText(dim)} takes too many sizes to bound`)
    }
    let [low, high] = [Number.POSITIVE_INFINITY, 0]
    const visit = (i: number, bindings: Readonly<Record<string, number>>): void => {
      if (i === names.length) {
        // sizes that do not go together give none
        const size = Math.max(0, evaluateDim(dim, bindings))
        low = Math.min(low, size)
        high = Math.max(high, size)
        return
      }
      for (let size = ranges[i]!.low; size <= ranges[i]!.high; size++) visit(i + 1, { ...bindings, [names[i]!]: size })
    }
    visit(0, {})
    return { low, high }
  }

  /** The dimension with every quotient that is the same over all sizes as a number. */
  settle(dim: Dim): Dim {
    if (typeof dim === "number") return dim
    const known = this.#settled.get(dim.text)
    if (known !== undefined) return known
    const atom = (a: Atom): Dim => {
      const single = { terms: [{ coefficient: 1, atoms: [a] }], text: a.text }
      if (a.kind === "name") return single
      const { high, low } = this.bounds(single)
      return low === high ? low : ceilDivideDims(this.settle(a.numerator), this.settle(a.denominator))
    }
    const made = dim.terms.reduce<Dim>(
      (sum, { atoms, coefficient }) => addDims(sum, atoms.map(atom).reduce<Dim>(multiplyDims, coefficient)),
      0
    )
    this.#settled.set(dim.text, made)
    return made
  }

  /** The size in a run, an i32 scalar. */
  value(dim: Dim): Tensor {
    if (typeof dim === "number") return constant(dim, "i32")
    const known = this.#values.get(dim.text)
    if (known) return known
    const atom = (a: Atom): Tensor => {
      if (a.kind === "name") return this.#input(a.name)
      const [n, d] = [this.value(a.numerator), this.value(a.denominator)]
      return div(add(n, add(d, -1)), d)
    }
    const made = dim.terms
      .map(
        ({ atoms, coefficient }) =>
          atoms
            .map(atom)
            .reduce<Tensor | undefined>(
              (x, y) => (x ? mul(x, y) : coefficient === 1 ? y : mul(y, coefficient)),
              undefined
            ) ?? constant(coefficient, "i32")
      )
      .reduce((x, y) => add(x, y))
    this.#values.set(dim.text, made)
    return made
  }

  #input(name: string): Tensor {
    const known = this.#values.get(name)
    if (known) return known
    const made = input(sizeInput(name), "i32", [])
    this.#values.set(name, made)
    return made
  }

  /** The scalars of names that were asked for. */
  get inputs(): ReadonlyArray<Tensor> {
    return Object.keys(this.ranges).flatMap((name) => this.#values.get(name) ?? [])
  }
}
