/**
 * POPE's metrics of a set of candidates y_1..y_N against references r_1..r_M with votes u_m (arXiv 2509.19333; the
 * definitions are reconstructed from its text). e(): unit embeddings, cos their dot product.
 *
 *     worth        pi_m = u_m / sum u                              Plackett-Luce: probability of being chosen first
 *     PL-score     sum_m pi_m max_n cos(e(y_n), e(r_m))            or the mean over n in place of the maximum
 *     coverage     (1/M) #{m : max_n cos(e(y_n), e(r_m)) >= tau}   tau = 0.8; not one-to-one
 *     alignment    -(1/log M) sum_m q_m log q_m                    normalised entropy of what the candidates speak of:
 *       assigned   q_m = share of candidates whose nearest reference is m, among those with cos >= 0.5   (default reading)
 *       softmax    q = softmax over m of (mean_n cos(e(y_n), e(r_m)) / 0.5)
 *     helpfulness  sum_m w_m cos(e(y), e(r_m)), w = votes scaled to [0, 1] by minimum and maximum, over their sum
 *     relevance    cos(e(x), e(y))                                 both means over the candidates; the paper prints x100
 *
 * Votes that are absent, all 0 (worths) or all equal (helpfulness) are uniform weights. Without candidates everything is 0.
 */
import { type Rows, type Similarities, similarities } from "../rewards/matching.ts"

const uniform = (count: number): ReadonlyArray<number> => Array.from({ length: count }, () => 1 / count)

const checked = (votes: ReadonlyArray<number>): ReadonlyArray<number> => {
  const odd = votes.find((vote) => !(Number.isFinite(vote) && vote >= 0))
  if (odd !== undefined) throw new RangeError(`votes must be finite and at least 0, not ${odd}`)
  return votes
}

/** Plackett-Luce worths of references from their votes: they sum to 1; uniform where nobody voted. */
export const worths = (votes: ReadonlyArray<number>): ReadonlyArray<number> => {
  const sum = checked(votes).reduce((a, b) => a + b, 0)
  return sum > 0 ? votes.map((vote) => vote / sum) : uniform(votes.length)
}

/** Weights of helpfulness: votes min-max scaled, then normalised to sum 1; uniform where all are equal. */
export const helpfulnessWeights = (votes: ReadonlyArray<number>): ReadonlyArray<number> => {
  const [least, most] = [Math.min(...checked(votes)), Math.max(...votes)]
  if (!(most > least)) return uniform(votes.length)
  return worths(votes.map((vote) => (vote - least) / (most - least)))
}

/** Shares of an entropy's maximum, in [0, 1]: 1 for a single outcome, which cannot be spread. */
const normalisedEntropy = (shares: ReadonlyArray<number>): number =>
  shares.length < 2 ? 1 : shares.reduce((sum, q) => sum - (q > 0 ? q * Math.log(q) : 0), 0) / Math.log(shares.length)

/** Maximum and mean over candidates of each reference's row of `cos` [M, N]. */
const perReference = ({ columns, data, rows }: Similarities) => {
  const best: Array<number> = []
  const means: Array<number> = []
  for (let m = 0; m < rows; m++) {
    let [most, sum] = [Number.NEGATIVE_INFINITY, 0]
    for (let n = 0; n < columns; n++) {
      const cos = data[m * columns + n]!
      most = Math.max(most, cos)
      sum += cos
    }
    best.push(most)
    means.push(sum / columns)
  }
  return { best, means }
}

/** The reference nearest to each candidate, the first among equals, with its cosine. */
const nearest = ({ columns, data, rows }: Similarities) =>
  Array.from({ length: columns }, (_, n) => {
    let at = 0
    for (let m = 1; m < rows; m++) if (data[m * columns + n]! > data[at * columns + n]!) at = m
    return { reference: at, cos: data[at * columns + n]! }
  })

const weighted = (weights: ReadonlyArray<number>, values: ReadonlyArray<number>): number =>
  weights.reduce((sum, weight, m) => sum + weight * values[m]!, 0)

