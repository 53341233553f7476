/** What preference losses are fed beside log-probabilities, of a batch or of held-out pairs. */
import type { BatchValues } from "../../models/batchInputs.ts"
import type { LossParams } from "./losses.ts"
import type { Example } from "./rows.ts"

const sum = (values: ArrayLike<number>) => Array.from(values).reduce((total, value) => total + value, 0)

/** What models say of a batch's answers, in the order of its sequences. */
export interface Known {
  /** Log-probabilities under the policy that came in; empty where the loss has no reference. */
  readonly refLogprobs: ReadonlyArray<Float32Array>
  /** Of TIS-DPO. */
  readonly tokenWeights: ReadonlyArray<ArrayLike<number>>
  /** Of KTO. */
  readonly kl: number
}

/** Values by name, of every loss: an objective takes those that it asks for. */
export const batchValues = (
  loss: LossParams,
  examples: ReadonlyArray<Example>,
  { kl, refLogprobs, tokenWeights }: Known
): Readonly<Record<string, BatchValues>> => {
  const perAnswer = (value: (example: Example, place: number) => number) =>
    examples.flatMap((example) => example.sequences.map((_, place) => value(example, place)))
  return {
    refLogprobs,
    chosenTokens: sum(examples.map(({ sequences }) => sequences[0]!.completion.length)),
    weights: perAnswer(({ weight }) => weight),
    offsets: perAnswer(({ margin }) => ("offset" in loss ? loss.offset : 0) * margin),
    labels: perAnswer(({ label }) => (label ? 1 : 0)),
    desirable: examples.filter(({ label }) => label).length,
    kl,
    present: perAnswer(({ answers }, place) => (place < answers.length ? 1 : 0)),
    relevance: perAnswer(({ relevance }, place) => relevance[place] ?? 0),
    tokenWeights
  }
}
