/**
 * The knobs of the stage `grpo`, how they name an objective, and what they cannot mean together.
 *
 * The loss is a choice: each has its own knobs, and `grpo.loss: cispo` stands for it with its defaults. To add one: a file in
 * `src/objectives`, a variant of `lossFields`, a case of `objectiveOf`, a line in the page.
 */
import { Schema } from "effect"
import * as Param from "../../dsl/param.ts"
import { type PolicyAggregation, policyAggregations } from "../../objectives/aggregate.ts"
import { cispo } from "../../objectives/cispo.ts"
import { copg } from "../../objectives/copg.ts"
import { dppo } from "../../objectives/dppo.ts"
import { grpo } from "../../objectives/grpo.ts"
import { gspo } from "../../objectives/gspo.ts"
import { klEstimators } from "../../objectives/kl.ts"
import type { TokenObjective } from "../../objectives/Objective.ts"
import type { PolicyGradientSettings } from "../../objectives/policyGradient.ts"
import { reinforce } from "../../objectives/reinforce.ts"
import type { AnyRewardPart } from "../../rewards/part.ts"
import { WeightSchedule } from "../../rewards/weight.ts"
import { samplingFields } from "../generate.ts"
import { keepingRefusals, openKeepingFields, unmeasuredRefusals } from "../keeping.ts"
import { loraField } from "../lora.ts"
import { optimizerFields } from "../optimizing.ts"
import { partNames, rewardSchema } from "../scoring.ts"

const aggregation = (value: PolicyAggregation) =>
  Param.literal(policyAggregations, value, "how token losses become one number: what they are divided by")

const clip = <Others extends Schema.Struct.Fields>(low: number, high: number, others: Others) =>
  Param.struct({
    low: Param.number(low, "how far below 1 the ratio may go", { min: 0, max: 1 }),
    high: Param.number(high, "how far above 1 the ratio may go", { min: 0 }),
    ...others
  })

const aboveOne = Schema.Finite.check(Schema.isGreaterThan(1))
const epsilon = Param.number(1e-6, "added to the standard deviation", { min: 0 })

const loss = Param.choice(
  "kind",
  {
    grpo: {
      clip: clip(0.2, 0.2, {
        dual: Param.optional(
          aboveOne,
          "dual clip: bounds the loss at negative advantages at this multiple; the paper's code has 3"
        )
      }),
      delta: Param.optional(aboveOne, "bounds the ratio in the unclipped term (INTELLECT-2)"),
      aggregation: aggregation("token-mean")
    },
    gspo: { clip: clip(3e-4, 4e-4, {}), aggregation: aggregation("sequence-mean") },
    cispo: {
      cap: Param.number(5, "largest importance weight", { above: 0 }),
      floor: Param.number(0, "smallest importance weight", { min: 0 }),
      aggregation: aggregation("token-mean")
    },
    dppo: {
      divergence: Param.literal(["tv", "kl"], "tv", "of drawing the token or not: total variation, or KL"),
      low: Param.number(0.2, "largest divergence downward", { min: 0 }),
      high: Param.number(0.2, "largest divergence upward", { min: 0 }),
      cap: Param.number(10, "largest importance weight", { above: 0 }),
      aggregation: aggregation("token-mean")
    },
    copg: { clip: clip(0.2, 0.2, {}), aggregation: aggregation("token-mean") },
    reinforce: { aggregation: aggregation("token-mean") }
  },
  "grpo",
  "the policy-gradient loss"
)

const advantage = Param.choice(
  "kind",
  {
    group: { epsilon },
    batch: { epsilon },
    centred: {},
    rloo: {},
    "reinforce++": {
      epsilon,
      gamma: Param.number(1, "discount from a token to the one before it", { min: 0, max: 1 })
    },
    "reinforce++-baseline": { epsilon }
  },
  "group",
  "how rewards become advantages"
)

const cut = {
  level: Param.literal(["token", "sequence"], "token", "a weight per token, or one per answer"),
  cap: Param.number(3, "largest weight", { above: 0 }),
  floor: Param.number(0, "smallest weight", { min: 0 })
}

const truncated = "; the ratio is that of the whole softmax, unless `correction` is set"

