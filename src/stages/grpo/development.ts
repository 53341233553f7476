/**
 * The reward of a policy in training on prompts that it does not train on: the same rollout and the same scoring as a step's,
 * one answer a prompt. Random numbers are named by prompt and position and not by the step, so that two evaluations differ by
 * the policy alone.
 */
import { Effect } from "effect"
import type { Situation } from "../../data/records.ts"
import type { Policy } from "../../models/Policy.ts"
import { rollOut, samplingOf } from "../generate.ts"
import { type Estimator, meanScores, type Reward } from "../scoring.ts"
import type { GrpoParams } from "./params.ts"

/** Prompts answered in one go; results do not depend on it. */
const chunk = 64

const mean = (values: ReadonlyArray<number>) => values.reduce((sum, value) => sum + value, 0) / values.length

/** Metrics `eval/...` of the policy as it is after step `k`; scheduled weights are those of that step. */
export const measureOn = <E, R>(
  {
    estimator,
    policy,
    reward
  }: { readonly estimator: Estimator<E, R>; readonly policy: Policy; readonly reward: Reward },
  situations: ReadonlyArray<Situation>,
  params: GrpoParams,
  seed: number
) =>
  Effect.fn("grpo.development")(function* (k: number) {
    const byId = new Map(situations.map((situation) => [situation.id, situation]))
    const scores: Array<Effect.Success<ReturnType<typeof reward.score>>[number]> = []
    const answers: Array<Effect.Success<ReturnType<typeof rollOut>>[number]> = []
    for (let at = 0; at < situations.length; at += chunk) {
      const drawn = yield* rollOut(
        policy,
        situations.slice(at, at + chunk),
        samplingOf(params, seed, "grpo/development", 1)
      )
      answers.push(...drawn)
      const asked = drawn.map(({ promptId, text }) => {
        const situation = byId.get(promptId)!
        return { situation, chat: policy.chat.render(situation.prompt) ?? situation.prompt, completion: text }
      })
      scores.push(...(yield* reward.score(estimator, asked, k)))
    }
    const metrics = {
      ...meanScores(scores),
      "completions/mean_length": mean(answers.map(({ ids }) => ids.length)),
      "completions/clipped_ratio": mean(answers.map(({ finish }) => (finish === "length" ? 1 : 0)))
    }
    return Object.fromEntries(Object.entries(metrics).map(([name, value]) => [`eval/${name}`, value]))
  })
