/**
 * The behaviour policy's odds of what a log holds: what importance weights divide by.
 *
 * Without a policy the log's own are checked. With one they are scored by it, with its own tokenizer: the policy that
 * generated the responses (POPE's RQ1), or one fine-tuned on them (POPE's GPT2-Medium: `responses` and `sft` make it;
 * reconstructed, the paper says no more than "developed based on the pre-trained GPT2-Medium").
 *
 *     log p0(a | x) = sum_t log pi0(a_t | x, a_<t)      at the temperature the responses were drawn with, end token included
 */
import { Effect } from "effect"
import { optional } from "../artifact/Kind.ts"
import { LoggedSlates, Policy } from "../artifact/kinds.ts"
import type { LoggedResponse, LoggedSlate } from "../data/records.ts"
import * as Param from "../dsl/param.ts"
import * as Stage from "../dsl/Stage.ts"
import { Task } from "../dsl/Task.ts"
import * as PolicyModel from "../models/Policy.ts"
import { behaviourOf, scoreSlates, UnusableLog } from "./ips/settings.ts"

export const BehaviourParams = Param.struct({
  temperature: Param.number(1, "temperature that the responses were drawn with, without top-p or top-k", { above: 0 }),
  missing: Param.literal(
    ["refuse", "skip"],
    "refuse",
    "responses whose odds are missing (a probability of zero has no logarithm): an error, or left out and counted"
  ),
  keepTokens: Param.boolean(false, "also keep every token's log-probability")
})

export const behaviour = Stage.make("behaviour", {
  module: import.meta.url,
  version: 1,
  params: BehaviourParams,
  inputs: { slates: LoggedSlates, policy: optional(Policy) },
  outputs: { slates: LoggedSlates },
  device: true,
  metrics: {
    "behaviour/logprob": "none",
    "behaviour/tokens": "none",
    "behaviour/skipped": "lower",
    "behaviour/slates_dropped": "lower"
  },
  run: Effect.fn("stage.behaviour")(function* ({ inputs, outputs, params }) {
    const task = yield* Task
    const slates = yield* inputs.slates.rows
    const policy = inputs.policy && (yield* PolicyModel.load(inputs.policy.dir))
    const score = policy && (yield* scoreSlates(policy, slates, { temperature: params.temperature }))
    const kept: Array<LoggedSlate> = []
    let [responses, skipped, logprobs, tokens] = [0, 0, 0, 0]
    for (const slate of slates) {
      const whole: Array<LoggedResponse> = []
      for (const [k, response] of slate.responses.entries()) {
        const odds = score === undefined ? behaviourOf(response) : score(slate.prompt, response.text)
        if (odds === undefined || !Number.isFinite(odds.logprob)) {
          if (params.missing === "skip") {
            skipped++
            continue
          }
          return yield* new UnusableLog({
            stage: "behaviour",
            slate: slate.id,
            detail: `response ${k} has no log-probability under the behaviour policy (\`logprob\` and \`tokens\`); score the log by a policy, or leave such responses out by \`behaviour.missing: skip\``
          })
        }
        const [first, ...rest] = score === undefined ? [] : score(slate.prompt, response.text).logprobs
        const { tokenLogprobs: given, ...others } = response
        const own = given !== undefined && score === undefined ? { tokenLogprobs: given } : {}
        const each = params.keepTokens && first !== undefined ? { tokenLogprobs: [first, ...rest] as const } : own
        whole.push({ ...others, logprob: Math.min(0, odds.logprob), tokens: odds.tokens, ...each })
        responses++
        logprobs += odds.logprob
        tokens += odds.tokens
      }
      const [first, ...rest] = whole
      if (first === undefined) continue
      // The odds of a known pool are those of the policy that the log was drawn from, which another one's would contradict.
      const { truth, ...known } = slate
      kept.push({ ...known, responses: [first, ...rest], ...(truth && score === undefined ? { truth } : {}) })
    }
    if (kept.length === 0) {
      return yield* new UnusableLog({
        stage: "behaviour",
        slate: slates[0]?.id ?? "",
        detail: "no response of the log has a log-probability under the behaviour policy: score the log by a policy"
      })
    }
    yield* outputs.slates.write(kept)
    yield* task.metrics(0, {
      "behaviour/logprob": logprobs / responses,
      "behaviour/tokens": tokens / responses,
      "behaviour/skipped": skipped,
      "behaviour/slates_dropped": slates.length - kept.length
    })
  })
})