/** Metrics of an evaluation that a best policy is kept by: of a reward with these parts, those of a user's own among them. */
const measuredOf = (parts: ReadonlyArray<string>) => [
  "eval/reward",
  ...parts.map((name) => `eval/rewards/${name}/mean`)
]

/** The parameters of a GRPO stage whose reward has these parts. */
export const paramsOf = (parts: ReadonlyArray<AnyRewardPart>) =>
  Param.struct({
    steps: Param.int(30, "steps of rollout, scoring and updates", { min: 0 }),
    promptsPerStep: Param.int(16, "prompts per step, all distinct; a short last batch of a pass is dropped", {
      min: 1
    }),
    groupSize: Param.int(8, "answers per prompt", { min: 2 }),
    updatesPerStep: Param.int(2, "optimizer updates per step, on disjoint minibatches of the answers", { min: 1 }),
    ...samplingFields({ temperature: 1 }, { above: 0 }, truncated),
    ...optimizerFields({ learningRate: 3e-4, schedule: "constant", warmupSteps: 0, weightDecay: 0 }),
    loss,
    advantage,
    klCoefficient: Param.number(0, "weight of the KL to the reference policy; the paper's is 0.001", { min: 0 }),
    kl: Param.struct({
      estimator: Param.literal(klEstimators, "k3", "estimate of a token's KL"),
      in: Param.literal(["loss", "reward"], "loss", "added to the loss, or subtracted from the reward"),
      corrected: Param.boolean(false, "in the loss: multiplied by the ratio, which makes its gradient that of the KL")
    }),
    reference: Param.struct({
      syncEvery: Param.int(0, "steps after which the reference takes weights of the policy; 0: never", { min: 0 }),
      mix: Param.number(1, "share of the policy's weights in the reference's new ones; TRL's is 0.6", {
        above: 0,
        max: 1
      })
    }),
    entropyBonus: Param.number(0, "weight of the tokens' mean entropy, which is raised", { min: 0 }),
    maskTruncated: Param.boolean(false, "answers cut off at `maxNewTokens` are not learnt from"),
    overlong: Param.struct({
      buffer: Param.int(0, "tokens before `maxNewTokens` over which reward is lost; 0: none is", { min: 0 }),
      weight: Param.number(1, "reward lost by an answer of `maxNewTokens`", { min: 0 })
    }),
    dynamicSampling: Param.struct({
      rounds: Param.int(0, "most rounds of further prompts that replace groups without variance; 0: none", { min: 0 })
    }),
    correction: Param.choice(
      "kind",
      { none: {}, truncate: cut, mask: cut },
      "none",
      "importance weights between what drew the answers and the policy that is trained"
    ),
    ...loraField,
    rematerialise: Param.boolean(false, "recompute layers in the backward pass: less memory, a third more work"),
    ...openKeepingFields(measuredOf(parts.map(({ name }) => name))),
    reward: rewardSchema(parts)
  })

export type GrpoParams = ReturnType<typeof paramsOf>["Type"]

/** The objective that the parameters name. */
export const objectiveOf = (params: GrpoParams): TokenObjective => {
  const { advantage, correction, entropyBonus, kl, klCoefficient, loss, maskTruncated, maxNewTokens } = params
  const common: PolicyGradientSettings = {
    // With one update per generation the ratio is exactly 1; DPPO bounds the distance to what drew the answers even then.
    old: params.updatesPerStep === 1 && loss.kind !== "dppo" ? "detached" : "given",
    advantages: ofTokens(advantage) ? "token" : "row",
    aggregation: loss.aggregation,
    maxTokens: maxNewTokens,
    klCoefficient: kl.in === "loss" ? klCoefficient : 0,
    klEstimator: kl.estimator,
    klCorrected: kl.corrected,
    entropyBonus,
    weighted: correction.kind !== "none",
    masked: maskTruncated
  }
  switch (loss.kind) {
    case "grpo":
      return grpo({
        ...common,
        clipLow: loss.clip.low,
        clipHigh: loss.clip.high,
        ...(loss.clip.dual === undefined ? {} : { dualClip: loss.clip.dual }),
        ...(loss.delta === undefined ? {} : { delta: loss.delta })
      })
    case "gspo":
      return gspo({ ...common, clipLow: loss.clip.low, clipHigh: loss.clip.high })
    case "cispo":
      return cispo({ ...common, cap: loss.cap, floor: loss.floor })
    case "dppo":
      return dppo({ ...common, divergence: loss.divergence, low: loss.low, high: loss.high, cap: loss.cap })
    case "copg":
      return copg({ ...common, clipLow: loss.clip.low, clipHigh: loss.clip.high })
    case "reinforce":
      return reinforce(common)
  }
}

