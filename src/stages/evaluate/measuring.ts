/**
 * How the evaluation asks its judges: the knobs of measuring, the estimator's embeddings (each distinct text once) and the
 * classifier's probabilities (each distinct pair once), in chunks that an interrupted attempt goes on after.
 */
import { readFile, writeFile } from "node:fs/promises"
import { Effect, Schema } from "effect"
import * as Param from "../../dsl/param.ts"
import { nliAccuracy, nliScore } from "../../metrics/nli.ts"
import * as ClassifierModel from "../../models/Classifier.ts"
import { stripPerspective } from "../../rewards/grammar.ts"
import { resolveThreshold, Threshold } from "../../rewards/threshold.ts"
import type { World } from "../../world/world.ts"
import { inChunks } from "../chunks.ts"
import { openEncoder } from "../models.ts"
import {
  byEstimator,
  bySet,
  constantLines,
  type Judged,
  matchingTexts,
  promptText,
  type Reading,
  type Slate,
  setTexts,
  type Values,
  worldConstant
} from "./judged.ts"

export const measuringFields = {
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
  ),
  uniquenessThreshold: Param.withDefault(
    Threshold,
    "calibrated",
    "cosine from which a candidate repeats an earlier one; 0.78 is the paper's, for its own encoder"
  ),
  set: Param.struct(
    {
      of: Param.literal(
        ["answers", "lines"],
        "lines",
        "what counts as a candidate of POPE's metrics: each line of the prompt's answers (one long answer as many candidates; a text without such lines is one), or each answer whole"
      ),
      tau: Param.withDefault(
        Threshold,
        0.8,
        "cosine from which a reference is covered by some candidate; 0.8 is POPE's"
      ),
      half: Param.number(
        0.5,
        "POPE's constant: cosine from which a candidate is assigned to a reference, and the softmax's temperature",
        {
          above: 0
        }
      )
    },
    "POPE's metrics, which read a prompt's answers as a set"
  ),
  nliControls: Param.boolean(
    false,
    "measure NLI against another situation's references and with the best constant answer too (twice the pairs and more)"
  )
}

export const MeasuringParams = Param.struct(measuringFields)
type Measuring = typeof MeasuringParams.Type

/** What the estimator found, kept while NLI goes on: per answer, per prompt, and the constant answer of each prompt. */
export const Found = Schema.Struct({
  answers: Schema.Array(Schema.Record(Schema.String, Schema.Finite)),
  prompts: Schema.Array(Schema.Record(Schema.String, Schema.Finite)),
  constants: Schema.Array(Schema.Array(Schema.String))
})
export type Found = typeof Found.Type
export const readFound = (dir: string): Effect.Effect<Found> =>
  Effect.promise(async () => decodeFound(await readFile(foundFile(dir), "utf8")))
const decodeFound = Schema.decodeUnknownSync(Schema.fromJsonString(Found))
const foundFile = (dir: string) => `${dir}/found.json`

const pairsOf = (explanations: ReadonlyArray<string>, sentences: ReadonlyArray<string>) =>
  explanations.flatMap((explanation) => sentences.map((sentence) => [explanation, sentence] as const))
const explanationsOf = ({ perspectives }: Judged["situation"]) => perspectives.map(({ explanation }) => explanation)
const keyOf = ([premise, hypothesis]: readonly [string, string]) => `${premise}\u0000${hypothesis}`

/** Which explanations are held against which sentences, by what comes of it; controls where there is a constant answer. */
const questions = (judged: Judged, constant: ReadonlyArray<string> | undefined) => ({
  score: [explanationsOf(judged.situation), judged.sentences] as const,
  ...(constant === undefined
    ? {}
    : {
        shuffled: [explanationsOf(judged.other), judged.sentences] as const,
        constant: [explanationsOf(judged.situation), constant] as const
      })
})

/** How many distinct pairs there are to ask about, controls apart. */
export const pairCount = (judged: ReadonlyArray<Judged>): number =>
  new Set(judged.flatMap((one) => pairsOf(...questions(one, undefined).score)).map(keyOf)).size

/** Where a phase stands among the steps of the task, and the checkpoint folder that it goes on from. */
export interface Phase {
  readonly before: number
  readonly of: number
  readonly resumed: string | undefined
}

