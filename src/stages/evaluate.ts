/**
 * The evaluation of answers, one item per prompt and metric:
 *
 * - by the estimator: one-to-one matching of references and candidates at a threshold (coverage, precision, at_m), mean over
 *   the prompt's answers; and POPE's metrics of the prompt's answers as a set (PL-score, coverage at tau, alignment, diversity);
 * - by natural-language inference, where there is a classifier: premise = a reference's explanation, hypothesis = a line
 *   or sentence of the answer, maximum over those, mean over references; accuracy = score > 0.33 (Modular Pluralism, 2406.15951);
 * - exactly, where there is a world: the check on the checkers;
 * - every coverage beside its controls: another situation's references, and the best constant answer.
 *
 * Policies never see any of it. Each distinct text is embedded once, in chunks; an interrupted attempt goes on after them.
 */
import { Effect, Option, Schema } from "effect"
import { optional } from "../artifact/Kind.ts"
import { Classifier, Completions, Encoder, Report, Situations, WorldFolder } from "../artifact/kinds.ts"
import * as Param from "../dsl/param.ts"
import * as Stage from "../dsl/Stage.ts"
import { Task } from "../dsl/Task.ts"
import { byWorld, type Judged, judge, type Slate, slatesOf, type Values } from "./evaluate/judged.ts"
import {
  byInference,
  byMatching,
  MeasuringParams,
  measuringFields,
  pairCount,
  readFound
} from "./evaluate/measuring.ts"
import { generationFields } from "./generate.ts"
import { writeSummary } from "./summary.ts"
import { readWorld } from "./world.ts"

/** The whole section: how answers are drawn (the `generate` stage reads that) and how they are measured. */
export const EvaluateParams = Param.struct({ ...generationFields, ...measuringFields })

export class NothingToEvaluate extends Schema.TaggedError<NothingToEvaluate>()("NothingToEvaluate", {
  detail: Schema.String
}) {
  override get message() {
    return `evaluate: ${this.detail}`
  }
}

/** What a checkpoint says: which judge was being asked, and the steps before it. */
const State = Schema.Struct({ phase: Schema.Literals(["embeddings", "entailment"]), before: Schema.Int })
const decodeState = (state: unknown) => Effect.orDie(Schema.decodeUnknownEffect(State)(state))
const begin: typeof State.Type = { phase: "embeddings", before: 0 }

/** Mean of every metric over the answers of each prompt, then what is measured of the prompt itself. */
const perPrompt = (
  judged: ReadonlyArray<Judged>,
  answers: ReadonlyArray<Values>,
  slates: ReadonlyArray<Slate>,
  prompts: ReadonlyArray<Values>
) => {
  const groups = Map.groupBy(judged.keys(), (k) => judged[k]!.promptId)
  return slates.map(({ promptId }, s) => {
    const own = groups.get(promptId)!
    const means = Object.keys(answers[own[0]!]!).map(
      (name) => [name, own.reduce((sum, k) => sum + answers[k]![name]!, 0) / own.length] as const
    )
    return { promptId, values: { ...Object.fromEntries(means), ...prompts[s] } }
  })
}

