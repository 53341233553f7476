/**
 * Coverage by natural-language inference (Modular Pluralism, arXiv 2406.15951; OP-GRPO's `nli/eva.py`).
 *
 *     covered_v = max over answer sentences s of P(entailment | premise = explanation of reference v, hypothesis = s)
 *     score     = mean over references of covered_v                   (0 if either side is empty)
 *     accuracy  = share of answers with score > 0.33
 */

/** Entailment probabilities of one answer: [references, sentences], row-major. */
export interface Entailment {
  readonly references: number
  readonly sentences: number
  readonly probabilities: ArrayLike<number>
}

/** The score above which an answer counts as covering. */
export const nliThreshold = 0.33

/** The score of one answer, in [0, 1]. Throws RangeError if there are not references x sentences probabilities. */
export const nliScore = ({ references, sentences, probabilities }: Entailment): number => {
  if (probabilities.length !== references * sentences) {
    throw new RangeError(`probabilities [${probabilities.length}] are not [${references}, ${sentences}]`)
  }
  if (references === 0 || sentences === 0) return 0
  let sum = 0
  for (let row = 0; row < references; row++) {
    let best = 0
    for (let column = 0; column < sentences; column++) best = Math.max(best, probabilities[row * sentences + column]!)
    sum += best
  }
  return sum / references
}

/** Whether a score counts as covering, as 0 or 1: `eval/nli/accuracy` of one answer. */
export const nliAccuracy = (score: number, threshold: number = nliThreshold): number => (score > threshold ? 1 : 0)