export const byMatching = Effect.fnUntraced(function* (
  judged: ReadonlyArray<Judged>,
  slates: ReadonlyArray<Slate>,
  world: World | undefined,
  dir: string,
  params: Measuring,
  phase: (texts: number) => Phase
) {
  const { calibrated, embed, encoder, own, prefix } = yield* openEncoder(dir)
  const { candidates: cut, set } = params
  const thresholds = {
    coverage: resolveThreshold(params.threshold, calibrated.coverage),
    uniqueness: resolveThreshold(params.uniquenessThreshold, calibrated.uniqueness),
    tau: resolveThreshold(set.tau, calibrated.coverage),
    half: set.half
  }
  if (params.uniquenessThreshold === "calibrated" && !own.uniqueness) {
    yield* Effect.logWarning(
      `eval/uniqueness/estimator: this encoder was not calibrated, so candidates repeat each other from ${calibrated.uniqueness} on, OP-GRPO's threshold for another encoder; evaluate.uniquenessThreshold sets it`
    )
  }
  const read = params.prefix === "as-trained" && prefix === "strip" ? stripPerspective : (text: string) => text
  const sets = slates.map((slate) => setTexts(slate, set.of, cut, read))
  const same = world === undefined ? undefined : worldConstant(world)
  // What matching needs is planned by itself: its last bits do not depend on what else is measured.
  const first = [...new Set(judged.flatMap((one) => matchingTexts(one, read)))]
  const known = new Set(first)
  const more = new Set([...sets.flat(), ...slates.map(promptText), ...(same ?? []).map(read)])
  const second = [...more].filter((text) => !known.has(text))
  const texts = [...first, ...second]
  const width = encoder.config.hiddenSize
  const data = yield* inChunks({
    ...phase(texts.length),
    name: "embeddings",
    width,
    parts: [...encoder.plan(first), ...encoder.plan(second).map((part) => part.map((row) => row + first.length))],
    compute: (rows) =>
      Effect.map(embed(rows.map((row) => texts[row]!)), (found) =>
        rows.map((_, k) => (found.data as Float32Array).subarray(k * width, (k + 1) * width))
      )
  })
  const places = new Map(texts.map((text, row) => [text, row]))
  const reading: Reading = {
    read,
    rowsOf: (wanted) => {
      const rows = new Float32Array(wanted.length * width)
      wanted.forEach((text, k) => {
        const row = places.get(text)!
        rows.set(data.subarray(row * width, (row + 1) * width), k * width)
      })
      return { rows: wanted.length, width, data: rows }
    }
  }
  const constantAt = (threshold: number) =>
    same === undefined ? constantLines(slates, reading, threshold) : slates.map(() => same)
  const [coverage, tau] = [constantAt(thresholds.coverage), constantAt(thresholds.tau)]
  const found: Found = {
    answers: judged.map((one) => byEstimator(one, reading, thresholds)),
    prompts: slates.map((slate, k) =>
      bySet(slate, sets[k]!, { coverage: coverage[k]!, tau: tau[k]! }, reading, thresholds)
    ),
    constants: coverage
  }
  return found
})

export const byInference = Effect.fnUntraced(function* (
  judged: ReadonlyArray<Judged>,
  constants: ReadonlyMap<string, ReadonlyArray<string>> | undefined,
  dir: string,
  found: Found,
  phase: (pairs: number) => Phase
) {
  const classifier = yield* ClassifierModel.load(dir)
  const asked = judged.map((one) => questions(one, constants?.get(one.promptId)))
  const distinct = new Map(
    asked.flatMap((one) => Object.values(one).flatMap((sides) => pairsOf(...sides))).map((pair) => [keyOf(pair), pair])
  )
  const pairs = [...distinct.values()]
  const probabilities = yield* inChunks({
    ...phase(pairs.length),
    name: "entailment",
    width: 1,
    parts: classifier.plan(pairs),
    compute: (rows) =>
      Effect.map(classifier.entailment(rows.map((row) => pairs[row]!)), (values) =>
        Array.from(values, (value) => [value])
      ),
    beside: (folder) => Effect.promise(() => writeFile(foundFile(folder), JSON.stringify(found)))
  })
  const probability = new Map([...distinct.keys()].map((key, k) => [key, probabilities[k]!]))
  const scoreOf = ([explanations, sentences]: readonly [ReadonlyArray<string>, ReadonlyArray<string>]) =>
    nliScore({
      references: explanations.length,
      sentences: sentences.length,
      probabilities: pairsOf(explanations, sentences).map((pair) => probability.get(keyOf(pair))!)
    })
  return asked.map(({ constant, score: own, shuffled }): Values => {
    const score = scoreOf(own)
    return {
      "eval/nli/score": score,
      "eval/nli/accuracy": nliAccuracy(score),
      ...(shuffled === undefined ? {} : { "eval/shuffled/nli": scoreOf(shuffled) }),
      ...(constant === undefined ? {} : { "eval/constant/nli": scoreOf(constant) })
    }
  })
})
