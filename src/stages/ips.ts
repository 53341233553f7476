/**
 * POPE (arXiv 2509.19333; `docs/ope.md`): a policy is trained on logged slates by raising an importance-weighted estimate
 * of its value, collaborative utility plus lambda times diversity.
 *
 *     maximise  mean over slates of  W (1/K) sum_k r_k,   W = prod_k p_k / p0_k   or   (1/K) sum_k w_k r_k
 *
 * by AdamW on minibatches of slates; no answer is ever drawn. Weights are cut at `clip` in log space unless `estimator: plain`.
 * `self-normalised` takes a pass before each update for the batch's sum of weights and its value; `doubly-robust` adds a
 * cross-fitted model of the votes (`ope/rounds.ts`), a baseline that plain weighting lacks: with rewards of at least 0, plain
 * V rises by making every logged response likelier. `log_ratio/top` against `log_ratio/bottom` shows whether more happened.
 * With `evaluateEvery` V is measured on held-out slates too (`ips/measuring.ts`), and the best policy by it may be kept.
 *
 * The paper publishes no formula in readable form, nor whether it clipped: what is reconstructed is named so in the options.
 */
import { Effect } from "effect"
import { optional } from "../artifact/Kind.ts"
import { Checkpoint, LoggedSlates, Policy } from "../artifact/kinds.ts"
import * as Param from "../dsl/param.ts"
import * as Stage from "../dsl/Stage.ts"
import { ips as objective } from "../objectives/ips.ts"
import { bucketPaddingMetrics } from "./bucketPadding.ts"
import { evaluated, keptBy, measureOn } from "./ips/measuring.ts"
import { prepare, propensitiesOf, rowsOf } from "./ips/prepared.ts"
import { batchReport, batchTotals } from "./ips/report.ts"
import { checkOpe, opeFields, refusing } from "./ips/settings.ts"
import { developmentRows, keepingFields, openKeeper } from "./keeping.ts"
import { loraField, openTrained } from "./lora.ts"
import { finalOf, growing, optimizerFields, optimizerSettings } from "./optimizing.ts"
import { stepRows } from "./order.ts"
import { runSteps } from "./steps.ts"

export const IpsParams = Param.struct({
  steps: Param.int(60, "optimizer updates", { min: 0 }),
  batchSize: Param.int(16, "slates per update, all distinct; a short last batch of a pass is dropped", { min: 1 }),
  ...opeFields,
  estimator: Param.literal(
    ["plain", "clipped", "self-normalised", "doubly-robust"],
    "clipped",
    "what is maximised; the paper mentions neither clipping nor a baseline (plain). self-normalised and doubly-robust are clipped too"
  ),
  ...optimizerFields({ learningRate: 1e-4, schedule: "constant", warmupSteps: 0, weightDecay: 0 }),
  ...loraField,
  rematerialise: Param.boolean(false, "recompute layers in the backward pass: less memory, a third more work"),
  ...keepingFields(keptBy)
})

export const ips = Stage.make("ips", {
  module: import.meta.url,
  version: 1,
  params: IpsParams,
  inputs: { policy: Policy, slates: LoggedSlates, development: optional(LoggedSlates) },
  outputs: { policy: Policy, checkpoint: Checkpoint },
  seeded: true,
  device: true,
  grows: growing,
  metrics: {
    loss: "lower",
    "ope/value": "higher",
    "ope/ess": "higher",
    "ope/ess_share": "higher",
    "ope/max_weight": "none",
    "ope/clipped": "none",
    "ope/overflowed": "lower",
    "log_ratio/mean": "none",
    "log_ratio/top": "higher",
    "log_ratio/bottom": "lower",
    grad_norm: "none",
    learning_rate: "none",
    updates: "none",
    ...evaluated,
    "perf/tokens_per_second": "none",
    "perf/step_seconds": "none",
    "perf/padding": "none",
    ...bucketPaddingMetrics
  },
  run: Effect.fn("stage.ips")(function* ({ inputs, outputs, params, seed }) {
    yield* checkOpe("ips", params)
    const held = yield* developmentRows("ips", params, inputs.development)
    const policy = yield* openTrained(inputs.policy.dir, params, seed)
    const slates = yield* inputs.slates.rows
    const { groupSize, prepared } = yield* prepare(policy, slates, params)
    const measuring = held.length === 0 ? undefined : yield* measureOn(policy, held, params)
    const { clip, estimator } = params
    const loss = yield* refusing("ips", "", () =>
      objective({
        ...params,
        groupSize,
        estimator: estimator === "clipped" ? "plain" : estimator,
        clip: estimator === "plain" ? Number.POSITIVE_INFINITY : clip
      })
    )
    const trainer = yield* policy.trainer(loss, optimizerSettings(params, params.steps), {
      rematerialise: params.rematerialise
    })
    const order = stepRows(seed, "ips", prepared.length, params.batchSize)

    const step = Effect.fnUntraced(function* (k: number) {
      const batch = order(k).map((row) => prepared[row]!)
      const sequences = batch.flatMap((slate) => slate.sequences)
      const propensities = (rows: ReadonlyArray<ArrayLike<number>>) =>
        batch.map((slate, i) => propensitiesOf(slate, rows.slice(i * groupSize, (i + 1) * groupSize), params))
      const rows = yield* refusing("ips", "", () => batch.map((slate) => rowsOf(slate, groupSize, params)))
      const given = (name: keyof (typeof rows)[number]) => rows.flatMap((slate) => slate[name])
      const totals =
        estimator === "self-normalised"
          ? batchTotals(
              batch,
              propensities((yield* policy.logprobs(sequences)).map(({ logprobs }) => logprobs)),
              params
            )
          : {}
      const { logprobs, metrics, padding, tokens } = yield* trainer.update({
        sequences,
        inputs: {
          present: given("present"),
          behaviour: given("behaviour"),
          votes: given("votes"),
          distinct: given("distinct"),
          model: given("model"),
          ...totals
        }
      })
      const report = yield* refusing("ips", "", () => batchReport(batch, propensities(logprobs), params))
      return {
        loss: metrics["loss"]!,
        "ope/value": metrics["value"]!,
        ...report,
        grad_norm: metrics["grad_norm"]!,
        learning_rate: metrics["learning_rate"]!,
        updates: metrics["updates"]!,
        tokens,
        "perf/padding": padding
      }
    })

    const keeper = yield* openKeeper(policy, params, evaluated)
    const file = (dir: string) => `${dir}/trainer.safetensors`
    yield* runSteps({
      total: params.steps,
      final: finalOf(params, outputs.checkpoint),
      restore: (dir, state) => Effect.andThen(trainer.restore(file(dir)), keeper.restore(dir, state)),
      save: (dir) => Effect.andThen(trainer.checkpoint(file(dir)), keeper.save(dir)),
      state: keeper.state,
      ...(measuring
        ? {
            evaluate: {
              every: params.evaluateEvery,
              measure: (k: number) => Effect.tap(measuring.measure(), (metrics) => keeper.consider(k, metrics))
            }
          }
        : {}),
      step
    })
    yield* keeper.publish(outputs.policy.dir, params.steps)
  })
})
