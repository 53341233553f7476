/**
 * Answers as the evaluation judges them, and what each judge says of them once texts have embeddings: pure, one record of
 * items per answer (`byEstimator`, `byWorld`) or per prompt (`bySet`, of all its answers together).
 */
import type { Completion, Situation } from "../../data/records.ts"
import { selfBleu } from "../../metrics/bleu.ts"
import { crossFitted } from "../../metrics/constant.ts"
import { estimatorCoverage, estimatorUniqueness } from "../../metrics/coverage.ts"
import { distinct, embeddingDiversity, wordsAndMarks } from "../../metrics/diversity.ts"
import { relevance, setScores } from "../../metrics/pope.ts"
import { splitCandidates, splitSentences } from "../../metrics/sentences.ts"
import { parseAnswer } from "../../rewards/grammar.ts"
import type { Rows } from "../../rewards/matching.ts"
import { bestConstant, coverageOf } from "../../world/constant.ts"
import { draws } from "../../world/draws.ts"
import { makeChecker, shuffledIndex } from "../../world/exact.ts"
import { say } from "../../world/language.ts"
import type { World } from "../../world/world.ts"

export type Values = Readonly<Record<string, number>>

/** One answer with what it is measured against. */
export interface Judged {
  readonly promptId: string
  readonly text: string
  readonly candidates: ReadonlyArray<string>
  /** What may entail a reference: the lines, or real sentences (the candidates of published texts are cut otherwise). */
  readonly sentences: ReadonlyArray<string>
  readonly situation: Situation
  /** Another situation, for the shuffled control. */
  readonly other: Situation
}

/** All answers to one prompt: what POPE's metrics read. */
export interface Slate {
  readonly promptId: string
  readonly answers: ReadonlyArray<Judged>
  readonly situation: Situation
  readonly other: Situation
}

/** Answers cut as asked, with their situations; the id of the first without one, where there is one. */
export const judge = (
  completions: ReadonlyArray<Completion>,
  situations: ReadonlyArray<Situation>,
  cut: "lines" | "sentences"
): ReadonlyArray<Judged> | { readonly stray: string } => {
  const places = new Map(situations.map(({ id }, index) => [id, index]))
  const judged: Array<Judged> = []
  for (const { id, text } of completions) {
    const index = places.get(id)
    if (index === undefined) return { stray: id }
    const candidates = cut === "lines" ? parseAnswer(text).candidates : splitCandidates(text)
    judged.push({
      promptId: id,
      text,
      candidates,
      sentences: cut === "lines" ? candidates : splitSentences(text),
      situation: situations[index]!,
      other: situations[shuffledIndex(index, situations.length)]!
    })
  }
  return judged
}

/** Prompts in the order of their first answer. */
export const slatesOf = (judged: ReadonlyArray<Judged>): ReadonlyArray<Slate> =>
  [...Map.groupBy(judged, ({ promptId }) => promptId)].map(([promptId, answers]) => ({
    promptId,
    answers,
    situation: answers[0]!.situation,
    other: answers[0]!.other
  }))

/** How texts are read by the estimator, and the embeddings of texts so read. */
export interface Reading {
  /** A line or reference as the estimator reads it. */
  readonly read: (text: string) => string
  readonly rowsOf: (texts: ReadonlyArray<string>) => Rows
}

const referenceTexts = ({ read }: Pick<Reading, "read">, { perspectives }: Situation) =>
  perspectives.map(({ text }) => read(text))

/** Texts that the measures by matching need, in a fixed order (it decides the micro-batches, and so the last bits). */
export const matchingTexts = (
  { candidates, other, situation }: Judged,
  read: Reading["read"]
): ReadonlyArray<string> => [
  ...referenceTexts({ read }, situation),
  ...referenceTexts({ read }, other),
  ...candidates.map(read)
]

/** What is asked: the situation, without the words of a task around it. */
const asked = ({ prompt, situation }: Situation): string => situation ?? prompt

/**
 * The candidates of a prompt in POPE's sense, as read: each answer whole (its lines joined), or each line of each answer.
 * Empty answers are none.
 */
export const setTexts = (
  { answers }: Slate,
  of: "answers" | "lines",
  cut: "lines" | "sentences",
  read: Reading["read"]
): ReadonlyArray<string> =>
  of === "lines"
    ? answers.flatMap(({ candidates }) => candidates.map(read))
    : answers
        .map(({ candidates, text }) => (cut === "lines" ? candidates.map(read).join(" ") : text.trim()))
        .filter((text) => text !== "")

export interface Thresholds {
  readonly coverage: number
  readonly uniqueness: number
  /** POPE's tau, and its constant 0.5. */
  readonly tau: number
  readonly half: number
}

export const byEstimator = (
  { candidates, other, situation }: Judged,
  reading: Reading,
  { coverage, uniqueness }: Thresholds
): Values => {
  const own = reading.rowsOf(candidates.map(reading.read))
  const scores = estimatorCoverage(reading.rowsOf(referenceTexts(reading, situation)), own, coverage)
  const strange = estimatorCoverage(reading.rowsOf(referenceTexts(reading, other)), own, coverage).coverage
  return {
    "eval/coverage/estimator": scores.coverage,
    "eval/precision/estimator": scores.precision,
    "eval/complete/estimator": scores.complete,
    "eval/f1/estimator": scores.f1,
    "eval/uniqueness/estimator": estimatorUniqueness(own, uniqueness),
    "eval/at_m/estimator": scores.atM,
    "eval/shuffled/estimator": strange,
    // Where there is a world, its own take these names.
    "eval/coverage/at_m": scores.atM,
    "eval/coverage/shuffled": strange,
    "eval/lines/mean": candidates.length
  }
}