const isScheduled = Schema.is(Schema.Struct({ weight: WeightSchedule }))

/** Whether advantages are per token. */
const ofTokens = (advantage: GrpoParams["advantage"]): boolean =>
  advantage.kind === "reinforce++" || advantage.kind === "reinforce++-baseline"

/**
 * Combinations that mean nothing, each with the key to change: told before anything runs, and by the stage.
 * @param under the key that the parameters stand under, which begins each path; none where it is left out
 */
export const grpoRefusals = (
  params: GrpoParams,
  under?: string
): ReadonlyArray<{ readonly path: string; readonly message: string; readonly hint?: string }> =>
  under === undefined
    ? refusalsOf(params)
    : refusalsOf(params).map((refusal) => ({ ...refusal, path: `${under}.${refusal.path}` }))

const refusalsOf = (
  params: GrpoParams
): ReadonlyArray<{ readonly path: string; readonly message: string; readonly hint?: string }> => {
  const { advantage, klCoefficient, kl, loss, maxNewTokens, overlong, promptsPerStep, groupSize, updatesPerStep } =
    params
  const scheduled = Object.values(params.reward).some((section) => isScheduled(section))
  const decomposed = params.reward.aggregate === "normalize-then-sum"
  return [
    ...keepingRefusals(params),
    ...unmeasuredRefusals(params, measuredOf(partNames(params.reward))),
    ...(params.keepBest === "eval/reward" && scheduled
      ? [
          {
            path: "keepBest",
            message: "a weight of the reward follows a schedule, so rewards of different steps cannot be compared",
            hint: "keep the best by one part, eval/rewards/coverage/mean"
          }
        ]
      : []),
    ...(params.lora !== undefined && params.reference.syncEvery > 0 && params.reference.mix < 1
      ? [
          {
            path: "reference.mix",
            message: "a mixture of the factors of two adapters is no mixture of the policies",
            hint: "write reference.mix: 1, or train without lora"
          }
        ]
      : []),
    ...(updatesPerStep > promptsPerStep * groupSize
      ? [
          {
            path: "updatesPerStep",
            message: `a step has ${promptsPerStep * groupSize} answers, too few for ${updatesPerStep} updates on disjoint minibatches`
          }
        ]
      : []),
    ...(decomposed && advantage.kind !== "group"
      ? [
          {
            path: "advantage.kind",
            message: `\`reward.aggregate: normalize-then-sum\` normalises every part within its group, and has no meaning with ${advantage.kind}`,
            hint: "write advantage: group, or reward.aggregate: sum-then-normalize"
          }
        ]
      : []),
    ...(decomposed && klCoefficient > 0 && kl.in === "reward"
      ? [
          {
            path: "kl.in",
            message: "`reward.aggregate: normalize-then-sum` has no total that a KL could be subtracted from",
            hint: "write kl.in: loss"
          }
        ]
      : []),
    ...(kl.corrected && kl.in === "reward"
      ? [{ path: "kl.corrected", message: "a KL in the reward has no gradient to correct", hint: "write kl.in: loss" }]
      : []),
    ...(overlong.buffer > maxNewTokens
      ? [
          {
            path: "overlong.buffer",
            message: `${overlong.buffer} tokens are more than \`maxNewTokens\`, ${maxNewTokens}`
          }
        ]
      : []),
    ...(loss.kind === "grpo" && loss.delta !== undefined && loss.delta <= 1 + loss.clip.high
      ? [
          {
            path: "loss.delta",
            message: `${loss.delta} is not above 1 + clip.high, ${1 + loss.clip.high}: the clip would never take effect`
          }
        ]
      : []),
    ...(loss.kind === "cispo" && loss.floor >= loss.cap
      ? [{ path: "loss.floor", message: `${loss.floor} is not below \`loss.cap\`, ${loss.cap}` }]
      : []),
    ...(loss.kind === "copg" && loss.clip.low >= 1
      ? [{ path: "loss.clip.low", message: "must be below 1: the clip is on log-probabilities" }]
      : [])
  ]
}