export const evaluate = Stage.make("evaluate", {
  module: import.meta.url,
  version: 1,
  params: MeasuringParams,
  inputs: {
    completions: Completions,
    situations: Situations,
    estimator: Encoder,
    nli: optional(Classifier),
    world: optional(WorldFolder)
  },
  outputs: { report: Report },
  device: true,
  items: {
    "eval/coverage/exact": "higher",
    "eval/coverage/at_m": "higher",
    "eval/coverage/estimator": "higher",
    "eval/coverage/shuffled": "lower",
    "eval/coverage/constant": "none",
    "eval/complete/estimator": "higher",
    "eval/precision/exact": "higher",
    "eval/precision/estimator": "higher",
    "eval/uniqueness/exact": "higher",
    "eval/uniqueness/estimator": "higher",
    "eval/f1/exact": "higher",
    "eval/f1/estimator": "higher",
    "eval/at_m/estimator": "higher",
    "eval/shuffled/estimator": "lower",
    "eval/constant/estimator": "none",
    "eval/lines/mean": "none",
    "eval/format/strict": "higher",
    "eval/nli/score": "higher",
    "eval/nli/accuracy": "higher",
    "eval/shuffled/nli": "lower",
    "eval/constant/nli": "none",
    "eval/pl_score": "higher",
    "eval/pl_score/mean": "higher",
    "eval/shuffled/pl_score": "lower",
    "eval/shuffled/pl_score/mean": "lower",
    "eval/constant/pl_score": "none",
    "eval/constant/pl_score/mean": "none",
    "eval/coverage/pluralistic": "higher",
    "eval/coverage/pluralistic/mean": "higher",
    "eval/precision/pluralistic": "higher",
    "eval/f1/pluralistic": "higher",
    "eval/at_m/pluralistic": "higher",
    "eval/shuffled/pluralistic": "lower",
    "eval/shuffled/pluralistic/mean": "lower",
    "eval/constant/pluralistic": "none",
    "eval/constant/pluralistic/mean": "none",
    "eval/alignment/assigned": "higher",
    "eval/alignment/softmax": "higher",
    "eval/helpfulness": "higher",
    "eval/relevance": "higher",
    "eval/diversity": "higher",
    "eval/distinct_1": "higher",
    "eval/distinct_2": "higher",
    "eval/self_bleu": "lower",
    "eval/candidates": "none",
    "eval/union/coverage": "higher",
    "eval/union/precision": "higher",
    "eval/union/uniqueness": "higher",
    "eval/union/f1": "higher",
    "eval/union/lines": "none",
    "eval/union/shuffled": "lower"
  },
  run: Effect.fn("stage.evaluate")(function* ({ inputs, outputs, params }) {
    const task = yield* Task
    const judged = judge(yield* inputs.completions.rows, yield* inputs.situations.rows, params.candidates)
    if ("stray" in judged) {
      return yield* new NothingToEvaluate({
        detail: `the answer to ${judged.stray} has no situation to be measured against`
      })
    }
    if (judged.length === 0) return yield* new NothingToEvaluate({ detail: "there are no answers" })
    const slates = slatesOf(judged)
    const world = inputs.world ? yield* readWorld(inputs.world.dir) : undefined
    const resumed = Option.getOrUndefined(yield* task.resume)
    const { before, phase } = resumed === undefined ? begin : yield* decodeState(resumed.state)
    const pairs = inputs.nli ? pairCount(judged) : 0
    let embedded = before
    const found =
      phase === "entailment"
        ? yield* readFound(resumed!.dir)
        : yield* byMatching(judged, slates, world, inputs.estimator.dir, params, (texts) => {
            embedded = texts
            return { before: 0, of: texts + pairs, resumed: resumed?.dir }
          })
    const constants = new Map(slates.map(({ promptId }, k) => [promptId, found.constants[k]!]))
    const inferred = inputs.nli
      ? yield* byInference(judged, params.nliControls ? constants : undefined, inputs.nli.dir, found, (asked) => ({
          before: embedded,
          of: embedded + asked,
          resumed: phase === "entailment" ? resumed!.dir : undefined
        }))
      : []
    const exact = world && byWorld(world)
    const prompts = perPrompt(
      judged,
      judged.map((one, k) => ({ ...found.answers[k], ...inferred[k], ...exact?.answer(one) })),
      slates,
      slates.map((slate, k) => ({ ...found.prompts[k], ...exact?.union(slate) }))
    )
    yield* task.items(
      prompts.flatMap(({ promptId, values }) =>
        Object.entries(values).map(([name, value]) => ({ promptId, split: params.split, name, value }))
      )
    )
    const names = Object.keys(prompts[0]!.values)
    const means = names.map((name) => [
      name,
      prompts.reduce((sum, { values }) => sum + values[name]!, 0) / prompts.length
    ])
    const report = {
      split: params.split,
      prompts: prompts.length,
      answers: judged.length,
      ...Object.fromEntries(means)
    }
    yield* writeSummary(outputs.report.dir, report)
  })
})
