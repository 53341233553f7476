/**
 * How different the candidates of one prompt are from each other.
 *
 *     diversity   1 - (2 / (N (N - 1))) sum_{n < n'} cos(e(y_n), e(y_n'))        POPE, arXiv 2509.19333, eq. 25
 *     Distinct-n  distinct n-grams / n-grams, over all candidates together       Li et al., arXiv 1510.03055
 *
 * Both are 0 where there is nothing to tell apart: under two candidates, no n-gram. Distinct-n falls as texts grow longer,
 * whoever wrote them: compare it at equal length. The papers print x100.
 */
import { type Rows, similarities } from "../rewards/matching.ts"

/** In [0, 2]; `candidates` are unit embeddings [N, d]. */
export const embeddingDiversity = (candidates: Rows): number => {
  const count = candidates.rows
  if (count < 2) return 0
  const { data } = similarities(candidates, candidates)
  let sum = 0
  for (let i = 0; i < count; i++) for (let j = i + 1; j < count; j++) sum += data[i * count + j]!
  return 1 - (2 * sum) / (count * (count - 1))
}

/**
 * Words (letters and digits, with inner apostrophes and hyphens) and single other marks, in order; case is kept. Not
 * NLTK's tokenizer, which takes English contractions apart.
 */
export const wordsAndMarks = (text: string): ReadonlyArray<string> =>
  text.match(/[\p{L}\p{N}\p{M}]+(?:['’-][\p{L}\p{N}\p{M}]+)*|[^\s\p{L}\p{N}\p{M}]/gu) ?? []

/** How often each n-gram occurs, keyed by its tokens. */
export const ngramCounts = (tokens: ReadonlyArray<string>, n: number): ReadonlyMap<string, number> => {
  if (!(Number.isInteger(n) && n >= 1)) throw new RangeError(`n-grams have at least one token, not ${n}`)
  const counts = new Map<string, number>()
  for (let i = 0; i + n <= tokens.length; i++) {
    const key = tokens.slice(i, i + n).join("\u0000")
    counts.set(key, (counts.get(key) ?? 0) + 1)
  }
  return counts
}

/** In [0, 1]: tokens of each candidate; n-grams do not cross candidates. */
export const distinct = (candidates: ReadonlyArray<ReadonlyArray<string>>, n: number): number => {
  const seen = new Set<string>()
  let all = 0
  for (const tokens of candidates) {
    for (const [ngram, count] of ngramCounts(tokens, n)) {
      seen.add(ngram)
      all += count
    }
  }
  return all === 0 ? 0 : seen.size / all
}
