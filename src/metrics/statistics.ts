/**
 * Comparing an arm with the baseline, paired by (seed, prompt).
 *
 *     difference = mean over pairs of value - baseline value
 *     3 and more seeds: t interval over the seeds' mean differences      d +- t(n - 1) s / sqrt(n)
 *     1 or 2 seeds:     percentile bootstrap over prompts, and it says so: nothing is known about other seeds
 *
 * A p-value (sign flips over seeds) is given from 6 seeds on: with fewer none below 0.05 is possible. Where there is
 * nothing to base an interval on (no pair, one prompt of under 3 seeds), it is null.
 */
import { studentTQuantile } from "./distributions.ts"
import { bootstrapInterval, signFlipPValue } from "./resampling.ts"

/** One per-prompt result of one arm. */
export interface Item {
  readonly seed: number | string
  readonly prompt: string
  readonly value: number
}

export interface Comparison {
  readonly seeds: number
  readonly prompts: number
  /** Mean over pairs; null without pairs. */
  readonly value: number | null
  readonly baselineValue: number | null
  readonly difference: number | null
  readonly low: number | null
  readonly high: number | null
  readonly pValue: number | null
  /** What the interval is and what it does not speak of. */
  readonly method: string
}

/** NaN without values. */
export const mean = (values: ReadonlyArray<number>): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length

/** Unbiased standard deviation; 0 for one value. */
export const standardDeviation = (values: ReadonlyArray<number>): number => {
  const centre = mean(values)
  return values.length < 2
    ? 0
    : Math.sqrt(values.reduce((sum, value) => sum + (value - centre) ** 2, 0) / (values.length - 1))
}

/** The t interval of a mean from at least two values. */
export const tInterval = (values: ReadonlyArray<number>, confidence: number): readonly [number, number] => {
  if (values.length < 2) throw new RangeError(`a t interval needs at least two values, not [${values.length}]`)
  const centre = mean(values)
  const half =
    (studentTQuantile(0.5 + confidence / 2, values.length - 1) * standardDeviation(values)) / Math.sqrt(values.length)
  return [centre - half, centre + half]
}

const order = (a: number | string, b: number | string): number =>
  typeof a === "number" && typeof b === "number" ? a - b : String(a) < String(b) ? -1 : String(a) > String(b) ? 1 : 0

/** A pair of results of one (seed, prompt). */
export interface Paired extends Item {
  readonly base: number
  /** value - base. */
  readonly difference: number
}

/**
 * Pairs two arms' items by (seed, prompt), in their order. Pairs with a value that is not finite are left out; the order of
 * rows does not matter. Throws RangeError if an arm has two items for one (seed, prompt).
 */
export const pairItems = (arm: ReadonlyArray<Item>, baseline: ReadonlyArray<Item>): ReadonlyArray<Paired> => {
  const key = ({ seed, prompt }: Item) => JSON.stringify([seed, prompt])
  const indexed = (items: ReadonlyArray<Item>, who: string) => {
    const map = new Map(items.map((item) => [key(item), item]))
    if (map.size !== items.length) throw new RangeError(`${who} has more than one item for a (seed, prompt)`)
    return map
  }
  const own = indexed(arm, "the arm")
  return [...indexed(baseline, "the baseline").values()]
    .flatMap(({ prompt, seed, value: base }): ReadonlyArray<Paired> => {
      const value = own.get(key({ seed, prompt, value: base }))?.value ?? Number.NaN
      return Number.isFinite(value) && Number.isFinite(base)
        ? [{ seed, prompt, value, base, difference: value - base }]
        : []
    })
    .sort((a, b) => order(a.seed, b.seed) || order(a.prompt, b.prompt))
}

const meanDifferences = (pairs: ReadonlyArray<Paired>, by: "seed" | "prompt"): ReadonlyArray<number> =>
  [...Map.groupBy(pairs, (pair) => pair[by]).values()].map((rows) => mean(rows.map(({ difference }) => difference)))

/** Mean difference of each seed. */
export const perSeed = (pairs: ReadonlyArray<Paired>): ReadonlyArray<number> => meanDifferences(pairs, "seed")
/** Mean difference of each prompt. */
export const perPrompt = (pairs: ReadonlyArray<Paired>): ReadonlyArray<number> => meanDifferences(pairs, "prompt")

export interface ComparisonOptions {
  /** 0.95 unless said otherwise. */
  readonly confidence?: number
  /** Nodes that the seeds had in common, for `method`. */
  readonly heldFixed?: ReadonlyArray<string>
  /** What the prompts are called in `method`. */
  readonly prompts?: string
}

/** Compares two arms' items of one metric, paired as `pairItems` has it. */
export const comparePaired = (
  arm: ReadonlyArray<Item>,
  baseline: ReadonlyArray<Item>,
  options: ComparisonOptions = {}
): Comparison => {
  const { confidence = 0.95, heldFixed = [], prompts = "prompts" } = options
  const pairs = pairItems(arm, baseline)
  const fixed = heldFixed.length === 0 ? "" : `; held fixed over seeds: ${heldFixed.join(", ")}`
  if (pairs.length === 0) {
    return {
      seeds: 0,
      prompts: 0,
      value: null,
      baselineValue: null,
      difference: null,
      low: null,
      high: null,
      pValue: null,
      method: "no (seed, prompt) in common"
    }
  }
  const [bySeed, byPrompt] = [perSeed(pairs), perPrompt(pairs)]
  const overSeeds = bySeed.length >= 3
  const interval = overSeeds
    ? tInterval(bySeed, confidence)
    : byPrompt.length >= 2
      ? bootstrapInterval(byPrompt, { confidence })
      : null
  const percent = `${Number((100 * confidence).toPrecision(6))} %`
  const method = overSeeds
    ? `${percent} t interval over ${bySeed.length} seeds' paired mean differences${prompts === "prompts" ? "" : `, ${prompts}`}`
    : interval === null
      ? "one prompt: no interval"
      : `${percent} bootstrap over ${prompts} only (${bySeed.length} seed${bySeed.length === 1 ? "" : "s"})`
  return {
    seeds: bySeed.length,
    prompts: byPrompt.length,
    value: mean(pairs.map((pair) => pair.value)),
    baselineValue: mean(pairs.map((pair) => pair.base)),
    difference: mean(pairs.map((pair) => pair.difference)),
    low: interval?.[0] ?? null,
    high: interval?.[1] ?? null,
    pValue: bySeed.length >= 6 ? signFlipPValue(bySeed) : null,
    method: method + fixed
  }
}
