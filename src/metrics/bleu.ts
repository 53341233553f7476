/**
 * BLEU of one sentence against several references, and Self-BLEU.
 *
 *     BLEU-4 = BP exp( (1/4) sum_{n=1..4} log p_n ),   BP = 1 if c > r else exp(1 - r / c)
 *     p_n    = sum over the hypothesis' n-grams of min(count, largest count in one reference) / its n-grams
 *     Self-BLEU = mean over outputs of BLEU-4 against all the other outputs
 *
 * c: length of the hypothesis, r: the reference length nearest to it, the shorter among equals. A precision without a
 * match is 0.1 / its n-grams (Chen and Cherry 2014, method 1), and no matching word at all is 0: what NLTK's
 * `sentence_bleu` with `SmoothingFunction().method1` does, and Texygen (arXiv 1802.01886) with it. BLEU: Papineni et al. 2002.
 */
import { ngramCounts } from "./diversity.ts"

type Tokens = ReadonlyArray<string>

const longest = 4
const epsilon = 0.1

/** n-gram counts of one text for n = 1..4. */
type Profile = ReadonlyArray<ReadonlyMap<string, number>>
const profile = (tokens: Tokens): Profile => Array.from({ length: longest }, (_, k) => ngramCounts(tokens, k + 1))

interface Text {
  readonly length: number
  readonly profile: Profile
}
const textOf = (tokens: Tokens): Text => ({ length: tokens.length, profile: profile(tokens) })

const score = (hypothesis: Text, references: ReadonlyArray<Text>): number => {
  if (hypothesis.length === 0 || references.length === 0) return 0
  let logs = 0
  for (let n = 1; n <= longest; n++) {
    let [hits, all] = [0, 0]
    for (const [ngram, count] of hypothesis.profile[n - 1]!) {
      const most = references.reduce((top, reference) => Math.max(top, reference.profile[n - 1]!.get(ngram) ?? 0), 0)
      hits += Math.min(count, most)
      all += count
    }
    if (n === 1 && hits === 0) return 0
    // A hypothesis of under n words has no n-gram: one, unmatched.
    logs += Math.log((hits === 0 ? epsilon : hits) / Math.max(1, all)) / longest
  }
  const c = hypothesis.length
  const r = references
    .map(({ length }) => length)
    .reduce((best, length) => {
      const [near, nearest] = [Math.abs(length - c), Math.abs(best - c)]
      return near < nearest || (near === nearest && length < best) ? length : best
    })
  return (c > r ? 1 : Math.exp(1 - r / c)) * Math.exp(logs)
}

/** BLEU-4 of a tokenised hypothesis, in [0, 1]; 0 if it, or the list of references, is empty. */
export const sentenceBleu = (hypothesis: Tokens, references: ReadonlyArray<Tokens>): number =>
  score(textOf(hypothesis), references.map(textOf))

/** Mean BLEU-4 of each output against the others, in [0, 1]; 0 for under two outputs: there is nothing to be like. */
export const selfBleu = (outputs: ReadonlyArray<Tokens>): number => {
  if (outputs.length < 2) return 0
  const texts = outputs.map(textOf)
  return texts.reduce((sum, text, i) => sum + score(text, texts.toSpliced(i, 1)), 0) / texts.length
}
