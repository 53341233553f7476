/**
 * Preference training judged on held-out pairs, by what the policy that came in said of them:
 *
 *     margin of a pair   = [log p - log p_ref](chosen) - [log p - log p_ref](rejected)     DPO's implied reward at beta 1
 *     eval_rewards/margins, eval_rewards/accuracies    their mean, and how many are above 0
 *     eval_loss                                        the loss that is trained, where it is one of pairs
 */
import type { Refusal } from "../../dsl/Pipeline.ts"
import { lossOf } from "../../objectives/lossOf.ts"
import type { TokenObjective } from "../../objectives/Objective.ts"
import { type KeepingParams, keepingRefusals } from "../keeping.ts"
import { type LossParams, needsOf } from "./losses.ts"
import type { Example } from "./rows.ts"
import { batchValues } from "./values.ts"

export const evaluated = {
  eval_loss: "lower",
  "eval_rewards/accuracies": "higher",
  "eval_rewards/margins": "higher",
  "eval/kept_step": "none"
} as const

/** What the best policy may be kept by. */
export const keptBy = ["eval_loss", "eval_rewards/accuracies", "eval_rewards/margins"] as const

/** What the parameters cannot mean, with the key to change, under a pipeline's section. */
export const preferenceRefusals = (
  params: KeepingParams & { readonly loss: LossParams },
  under?: string
): ReadonlyArray<Refusal> => {
  const { data } = needsOf(params.loss)
  return [
    ...keepingRefusals(params),
    ...(params.keepBest === "eval_loss" && data !== "pairs"
      ? [
          {
            path: "keepBest",
            message: `the loss \`${params.loss.kind}\` learns from ${data === "ranked" ? "rankings" : "single judgements"}, and what is held out are pairs: there is no eval_loss`,
            hint: "keep the best by eval_rewards/accuracies or eval_rewards/margins"
          }
        ]
      : [])
  ].map((refusal) => (under === undefined ? refusal : { ...refusal, path: `${under}.${refusal.path}` }))
}

const sum = (values: ArrayLike<number>) => Array.from(values).reduce((total, value) => total + value, 0)

/** Log-probabilities of the answers of pairs [2 * pairs][tokens], now and under the policy that came in. */
export interface HeldOut {
  readonly now: ReadonlyArray<Float32Array>
  readonly before: ReadonlyArray<Float32Array>
}

/** Accuracy and margin of held-out pairs. Pairs must be there. */
export const judged = ({ before, now }: HeldOut) => {
  const ratio = (k: number) => sum(now[k]!) - sum(before[k]!)
  const margins = Array.from({ length: now.length / 2 }, (_, pair) => ratio(2 * pair) - ratio(2 * pair + 1))
  return {
    "eval_rewards/accuracies": margins.filter((margin) => margin > 0).length / margins.length,
    "eval_rewards/margins": sum(margins) / margins.length
  }
}

/** The loss of held-out pairs; none where the loss is none of pairs. */
export const heldOutLoss = (
  loss: LossParams,
  objective: TokenObjective,
  pairs: ReadonlyArray<Example>,
  { before, now }: HeldOut,
  tokenWeights: ReadonlyArray<ArrayLike<number>>
): { readonly eval_loss?: number } =>
  needsOf(loss).data === "pairs"
    ? { eval_loss: lossOf(objective, now, batchValues(loss, pairs, { refLogprobs: before, tokenWeights, kl: 0 })) }
    : {}
