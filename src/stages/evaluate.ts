/**
 * The evaluation of answers, one item per prompt and metric (mean over the prompt's answers):
 *
 * - by the estimator: one-to-one matching of references and candidates at a threshold (coverage, precision, at_m,
 *   coverage of another situation's references);
 * - by natural-language inference, where there is a classifier: premise = a reference's explanation, hypothesis = a line
 *   or sentence of the answer, maximum over those, mean over references; accuracy = score > 0.33 (Modular Pluralism, 2406.15951);
 * - exactly, where there is a world: the check on the checkers, and the best constant answer.
 *
 * Policies never see any of it.
 */
import { Effect, Schema } from "effect"
import { optional } from "../artifact/Kind.ts"
import { Classifier, Completions, Encoder, Report, Situations, WorldFolder } from "../artifact/kinds.ts"
import type { Situation } from "../data/records.ts"
import * as Param from "../dsl/param.ts"
import * as Stage from "../dsl/Stage.ts"
import { Task } from "../dsl/Task.ts"
import { estimatorCoverage } from "../metrics/coverage.ts"
import { nliAccuracy, nliScore } from "../metrics/nli.ts"
import { splitCandidates, splitSentences } from "../metrics/sentences.ts"
import { estimatorUniqueness } from "../metrics/uniqueness.ts"
import * as ClassifierModel from "../models/Classifier.ts"
import { parseAnswer, stripPerspective } from "../rewards/grammar.ts"
import type { Rows } from "../rewards/matching.ts"
import { resolveThreshold, Threshold } from "../rewards/threshold.ts"
import { bestConstant, coverageOf } from "../world/constant.ts"
import { makeChecker, shuffledIndex } from "../world/exact.ts"
import type { World } from "../world/world.ts"
import { generationFields } from "./generate.ts"
import { openEncoder } from "./models.ts"
import { writeSummary } from "./summary.ts"
import { readWorld } from "./world.ts"

const measuringFields = {
  split: Param.literal(["test", "development"], "test", "which situations: tune on development, report on test"),
  candidates: Param.literal(
    ["lines", "sentences"],
    "lines",
    "what an answer is cut into: lines that begin with a perspective (the reward's grammar), or sentences (published texts)"
  ),
  prefix: Param.literal(
    ["as-trained", "keep"],
    "as-trained",
    'whether the estimator reads the leading "In the perspective of NAME, "'
  ),
  threshold: Param.withDefault(
    Threshold,
    "calibrated",
    "cosine from which a candidate covers a reference; 0.70 is the paper's, for its own encoder"
  )
}

/** The whole section: how answers are drawn (the `generate` stage reads that) and how they are measured. */
export const EvaluateParams = Param.struct({ ...generationFields, ...measuringFields })

export class NothingToEvaluate extends Schema.TaggedError<NothingToEvaluate>()("NothingToEvaluate", {
  detail: Schema.String
}) {
  override get message() {
    return `evaluate: ${this.detail}`
  }
}

/** One answer with what it is measured against. */
interface Judged {
  readonly promptId: string
  readonly text: string
  readonly candidates: ReadonlyArray<string>
  /** What may entail a reference: the lines, or real sentences (the candidates of published texts are cut otherwise). */
  readonly sentences: ReadonlyArray<string>
  readonly situation: Situation
  /** Another situation, for the shuffled control. */
  readonly other: Situation
}

type Values = Readonly<Record<string, number>>

/** Embeds each distinct text once; gives the rows of any list of the texts. */
const embedded = Effect.fnUntraced(function* <E, R>(
  embed: (texts: ReadonlyArray<string>) => Effect.Effect<Rows, E, R>,
  texts: ReadonlyArray<string>
) {
  const distinct = [...new Set(texts)]
  const index = new Map(distinct.map((text, k) => [text, k]))
  const all = distinct.length === 0 ? { rows: 0, width: 0, data: [] } : yield* embed(distinct)
  return (wanted: ReadonlyArray<string>): Rows => {
    const data = new Float32Array(wanted.length * all.width)
    wanted.forEach((text, k) => {
      const row = index.get(text)!
      for (let i = 0; i < all.width; i++) data[k * all.width + i] = all.data[row * all.width + i]!
    })
    return { rows: wanted.length, width: all.width, data }
  }
})

const byEstimator = Effect.fnUntraced(function* (
  judged: ReadonlyArray<Judged>,
  dir: string,
  params: typeof MeasuringParams.Type
) {
  const { calibrated, embed, prefix } = yield* openEncoder(dir)
  const threshold = resolveThreshold(params.threshold, calibrated.coverage)
  const read = params.prefix === "as-trained" && prefix === "strip" ? stripPerspective : (text: string) => text
  const texts = ({ perspectives }: Situation) => perspectives.map(({ text }) => read(text))
  const rowsOf = yield* embedded(
    embed,
    judged.flatMap(({ candidates, other, situation }) => [
      ...texts(situation),
      ...texts(other),
      ...candidates.map(read)
    ])
  )
  return judged.map(({ candidates, other, situation }): Values => {
    const own = rowsOf(candidates.map(read))
    const scores = estimatorCoverage(rowsOf(texts(situation)), own, threshold)
    return {
      "eval/coverage/estimator": scores.coverage,
      "eval/precision/estimator": scores.precision,
      "eval/complete/estimator": scores.complete,
      "eval/f1/estimator": scores.f1,
      "eval/uniqueness/estimator": estimatorUniqueness(own, calibrated.uniqueness),
      "eval/coverage/at_m": scores.atM,
      "eval/coverage/shuffled": estimatorCoverage(rowsOf(texts(other)), own, threshold).coverage,
      "eval/lines/mean": candidates.length
    }
  })
})