/** The lines of the best constant answer for each slate, without a world: cross-fitted on the other slates' references. */
export const constantLines = (
  slates: ReadonlyArray<Slate>,
  reading: Reading,
  threshold: number
): ReadonlyArray<ReadonlyArray<string>> => {
  const texts = slates.map(({ situation }) => referenceTexts(reading, situation))
  const [even, odd] = crossFitted(
    texts.map((list) => reading.rowsOf(list)),
    threshold
  ).map((places) => places.map(({ row, window }) => slates[window]!.situation.perspectives[row]!.text))
  return slates.map((_, k) => (k % 2 === 0 ? even! : odd!))
}

/** The lines of a world's best constant answer, in the words of a policy's demonstrations. */
export const worldConstant = (world: World): ReadonlyArray<string> => {
  const random = draws(world.settings.seed, "evaluate", "constant")
  return bestConstant(world).map((item) => say(world, "demonstrations", item, random).text)
}

/**
 * A prompt's candidates as a set, and the controls: another situation's references, and the constant answers that are best at
 * the estimator's threshold and at tau.
 */
export const bySet = (
  { other, situation }: Slate,
  texts: ReadonlyArray<string>,
  constant: { readonly coverage: ReadonlyArray<string>; readonly tau: ReadonlyArray<string> },
  reading: Reading,
  { coverage, half, tau }: Thresholds
): Values => {
  const references = reading.rowsOf(referenceTexts(reading, situation))
  const strange = reading.rowsOf(referenceTexts(reading, other))
  const candidates = reading.rowsOf(texts)
  const votesOf = ({ perspectives }: Situation) => perspectives.map(({ votes = 0 }) => votes)
  const scores = setScores(references, candidates, votesOf(situation), { half, tau })
  const shuffled = setScores(strange, candidates, votesOf(other), { half, tau })
  const linesOf = (lines: ReadonlyArray<string>) => reading.rowsOf(lines.map(reading.read))
  const same = linesOf(constant.tau)
  const constants = setScores(references, same, votesOf(situation), { tau })
  // Of one answer by itself: the best line that is the same for all, which is the first.
  const alone = setScores(references, { ...same, rows: Math.min(1, same.rows) }, votesOf(situation), { tau })
  const tokens = texts.map(wordsAndMarks)
  return {
    "eval/pl_score": scores.plScore,
    "eval/pl_score/mean": scores.plScoreMean,
    "eval/coverage/pluralistic": scores.coverage,
    "eval/coverage/pluralistic/mean": scores.coverageMean,
    "eval/precision/pluralistic": scores.precision,
    "eval/f1/pluralistic": scores.f1,
    "eval/at_m/pluralistic": scores.atM,
    "eval/alignment/assigned": scores.alignment,
    "eval/alignment/softmax": scores.alignmentSoftmax,
    "eval/helpfulness": scores.helpfulness,
    "eval/relevance": relevance(reading.rowsOf([asked(situation)]), candidates),
    "eval/diversity": embeddingDiversity(candidates),
    "eval/distinct_1": distinct(tokens, 1),
    "eval/distinct_2": distinct(tokens, 2),
    "eval/self_bleu": selfBleu(tokens),
    "eval/candidates": texts.length,
    "eval/shuffled/pl_score": shuffled.plScore,
    "eval/shuffled/pl_score/mean": shuffled.plScoreMean,
    "eval/shuffled/pluralistic": shuffled.coverage,
    "eval/shuffled/pluralistic/mean": shuffled.coverageMean,
    "eval/constant/pl_score": constants.plScore,
    "eval/constant/pl_score/mean": alone.plScore,
    "eval/constant/pluralistic": constants.coverage,
    "eval/constant/pluralistic/mean": alone.coverage,
    "eval/constant/estimator": estimatorCoverage(references, linesOf(constant.coverage), coverage).coverage
  }
}

/** Texts that only the measures of sets need. */
export const promptText = ({ situation }: Slate): string => asked(situation)

/** What the world knows: of each answer, and of each prompt's answers taken as one. */
export const byWorld = (world: World) => {
  const checker = makeChecker(world)
  const constant = bestConstant(world)
  const situations = new Map(Object.values(world.splits).flatMap((split) => split.map((one) => [one.id, one])))
  const windows = ({ other, situation }: Pick<Judged, "other" | "situation">) =>
    [situations.get(situation.id)!, situations.get(other.id)!] as const
  return {
    answer: (judged: Judged): Values => {
      const [own, other] = windows(judged)
      const scores = checker.score(judged.text, own, other)
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
    },
    union: (slate: Slate): Values => {
      const [own, other] = windows(slate)
      const lines = slate.answers.flatMap(({ text }) => checker.lines(text))
      const scores = checker.scoreLines(lines, own, other)
      return {
        "eval/union/coverage": scores.coverage,
        "eval/union/precision": scores.precision,
        "eval/union/uniqueness": scores.uniqueness,
        "eval/union/f1": scores.f1,
        "eval/union/lines": scores.lines,
        "eval/union/shuffled": scores.shuffled
      }
    }
  }
}
