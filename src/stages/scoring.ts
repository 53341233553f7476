/**
 * Scoring completions by reward parts: the step that `grpo` and `score` share. Texts are embedded by the estimator, the
 * parts are pure (`src/rewards`).
 *
 * A batch is embedded by itself, with nothing kept from earlier batches: its embeddings, and so its rewards, are a
 * function of the batch alone, and a resumed run scores as an undisturbed one does.
 */
import { Effect, type Schema } from "effect"
import type { Situation } from "../data/records.ts"
import * as Param from "../dsl/param.ts"
import { Aggregate } from "../rewards/advantage.ts"
import { type Answer, parseAnswer } from "../rewards/grammar.ts"
import type { Rows } from "../rewards/matching.ts"
import type { AnyRewardPart } from "../rewards/part.ts"
import { Profile, ProfileOptions, profiles } from "../rewards/profile.ts"
import { candidateTexts, type EstimatorPrefix, type Prompt, referenceTexts } from "../rewards/texts.ts"
import { type PartRow, scoreParts } from "../rewards/total.ts"

/** What turns texts into unit embeddings [texts, width], and the thresholds calibrated for it. */
export interface Estimator<E, R> {
  readonly embed: (texts: ReadonlyArray<string>) => Effect.Effect<Rows, E, R>
  readonly calibrated: { readonly coverage: number; readonly uniqueness: number }
  /** Whether it was trained on perspectives with their "In the perspective of NAME, ". */
  readonly prefix: EstimatorPrefix
}

/** One completion to score. */
export interface Scorable {
  readonly situation: Situation
  /** The whole prompt as the policy saw it. */
  readonly chat: string
  readonly completion: string
}

export interface Score {
  readonly answer: Answer
  /** NaN where no part could score it. */
  readonly reward: number
  readonly rows: ReadonlyArray<PartRow>
}

/**
 * The decoded section of a reward: its profile, single options over it, the aggregation, and under every part's name that
 * part's parameters.
 */
export interface RewardParams {
  readonly profile: Profile
  readonly options: Partial<ProfileOptions>
  readonly aggregate: Aggregate
  readonly [part: string]: unknown
}

/** The Schema of a reward composed of parts, with their defaults. */
export const rewardSchema = (parts: ReadonlyArray<AnyRewardPart>): Schema.Codec<RewardParams, unknown> => {
  const sections = parts.map(({ defaults, fields, help, name }) => {
    const values: Readonly<Record<string, unknown>> = { ...defaults }
    const own = Object.entries(fields).map(([key, schema]) => [
      key,
      Param.withDefault(schema, values[key], help[key] ?? key)
    ])
    return [name, Param.struct(Object.fromEntries(own), `the ${name} part of the reward`)]
  })
  const options = Object.entries(ProfileOptions.fields).map(([name, schema]) => [
    name,
    Param.optional(schema as Schema.Codec<unknown, unknown>, `overrides \`${name}\` of the profile`)
  ])
  return Param.struct({
    ...Object.fromEntries(sections),
    profile: Param.withDefault(
      Profile,
      "paper",
      "paper: what the authors' code does, exploits included; strict: exploits closed (docs/rewards.md)"
    ),
    options: Param.struct(Object.fromEntries(options), "single options of the profile, overridden"),
    aggregate: Param.withDefault(
      Aggregate,
      "sum-then-normalize",
      "sum-then-normalize: GRPO; normalize-then-sum: GDPO, each part normalised by itself"
    )
  }) as never
}

const mean = (values: ReadonlyArray<number>) => values.reduce((sum, value) => sum + value, 0) / values.length

/** Mean of the values that are there: what could not be scored (NaN) is left out; NaN where nothing could. */
export const scorableMean = (values: ReadonlyArray<number>): number =>
  mean(values.filter((value) => !Number.isNaN(value)))

/** Mean reward and mean of every part and rate: TRL's names. */
export const meanScores = (scores: ReadonlyArray<Score>): Readonly<Record<string, number>> => ({
  reward: scorableMean(scores.map(({ reward }) => reward)),
  ...Object.fromEntries(
    (scores[0]?.rows ?? []).map(({ name }, k) => [
      `rewards/${name}/mean`,
      scorableMean(scores.map(({ rows }) => rows[k]!.value))
    ])
  )
})

interface Slices {
  readonly texts: Array<string>
  readonly index: Map<string, number>
}

const place = ({ index, texts }: Slices, text: string): number => {
  const known = index.get(text)
  if (known !== undefined) return known
  index.set(text, texts.length)
  return texts.push(text) - 1
}

const select = (all: Rows, rows: ReadonlyArray<number>): Rows => {
  const data = new Float32Array(rows.length * all.width)
  rows.forEach((row, k) => {
    for (let i = 0; i < all.width; i++) data[k * all.width + i] = all.data[row * all.width + i]!
  })
  return { rows: rows.length, width: all.width, data }
}

/** Scores a batch of completions; one `Score` each, in order. */
export const scoreBatch = Effect.fn("scoreBatch")(function* <E, R>(
  parts: ReadonlyArray<AnyRewardPart>,
  params: RewardParams,
  estimator: Estimator<E, R>,
  batch: ReadonlyArray<Scorable>
) {
  const options: ProfileOptions = { ...profiles[params.profile], ...params.options }
  const embeds = parts.some((part) => part.embeddings)
  const slices: Slices = { texts: [], index: new Map() }
  const read = batch.map(({ chat, completion, situation }) => {
    const prompt: Prompt = { situation: situation.situation ?? situation.prompt, chat }
    const answer = parseAnswer(completion, { tagsOnce: options.tags === "once" })
    const references = situation.perspectives.map(({ text }) => text)
    const placed = (texts: ReadonlyArray<string>) => (embeds ? texts.map((text) => place(slices, text)) : [])
    return {
      prompt,
      answer,
      references,
      referenceRows: placed(referenceTexts(references, prompt, options, estimator.prefix)),
      candidateRows: placed(candidateTexts(answer, prompt, options, estimator.prefix))
    }
  })
  const all: Rows = slices.texts.length === 0 ? { rows: 0, width: 0, data: [] } : yield* estimator.embed(slices.texts)
  return read.map(({ answer, candidateRows, prompt, referenceRows, references }): Score => {
    const { reward, rows } = scoreParts(parts, params as never, {
      prompt,
      answer,
      references,
      referenceEmbeddings: select(all, referenceRows),
      candidateEmbeddings: select(all, candidateRows),
      calibrated: estimator.calibrated,
      options
    })
    return { answer, reward, rows }
  })
})
