/**
 * How well similarities, or classes, agree with judgements: triplet accuracy, accuracy and F1 at a threshold, the
 * threshold that is best on judged pairs, and accuracy with macro-F1 of class predictions.
 */

/** Share of triplets whose positive is nearer to the anchor than their negative (ties count as wrong); NaN if none. */
export const tripletAccuracy = (positives: ArrayLike<number>, negatives: ArrayLike<number>): number => {
  if (positives.length !== negatives.length) {
    throw new RangeError(`similarities of positives [${positives.length}] and negatives [${negatives.length}]`)
  }
  let right = 0
  for (let i = 0; i < positives.length; i++) if (positives[i]! > negatives[i]!) right++
  return right / positives.length
}

/** Similarities of pairs and whether each was judged the same. */
export interface JudgedSimilarities {
  readonly similarities: ArrayLike<number>
  readonly same: ArrayLike<boolean>
}

/** What "same if similarity >= threshold" gets right. F1, precision and recall are 0 where undefined. */
export interface Agreement {
  readonly threshold: number
  readonly accuracy: number
  readonly precision: number
  readonly recall: number
  readonly f1: number
}

const check = ({ similarities, same }: JudgedSimilarities) => {
  if (similarities.length !== same.length || same.length === 0) {
    throw new RangeError(
      `similarities [${similarities.length}] and judgements [${same.length}] must pair and not be empty`
    )
  }
}

const agreement = (threshold: number, hits: number, said: number, positives: number, total: number): Agreement => ({
  threshold,
  accuracy: (total - positives - said + 2 * hits) / total,
  precision: said === 0 ? 0 : hits / said,
  recall: positives === 0 ? 0 : hits / positives,
  f1: said + positives === 0 ? 0 : (2 * hits) / (said + positives)
})

/** Agreement of "similarity >= threshold" with the judgements. */
export const agreementAt = (judged: JudgedSimilarities, threshold: number): Agreement => {
  check(judged)
  let hits = 0
  let said = 0
  let positives = 0
  for (let i = 0; i < judged.same.length; i++) {
    const above = judged.similarities[i]! >= threshold
    if (above) said++
    if (judged.same[i]!) positives++
    if (above && judged.same[i]!) hits++
  }
  return agreement(threshold, hits, said, positives, judged.same.length)
}

/**
 * The threshold of greatest accuracy (or F1) on judged pairs. Thresholds tried lie midway between neighbouring
 * similarities, below all and above all; among equals the one with the widest gap is taken, then the lowest.
 */
export const calibrateThreshold = (judged: JudgedSimilarities, by: "accuracy" | "f1"): Agreement => {
  check(judged)
  const order = Array.from(judged.same, (same, i) => ({ same, similarity: judged.similarities[i]! }))
  if (order.some(({ similarity }) => Number.isNaN(similarity))) throw new RangeError("a similarity is NaN")
  order.sort((a, b) => a.similarity - b.similarity)
  const total = order.length
  const positives = order.filter(({ same }) => same).length
  const margin = 1e-6
  let hits = positives
  let best = agreement(order[0]!.similarity - margin, hits, total, positives, total)
  let widest = 0
  for (let i = 0; i < total; i++) {
    if (order[i]!.same) hits--
    const here = order[i]!.similarity
    const next = i + 1 < total ? order[i + 1]!.similarity : here + 2 * margin
    if (next === here) continue
    const tried = agreement((here + next) / 2, hits, total - i - 1, positives, total)
    const gap = i + 1 < total ? next - here : 0
    if (tried[by] > best[by] || (tried[by] === best[by] && gap > widest)) {
      best = tried
      widest = gap
    }
  }
  return best
}

/** Accuracy and macro-F1 (over the classes that occur among truths) of predicted classes; NaN without rows. */
export const classAgreement = (
  predicted: ReadonlyArray<string>,
  truth: ReadonlyArray<string>
): { readonly accuracy: number; readonly macroF1: number } => {
  if (predicted.length !== truth.length) {
    throw new RangeError(`predictions [${predicted.length}] and truths [${truth.length}] must pair`)
  }
  const classes = [...new Set(truth)]
  const right = predicted.filter((label, i) => label === truth[i]).length
  const f1 = classes.map((name) => {
    const hits = predicted.filter((label, i) => label === name && truth[i] === name).length
    const said = predicted.filter((label) => label === name).length
    return (2 * hits) / (said + truth.filter((label) => label === name).length)
  })
  return { accuracy: right / truth.length, macroF1: f1.reduce((sum, value) => sum + value, 0) / classes.length }
}
