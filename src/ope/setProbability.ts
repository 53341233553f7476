/**
 * The probability of a slate as a set (POPE, arXiv 2509.19333, eq. 2; reconstructed).
 *
 *     product         P(S) = prod_k p_k                 independent draws; K! is left out, for it cancels in every ratio
 *     plackett-luce   P(S) = sum over orders of prod_k p_k / (1 - sum of the p before it)      draws without replacement
 *
 * The sum over K! orders is one over 2^K subsets: f(A) = sum_{k in A} f(A - k) p_k / (1 - sum_{j in A - k} p_j). More than
 * 16 responses are refused. Plackett-Luce wants probabilities: the p_k must sum to at most 1 (and where they sum to 1, the
 * set is certain: P(S) = 1, so a pool that is no larger than the slate has nothing to say).
 */
import { logSumExp } from "./propensity.ts"

export const setProbabilities = ["product", "plackett-luce"] as const
export type SetProbability = (typeof setProbabilities)[number]

/** The largest slate that Plackett-Luce takes. */
export const largestSet = 16

/** Sums of probabilities may exceed 1 by rounding. */
const rounding = 1e-6

/**
 * log P(S) of a slate from the log-probabilities of its responses, by the kind. Throws a RangeError under Plackett-Luce for
 * more than 16 responses, and for probabilities that sum to more than 1.
 */
export const logSetProbability = (kind: SetProbability, logp: ReadonlyArray<number>): number => {
  if (kind === "product") return logp.reduce((sum, value) => sum + value, 0)
  const size = logp.length
  if (size > largestSet) {
    throw new RangeError(
      `plackett-luce: a slate of [${size}] responses has 2^${size} subsets; at most [${largestSet}] are taken, use \`product\``
    )
  }
  const p = logp.map(Math.exp)
  const total = p.reduce((sum, value) => sum + value, 0)
  if (total > 1 + rounding) {
    throw new RangeError(
      `plackett-luce: the slate's probabilities sum to ${Number(total.toPrecision(6))}; they must be probabilities: take \`sequence\` or \`pool-normalised\` propensities, and no response twice`
    )
  }
  const subsets = 2 ** size
  const mass = new Float64Array(subsets)
  const f = new Float64Array(subsets).fill(Number.NEGATIVE_INFINITY)
  f[0] = 0
  for (let set = 1; set < subsets; set++) {
    const terms: Array<number> = []
    for (let k = 0; k < size; k++) {
      if ((set & (1 << k)) === 0) continue
      const before = set & ~(1 << k)
      mass[set] = mass[before]! + p[k]!
      // What is left to draw from holds at least the response drawn, whatever rounding says.
      terms.push(f[before]! + logp[k]! - Math.log(Math.max(1 - mass[before]!, p[k]!)))
    }
    f[set] = logSumExp(terms)
  }
  return f[subsets - 1]!
}
