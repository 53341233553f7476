/**
 * Scoring completions by reward parts: the step that `grpo` and `score` share. Texts are embedded by the estimator,
 * Overtone's parts are pure (`src/rewards`), those of a user's own run beside the task (`rewards/`).
 *
 * A batch is embedded by itself, with nothing kept from earlier batches: its embeddings, and so its rewards, are a
 * function of the batch alone, and a resumed run scores as an undisturbed one does.
 */
import { Effect, Schema } from "effect"
import type { Situation } from "../data/records.ts"
import * as Param from "../dsl/param.ts"
import { Aggregate } from "../rewards/advantage.ts"
import { type Answer, parseAnswer } from "../rewards/grammar.ts"
import type { Rows } from "../rewards/matching.ts"
import type { AnyRewardPart } from "../rewards/part.ts"
import { Profile, ProfileOptions, profiles } from "../rewards/profile.ts"
import { candidateTexts, type EstimatorPrefix, type Prompt, referenceTexts } from "../rewards/texts.ts"
import { type PartRow, scoreParts, totalReward } from "../rewards/total.ts"
import { Weight, weightAt } from "../rewards/weight.ts"
import type { Scorer } from "./rewards/answers.ts"
import { openCommand } from "./rewards/exec.ts"
import { openModule } from "./rewards/from.ts"
import { openService } from "./rewards/http.ts"
import type { RewardFailed } from "./rewards/RewardFailed.ts"
import { OwnReward } from "./rewards/section.ts"

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

const settings: ReadonlyArray<string> = ["profile", "options", "aggregate"]

/** The names of a reward's parts, those of a user's own among them. */
export const partNames = (params: RewardParams): ReadonlyArray<string> =>
  Object.keys(params).filter((name) => !settings.includes(name))

/** The Schema of a reward composed of parts, with their defaults. */
export const rewardSchema = (parts: ReadonlyArray<AnyRewardPart>): Schema.Codec<RewardParams, unknown> => {
  const sections = parts.map(({ defaults, fields, help, name }) => {
    const values: Readonly<Record<string, unknown>> = { ...defaults }
    const own = Object.entries(fields).map(([key, schema]) => [
      key,
      Param.withDefault(key === "weight" ? Weight : schema, values[key] as never, help[key] ?? key)
    ])
    return [name, Param.struct(Object.fromEntries(own), `the ${name} part of the reward`)]
  })
  const options = Object.entries(ProfileOptions.fields).map(([name, schema]) => [
    name,
    Param.optional(schema as Schema.Codec<unknown, unknown>, `overrides \`${name}\` of the profile`)
  ])
  const named = {
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
  }
  // Every other name is that of a reward of a user's own.
  const name = Schema.String.check(
    Schema.isPattern(new RegExp(`^(?!(${Object.keys(named).join("|")})$)[A-Za-z][A-Za-z0-9_-]*$`), {
      message: "a reward's name has letters, digits, - and _, a letter first"
    })
  )
  return Schema.StructWithRest(Schema.Struct(named), [Schema.Record(name, OwnReward)]).pipe(
    Schema.withDecodingDefaultKey(Effect.succeed({} as never))
  ) as never
}

/** A reward ready to score: users' modules loaded, commands started. */
export interface Reward {
  /** Overtone's parts, then the user's, as the first rows of every score are ordered; rates follow. */
  readonly names: ReadonlyArray<string>
  /** Scores a batch of completions at a step (which scheduled weights follow); one `Score` each, in order. */
  readonly score: <E, R>(
    estimator: Estimator<E, R>,
    batch: ReadonlyArray<Scorable>,
    step?: number
  ) => Effect.Effect<ReadonlyArray<Score>, E | RewardFailed, R>
}

const isOwn = Schema.is(OwnReward)

/** Opens the reward of these parameters; what it started ends with the scope. */
export const openReward = Effect.fn("openReward")(function* (
  parts: ReadonlyArray<AnyRewardPart>,
  params: RewardParams
) {
  const known = new Set(parts.map(({ name }) => name))
  const own: Array<Own> = []
  for (const name of partNames(params)) {
    const section = params[name]
    if (known.has(name) || !isOwn(section)) continue
    const scorer =
      "from" in section
        ? yield* openModule(name, section)
        : "exec" in section
          ? yield* openCommand(name, section)
          : openService(name, section)
    own.push({ ...scorer, weight: section.weight })
  }
  const reward: Reward = {
    names: [...parts, ...own].map(({ name }) => name),
    score: (estimator, batch, step = 0) => scoreBatch({ parts, own, params }, estimator, batch, step)
  }
  return reward
})