export interface SetScores {
  readonly plScore: number
  /** With the mean over candidates in place of the best one. */
  readonly plScoreMean: number
  readonly coverage: number
  /** Of one candidate by itself, the mean over candidates: what a model that answers once covers. */
  readonly coverageMean: number
  /** Share of candidates within tau of some reference. */
  readonly precision: number
  /** Harmonic mean of coverage and precision. */
  readonly f1: number
  /** Coverage by the first M candidates only. */
  readonly atM: number
  /** Reading A: shares by assignment at a cosine. */
  readonly alignment: number
  /** Reading B: shares by a softmax. */
  readonly alignmentSoftmax: number
  readonly helpfulness: number
}

export interface SetOptions {
  /** Cosine from which a reference is covered; 0.8. */
  readonly tau?: number
  /** Cosine from which a candidate is assigned, and temperature of the softmax; 0.5. */
  readonly half?: number
}

const nothing: SetScores = {
  plScore: 0,
  plScoreMean: 0,
  coverage: 0,
  coverageMean: 0,
  precision: 0,
  f1: 0,
  atM: 0,
  alignment: 0,
  alignmentSoftmax: 0,
  helpfulness: 0
}

/** Coverage alone, at cosine tau: references [M, d], candidates [N, d]. 0 if either side is empty. */
export const pluralisticCoverage = (references: Rows, candidates: Rows, tau = 0.8): number => {
  if (references.rows === 0 || candidates.rows === 0) return 0
  const { best } = perReference(similarities(references, candidates))
  return best.filter((cos) => cos >= tau).length / references.rows
}

/**
 * Scores a set of candidates: unit embeddings of references [M, d] and candidates [N, d], votes [M]. Throws RangeError if
 * votes and references differ in number, or a vote is negative or not finite.
 */
export const setScores = (
  references: Rows,
  candidates: Rows,
  votes: ReadonlyArray<number>,
  { half = 0.5, tau = 0.8 }: SetOptions = {}
): SetScores => {
  if (votes.length !== references.rows) {
    throw new RangeError(`votes [${votes.length}] and references [${references.rows}, ${references.width}] must pair`)
  }
  const [worth, helpful] = [worths(votes), helpfulnessWeights(votes)]
  if (references.rows === 0 || candidates.rows === 0) return nothing
  const cos = similarities(references, candidates)
  const { best, means } = perReference(cos)
  const near = nearest(cos)
  const counts = best.map(() => 0)
  for (const { cos: closest, reference } of near) if (closest >= half) counts[reference]!++
  const assigned = counts.reduce((a, b) => a + b, 0)
  const top = Math.max(...means)
  const coverage = best.filter((closest) => closest >= tau).length / best.length
  const precision = near.filter(({ cos: closest }) => closest >= tau).length / near.length
  const early = { ...candidates, rows: Math.min(candidates.rows, references.rows) }
  return {
    plScore: weighted(worth, best),
    plScoreMean: weighted(worth, means),
    coverage,
    coverageMean: Array.from(cos.data).filter((value) => value >= tau).length / cos.data.length,
    precision,
    f1: coverage + precision === 0 ? 0 : (2 * coverage * precision) / (coverage + precision),
    atM: pluralisticCoverage(references, early, tau),
    alignment: assigned === 0 ? 0 : normalisedEntropy(counts.map((count) => count / assigned)),
    alignmentSoftmax: normalisedEntropy(worths(means.map((mean) => Math.exp((mean - top) / half)))),
    helpfulness: weighted(helpful, means)
  }
}

/** Mean cosine of the candidates [N, d] with what was asked [1, d]; 0 without candidates. */
export const relevance = (prompt: Rows, candidates: Rows): number => {
  if (candidates.rows === 0) return 0
  const { data } = similarities(prompt, candidates)
  return Array.from(data).reduce((sum, cos) => sum + cos, 0) / candidates.rows
}
