/**
 * Cross-entropy over classes: the natural-language-inference classifier (entailment, neutral, contradiction).
 *
 *   loss = mean over rows of -log softmax(logits)[label]
 *
 * Batch tensor: `labels` i32 [rows]. Logs: `accuracy`.
 */
import { crossEntropy } from "../tensor/composites/crossEntropy.ts"
import { cast, div, equal } from "../tensor/ops/elementwise.ts"
import { argMax, reduceSum } from "../tensor/ops/reduce.ts"
import { inputOf, type LogitObjective } from "./Objective.ts"

export const classification = (): LogitObjective => ({
  name: "classification",
  inputs: { labels: { per: "row", dtype: "i32" } },
  build: ({ logits, totalRows }, inputs) => {
    const labels = inputOf("classification", inputs, "labels")
    return {
      loss: div(reduceSum(crossEntropy(logits, labels)), totalRows),
      logs: { accuracy: div(reduceSum(cast(equal(argMax(logits, 1), labels), "f32")), totalRows) }
    }
  }
})