const mean = (values: ReadonlyArray<number>) => values.reduce((sum, value) => sum + value, 0) / values.length

/** Mean of the values that are there: what could not be scored (NaN) is left out; NaN where nothing could. */
export const scorableMean = (values: ReadonlyArray<number>): number =>
  mean(values.filter((value) => !Number.isNaN(value)))

/** Mean reward and mean of every part and rate: TRL's names. */
export const meanScores = (
  scores: ReadonlyArray<Pick<Score, "reward" | "rows">>
): Readonly<Record<string, number>> => ({
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

type Own = Scorer & { readonly weight: Weight }

interface Opened {
  readonly parts: ReadonlyArray<AnyRewardPart>
  readonly own: ReadonlyArray<Own>
  readonly params: RewardParams
}

/** The parts' parameters with the weights of a step. */
const atStep = (parts: ReadonlyArray<AnyRewardPart>, params: RewardParams, step: number): RewardParams => ({
  ...params,
  ...Object.fromEntries(
    parts.map(({ name }) => {
      const own = params[name] as { readonly weight: Weight }
      return [name, { ...own, weight: weightAt(own.weight, step) }]
    })
  )
})

const scoreBatch = Effect.fn("scoreBatch")(function* <E, R>(
  { own, params, parts }: Opened,
  estimator: Estimator<E, R>,
  batch: ReadonlyArray<Scorable>,
  step: number
) {
  const options: ProfileOptions = { ...profiles[params.profile], ...params.options }
  const embeds = [...parts, ...own].some((part) => part.embeddings)
  const slices: Slices = { texts: [], index: new Map() }
  const read = batch.map(({ chat, completion, situation }) => {
    const prompt: Prompt = { situation: situation.situation ?? situation.prompt, chat }
    const answer = parseAnswer(completion, { tagsOnce: options.tags === "once" })
    const references = situation.perspectives.map(({ text }) => text)
    const placed = (texts: ReadonlyArray<string>) => (embeds ? texts.map((text) => place(slices, text)) : [])
    return {
      promptId: situation.id,
      prompt,
      answer,
      references,
      referenceRows: placed(referenceTexts(references, prompt, options, estimator.prefix)),
      candidateRows: placed(candidateTexts(answer, prompt, options, estimator.prefix))
    }
  })
  const all: Rows = slices.texts.length === 0 ? { rows: 0, width: 0, data: [] } : yield* estimator.embed(slices.texts)
  const asked = read.map(({ answer, candidateRows, prompt, promptId, referenceRows, references }) => ({
    promptId,
    input: {
      prompt,
      answer,
      references,
      referenceEmbeddings: select(all, referenceRows),
      candidateEmbeddings: select(all, candidateRows),
      calibrated: estimator.calibrated,
      options
    }
  }))
  const said = yield* Effect.forEach(own, (scorer) => scorer.score(asked, step), { concurrency: "unbounded" })
  const weighted = atStep(parts, params, step)
  // Every answer has the same rows, also where a reward gives a rate for some only.
  const rates = own.flatMap(({ name }, p) =>
    [...new Set(said[p]!.flatMap((one) => Object.keys(one.rates ?? {})))].map((rate) => ({ name, p, rate }))
  )
  return asked.map(({ input }, k): Score => {
    const built = scoreParts(parts, weighted as never, input)
    if (own.length === 0) return { answer: input.answer, reward: built.reward, rows: built.rows }
    const valued = [
      ...built.rows.slice(0, parts.length),
      ...own.map(({ name, weight }, p) => ({ name, value: said[p]![k]!.value, weight: weightAt(weight, step) }))
    ]
    const unshaped = rates.map(({ name, p, rate }) => ({
      name: `${name}/${rate}`,
      value: said[p]![k]!.rates?.[rate] ?? Number.NaN,
      weight: 0
    }))
    return {
      answer: input.answer,
      reward: totalReward(valued),
      rows: [...valued, ...built.rows.slice(parts.length), ...unshaped]
    }
  })
})
