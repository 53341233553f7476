/**
 * POPE and its baselines on a log of one's own, or on Amazon Reviews 2023 (arXiv 2509.19333, section 5): a policy from a checkpoint,
 * a behaviour policy fine-tuned on the logged responses (POPE's GPT2-Medium; it has its own tokenizer) unless the log has its odds,
 * training by `method`, judged by the most-voted responses of held-out queries and by their slates.
 *
 *     data ─┬─> fit.data ─> fit ─> behaviour ─> ips ───────────┬─> answers ─> evaluate
 *           ├─> lessons ─> topVoted, preference (the others) ──┘      ^
 *           └─> references ───────────────────────────────────────────┘
 */
import * as Pipeline from "overtone/dsl/Pipeline"
import * as Param from "overtone/dsl/param"
import { basePolicy } from "overtone/stages/basePolicy"
import { BehaviourParams, behaviour } from "overtone/stages/behaviour"
import { EncoderParams, encoder } from "overtone/stages/encoder"
import { EvaluateParams, evaluate } from "overtone/stages/evaluate"
import { EvaluateOpeParams, evaluateOpe } from "overtone/stages/evaluateOpe"
import { generate } from "overtone/stages/generate"
import { opeRefusals } from "overtone/stages/ips/settings"
import { ReferencesParams, references } from "overtone/stages/references"
import { responses } from "overtone/stages/responses"
import { SftParams, sft } from "overtone/stages/sft"
import { AmazonParams, amazon, SlateFileParams, slateFile } from "overtone/stages/slateFiles"
import { learningParams, learningRefusals, learnt, votes } from "./learning.ts"
import { nothingHeld, uncalibrated, unmeasurable } from "./refusals.ts"

const params = {
  data: Param.choice(
    "source",
    { file: SlateFileParams, amazon: AmazonParams },
    "file",
    "a log of one's own, or Amazon Reviews 2023"
  ),
  policy: Param.model(
    "hf://HuggingFaceTB/SmolLM2-135M-Instruct@main",
    "the policy: a folder, or hf://org/name@revision"
  ),
  behaviourPolicy: Param.model(
    "hf://HuggingFaceTB/SmolLM2-135M@main",
    "what is fine-tuned on the logged responses where `fit.steps` > 0; POPE's is GPT2-Medium"
  ),
  encoder: EncoderParams,
  fit: SftParams,
  behaviour: BehaviourParams,
  votes,
  ...learningParams,
  references: ReferencesParams,
  evaluate: EvaluateParams,
  ope: EvaluateOpeParams
}

export default Pipeline.make(
  "pope-logged",
  params,
  (p) => {
    const log = p.data.source === "amazon" ? amazon({}, p.data) : slateFile({}, p.data)
    const held = log[p.evaluate.split]
    const checkpoint = (path: typeof p.policy, node: string) =>
      basePolicy({}, { source: "folder", path }, { node }).policy
    const data = () => responses({ slates: log.train }, {}, { node: "fit.data" }).data
    const stand =
      p.fit.steps === 0
        ? undefined
        : sft({ policy: checkpoint(p.behaviourPolicy, "behaviourPolicy"), data: data() }, p.fit).policy
    const odds = (slates: typeof held) => behaviour({ slates, policy: stand }, p.behaviour).slates
    const train = p.votes === "equal" ? log.equalVotes : log.train
    const logOf = (slates: typeof held) => ({ slates, weighed: () => odds(slates) })
    const policy = learnt(p, checkpoint(p.policy, "policy"), logOf(train), () => logOf(log.development))
    const { situations } = references({ slates: held }, p.references)
    const { encoder: estimator } = encoder({}, p.encoder)
    const { completions } = generate({ policy, situations }, p.evaluate)
    return {
      policy,
      completions,
      report: evaluate({ completions, situations, estimator }, p.evaluate).report,
      value: evaluateOpe({ slates: odds(held), policy, completions }, p.ope, { node: "evaluate" }).report
    }
  },
  {
    check: (p) => [
      ...learningRefusals(p),
      ...opeRefusals("ope", p.ope),
      ...unmeasurable("fit", p.fit),
      ...(["ips", "preference"] as const).flatMap((node) =>
        nothingHeld(node, p[node], {
          count: p.data.development,
          key: "data.development",
          rows: "slates of development prompts"
        })
      ),
      ...uncalibrated(p.encoder.path.path, p.evaluate.threshold)
    ]
  }
)
