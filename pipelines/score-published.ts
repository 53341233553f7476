/**
 * Published answers of others, scored against OP-V2's references as OP-GRPO's authors score them
 * (`summary_eval/eval_pipeline.py`): references and candidates embedded with their "In the perspective of NAME, ", without
 * keyword masking, and matched one to one at a cosine.
 *
 *     data ─┬────────────┐
 *           └─> answers ─┴─> evaluate <─ encoder
 */

import { Schema } from "effect"
import * as Pipeline from "overtone/dsl/Pipeline"
import * as Param from "overtone/dsl/param"
import { encoder } from "overtone/stages/encoder"
import { evaluate } from "overtone/stages/evaluate"
import { missingFiles, published, System, stratum } from "overtone/stages/published"
import { uncalibrated } from "./refusals.ts"

const params = {
  encoder: Param.model(
    "hf://sentence-transformers/all-MiniLM-L6-v2@main",
    "the similarity estimator: a sentence encoder's folder, or hf://org/name@revision"
  ),
  data: Param.file("the folder of the published files"),
  stratum: Param.string("5p", "which test situations: 5p, those with 5 perspectives; 7p; ..."),
  limit: Param.optional(Schema.Int.check(Schema.isGreaterThan(0)), "use the first situations of the stratum only"),
  answers: Param.withDefault(System, "op-grpo", "whose answers"),
  evaluate: evaluate.params
}

export default Pipeline.make(
  "score-published",
  params,
  (p) => {
    const source = { data: p.data, stratum: p.stratum, ...(p.limit === undefined ? {} : { limit: p.limit }) }
    const { situations } = stratum({}, source, { node: "data" })
    const { completions } = published({ situations }, { ...source, system: p.answers }, { node: "answers" })
    const { encoder: estimator } = encoder({}, { path: p.encoder }, { node: "encoder" })
    return evaluate({ completions, situations, estimator }, p.evaluate)
  },
  {
    check: ({ answers, data, encoder: model, evaluate: { threshold }, stratum: of }) => {
      const { missing, strata } = missingFiles(data.path, of, answers)
      const hint =
        strata.length === 0 ? "no stratum is there in full: check `data`" : `there in full: ${strata.join(", ")}`
      return [
        ...(missing.length === 0
          ? []
          : [{ path: "stratum", message: `${data.path} has no ${missing.join(", ")}`, hint }]),
        ...uncalibrated(model.path, threshold)
      ]
    }
  }
)