const byInference = Effect.fnUntraced(function* (judged: ReadonlyArray<Judged>, dir: string) {
  const classifier = yield* ClassifierModel.load(dir)
  const pairsOf = ({ sentences, situation }: Judged) =>
    situation.perspectives.flatMap(({ explanation }) => sentences.map((sentence) => [explanation, sentence] as const))
  const keyOf = ([premise, hypothesis]: readonly [string, string]) => `${premise}\u0000${hypothesis}`
  const distinct = new Map(judged.flatMap(pairsOf).map((pair) => [keyOf(pair), pair]))
  const found = distinct.size === 0 ? new Float32Array(0) : yield* classifier.entailment([...distinct.values()])
  const probability = new Map([...distinct.keys()].map((key, k) => [key, found[k]!]))
  return judged.map((one): Values => {
    const score = nliScore({
      references: one.situation.perspectives.length,
      sentences: one.sentences.length,
      probabilities: pairsOf(one).map((pair) => probability.get(keyOf(pair))!)
    })
    return { "eval/nli/score": score, "eval/nli/accuracy": nliAccuracy(score) }
  })
})

const byWorld = (judged: ReadonlyArray<Judged>, world: World): ReadonlyArray<Values> => {
  const checker = makeChecker(world)
  const constant = bestConstant(world)
  const situations = new Map(Object.values(world.splits).flatMap((split) => split.map((one) => [one.id, one])))
  return judged.map(({ other, situation, text }): Values => {
    const own = situations.get(situation.id)!
    const scores = checker.score(text, own, situations.get(other.id)!)
    return {
      "eval/coverage/exact": scores.coverage,
      "eval/coverage/at_m": scores.atM,
      "eval/precision/exact": scores.precision,
      "eval/uniqueness/exact": scores.uniqueness,
      "eval/f1/exact": scores.f1,
      "eval/lines/mean": scores.lines,
      "eval/format/strict": scores.strict,
      "eval/coverage/shuffled": scores.shuffled,
      "eval/coverage/constant": coverageOf(constant, own)
    }
  })
}

/** Mean of every metric over the answers of each prompt, prompts in the order of their first answer. */
const perPrompt = (judged: ReadonlyArray<Judged>, values: ReadonlyArray<Values>) => {
  const groups = Map.groupBy(judged.keys(), (k) => judged[k]!.promptId)
  return [...groups].map(([promptId, answers]) => {
    const names = Object.keys(values[answers[0]!]!)
    const means = names.map(
      (name) => [name, answers.reduce((sum, k) => sum + values[k]![name]!, 0) / answers.length] as const
    )
    return { promptId, values: Object.fromEntries(means) }
  })
}

const MeasuringParams = Param.struct(measuringFields)

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
    "eval/lines/mean": "none",
    "eval/format/strict": "higher",
    "eval/nli/score": "higher",
    "eval/nli/accuracy": "higher"
  },
  run: Effect.fn("stage.evaluate")(function* ({ inputs, outputs, params }) {
    const task = yield* Task
    const situations = yield* inputs.situations.rows
    const byPrompt = new Map(situations.map((situation, index) => [situation.id, index]))
    const completions = yield* inputs.completions.rows
    if (completions.length === 0) return yield* new NothingToEvaluate({ detail: "there are no answers" })
    const judged: Array<Judged> = []
    for (const { id, text } of completions) {
      const index = byPrompt.get(id)
      if (index === undefined) {
        return yield* new NothingToEvaluate({ detail: `the answer to ${id} has no situation to be measured against` })
      }
      const lines = params.candidates === "lines"
      const candidates = lines ? parseAnswer(text).candidates : splitCandidates(text)
      judged.push({
        promptId: id,
        text,
        candidates,
        sentences: lines ? candidates : splitSentences(text),
        situation: situations[index]!,
        other: situations[shuffledIndex(index, situations.length)]!
      })
    }
    const estimated = yield* byEstimator(judged, inputs.estimator.dir, params)
    const inferred = inputs.nli ? yield* byInference(judged, inputs.nli.dir) : []
    const exact = inputs.world ? byWorld(judged, yield* readWorld(inputs.world.dir)) : []
    const prompts = perPrompt(
      judged,
      judged.map((_, k) => ({ ...estimated[k], ...inferred[k], ...exact[k] }))
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
