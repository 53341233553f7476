/**
 * Whether a paired difference may be chance, how large it is, and what many tests at once cost.
 *
 *     p            sign flips over seeds from 6 seeds on (exact up to 16); a t test over seeds for 3 to 5, as the interval is
 *                  a t interval; sign flips over prompts under 3, which say nothing of other seeds
 *     effect       mean / standard deviation of the prompts' mean differences (Cohen's d_z)
 *     superiority  share of prompts that the arm is better on, ties half; 0.5 is none
 *     Holm         p_(k) over m tests in rising order: max over j <= k of min(1, (m - j + 1) p_(j))   Holm 1979
 *
 * Holm's correction bounds the chance of any false claim in the family, whatever the tests have to do with each other.
 */
import { studentTCdf } from "./distributions.ts"
import { signFlipPValue } from "./resampling.ts"
import { mean, type Paired, perPrompt, perSeed, standardDeviation } from "./statistics.ts"

export interface Significance {
  /** Two-sided; null where there is nothing to base it on. */
  readonly p: number | null
  /** The smallest p that this test could give here, so that a family can be seen to be too large for the seeds. */
  readonly least: number | null
  readonly test: string
  /** Null under two prompts, and where all differ equally by more than 0. */
  readonly effect: number | null
  readonly superiority: number | null
}

/** Mean and standard deviation; a deviation that rounding alone explains is none. */
const moments = (values: ReadonlyArray<number>): readonly [centre: number, spread: number] => {
  const [centre, spread] = [mean(values), standardDeviation(values)]
  return [centre, spread > 1e-12 * Math.abs(centre) ? spread : 0]
}

/** Null where seeds differ by nothing: no number of them says how far others would lie. */
const tTest = (values: ReadonlyArray<number>): number | null => {
  const [centre, spread] = moments(values)
  if (spread === 0) return centre === 0 ? 1 : null
  return 2 * (1 - studentTCdf(Math.abs(centre) / (spread / Math.sqrt(values.length)), values.length - 1))
}

/** The least p of a sign-flip test: both all-positive and all-negative reach the observed sum. */
const leastFlip = (count: number): number => (count <= 16 ? 2 / 2 ** count : 1 / 20_001)

const tested = (
  seeds: ReadonlyArray<number>,
  prompts: ReadonlyArray<number>
): Pick<Significance, "p" | "least" | "test"> => {
  if (seeds.length >= 6) {
    return { p: signFlipPValue(seeds), least: leastFlip(seeds.length), test: `sign flips over ${seeds.length} seeds` }
  }
  if (seeds.length >= 3) {
    const p = tTest(seeds)
    if (p === null) return { p, least: null, test: `no test: ${seeds.length} seeds differ by the same` }
    return { p, least: 0, test: `t test over ${seeds.length} seeds` }
  }
  if (prompts.length < 2) return { p: null, least: null, test: "no test: under two prompts" }
  const of = `${seeds.length} seed${seeds.length === 1 ? "" : "s"}`
  return { p: signFlipPValue(prompts), least: leastFlip(prompts.length), test: `sign flips over prompts only (${of})` }
}

/** Of the pairs of one comparison. */
export const significance = (pairs: ReadonlyArray<Paired>): Significance => {
  if (pairs.length === 0) return { p: null, least: null, test: "no test: no pair", effect: null, superiority: null }
  const prompts = perPrompt(pairs)
  const [centre, spread] = moments(prompts)
  const better = prompts.reduce((sum, value) => sum + (value > 0 ? 1 : value === 0 ? 0.5 : 0), 0)
  return {
    ...tested(perSeed(pairs), prompts),
    effect: prompts.length < 2 ? null : spread > 0 ? centre / spread : centre === 0 ? 0 : null,
    superiority: better / prompts.length
  }
}

/** Holm's adjusted p-values of a family, in the order given; null stays null and is not counted. */
export const holm = (ps: ReadonlyArray<number | null>): ReadonlyArray<number | null> => {
  const tests = ps.flatMap((p, k) => (p === null ? [] : [{ p, k }])).sort((a, b) => a.p - b.p || a.k - b.k)
  const adjusted: Array<number | null> = ps.map(() => null)
  let highest = 0
  tests.forEach(({ k, p }, rank) => {
    highest = Math.max(highest, Math.min(1, (tests.length - rank) * p))
    adjusted[k] = highest
  })
  return adjusted
}
