/**
 * Logged slates with votes, for off-policy evaluation where the truth is known.
 *
 * For every situation there is a pool of answers of one or two lines (`mostLines`), some with a falsehood. The behaviour policy
 * pi_0 draws answers from the pool by the popularity of what they say; the target policy leans towards approval:
 *
 *     log pi_0 = popularity logit + const,     log pi = overlap * log pi_0 + (1 - overlap) * 6 * approval + const
 *
 * so `overlap: 1` makes them equal. A slate is K draws from pi_0 in the order drawn, independent or without replacement.
 * Every voter belongs to a latent group, looks at position k with probability positionBias^k (1: no bias), and approves of
 * what it looks at by its group's taste. The value of a policy is its expected approval, computed by enumeration of the pool.
 *
 * A domain of the world is a block of its actors: situations of one domain share perspectives that those of another lack.
 */

import type { LoggedSlate } from "../data/records.ts"
import { type Draws, draws } from "./draws.ts"
import { approval, type Group, makeGroups, sigmoid, thought } from "./groups.ts"
import { say, writeWorldAnswer } from "./language.ts"
import { attributes } from "./lexicon.ts"
import { splitTokens } from "./vocabulary.ts"
import type { Item, World, WorldSituation } from "./world.ts"

export interface SlateSettings {
  readonly slateSize: number
  readonly poolSize: number
  readonly voters: number
  /** Probability of looking one position further down, in (0, 1]. */
  readonly positionBias: number
  /** How much the target policy follows the behaviour policy, in [0, 1]. */
  readonly overlap: number
  /** Most lines of an answer of the pool, each number from 1 as likely; default 2. */
  readonly mostLines?: number
  /** Whether a slate may hold an answer twice; default true. */
  readonly replacement?: boolean
}

export const defaultSlateSettings: SlateSettings = {
  slateSize: 4,
  poolSize: 8,
  voters: 20,
  positionBias: 0.85,
  overlap: 0.5
}

/** An answer of a pool with both policies' probabilities and the share of people who approve of it. */
export interface PoolAnswer {
  readonly text: string
  readonly items: ReadonlyArray<Item>
  readonly behaviour: number
  readonly target: number
  readonly approval: number
}

export interface LoggedResponse {
  /** Place in the pool. */
  readonly answer: number
  readonly text: string
  readonly position: number
  /** log pi_0 and log pi of the whole answer. */
  readonly behaviourLogprob: number
  readonly targetLogprob: number
  readonly votes: number
}

export interface Slate {
  readonly id: string
  readonly prompt: string
  readonly responses: ReadonlyArray<LoggedResponse>
  readonly pool: ReadonlyArray<PoolAnswer>
  /** Expected approval of one draw from each policy, by enumeration. */
  readonly value: { readonly behaviour: number; readonly target: number }
}

const softmax = (logits: ReadonlyArray<number>): ReadonlyArray<number> => {
  const top = Math.max(...logits)
  const weights = logits.map((logit) => Math.exp(logit - top))
  const mass = weights.reduce((sum, weight) => sum + weight, 0)
  return weights.map((weight) => weight / mass)
}

/** The pool of a situation and what both policies make of it. */
export const makePool = (
  world: World,
  groups: ReadonlyArray<Group>,
  situation: WorldSituation,
  settings: SlateSettings
): ReadonlyArray<PoolAnswer> => {
  const random = draws(world.settings.seed, "world", "pool", situation.id)
  const answers = Array.from({ length: settings.poolSize }, () => {
    const truths = random.shuffled(situation.window).slice(0, 1 + random.integer(settings.mostLines ?? 2))
    const items = random.chance(0.25)
      ? truths.map((item, k): Item => (k === 0 ? { ...item, stance: item.stance === 1 ? -1 : 1 } : item))
      : truths
    return { items, text: writeWorldAnswer(items.map((item) => say(world, "demonstrations", item, random))) }
  })
  const popularity = answers.map(
    ({ items }) =>
      items.reduce((sum, item) => sum + Math.log(world.perspectives[item.perspective]!.popularity), 0) / items.length
  )
  const behaviour = softmax(popularity)
  const approvals = answers.map(({ items }) => approval(groups, items, situation))
  const target = softmax(
    behaviour.map((p, k) => settings.overlap * Math.log(p) + (1 - settings.overlap) * 6 * approvals[k]!)
  )
  return answers.map((answer, k) => ({
    ...answer,
    behaviour: behaviour[k]!,
    target: target[k]!,
    approval: approvals[k]!
  }))
}

/** The domain of a situation, 0 to domains - 1. */
export const domainOf = (situation: WorldSituation, domains: number): number =>
  Math.floor((situation.values[0]! * domains) / attributes[0]!.length)

const draw = (pool: ReadonlyArray<PoolAnswer>, size: number, replacement: boolean, random: Draws) => {
  const left = pool.map(({ behaviour }) => behaviour)
  return Array.from({ length: size }, () => {
    const answer = random.weighted(left)
    if (!replacement) left[answer] = 0
    return answer
  })
}

/** Votes of people who walk down a slate. `approvals` [places][groups]: probability of a vote by someone who looks. */
export const castVotes = (
  groups: ReadonlyArray<Pick<Group, "share">>,
  approvals: ReadonlyArray<ReadonlyArray<number>>,
  { positionBias, voters }: Pick<SlateSettings, "positionBias" | "voters">,
  random: Draws
): ReadonlyArray<number> => {
  const votes = approvals.map(() => 0)
  const shares = groups.map(({ share }) => share)
  for (let voter = 0; voter < voters; voter++) {
    const group = random.weighted(shares)
    approvals.forEach((of, position) => {
      const looks = random.chance(positionBias ** position)
      const approves = random.chance(of[group]!)
      if (looks && approves) votes[position]!++
    })
  }
  return votes
}

/** What every group thinks of an answer, as probabilities of approval. */
const approvalsOf = (groups: ReadonlyArray<Group>, { items }: PoolAnswer, situation: WorldSituation) =>
  groups.map((group) => sigmoid(thought(group, items, situation)))

const slateOf = (
  id: string,
  situation: WorldSituation,
  groups: ReadonlyArray<Group>,
  pool: ReadonlyArray<PoolAnswer>,
  settings: SlateSettings,
  random: Draws
): Slate => {
  const shown = draw(pool, settings.slateSize, settings.replacement ?? true, random)
  const votes = castVotes(
    groups,
    shown.map((answer) => approvalsOf(groups, pool[answer]!, situation)),
    settings,
    random
  )
  const value = (policy: "behaviour" | "target") =>
    pool.reduce((sum, answer) => sum + answer[policy] * answer.approval, 0)
  return {
    id,
    prompt: situation.prompt,
    responses: shown.map((answer, position) => ({
      answer,
      text: pool[answer]!.text,
      position,
      behaviourLogprob: Math.log(pool[answer]!.behaviour),
      targetLogprob: Math.log(pool[answer]!.target),
      votes: votes[position]!
    })),
    pool,
    value: { behaviour: value("behaviour"), target: value("target") }
  }
}

/** Slate `index` of an endless supply, training situations in turn: a pure function of seed and index. */
export const loggedSlate = (
  world: World,
  seed: number,
  index: number,
  settings: SlateSettings = defaultSlateSettings
): Slate => {
  const situations = world.splits.train
  const situation = situations[index % situations.length]!
  const groups = makeGroups(world)
  const pool = makePool(world, groups, situation, settings)
  return slateOf(`slate/${index}`, situation, groups, pool, settings, draws(seed, "world", "slate", index))
}

/** Tokens of an answer in the world's own vocabulary, the end token included. */
const tokensOf = (text: string): number => splitTokens(text).length + 1

/** A probability's logarithm; of one that is 1 by rounding, 0. */
const logOf = (probability: number): number => Math.min(0, Math.log(probability))

/**
 * Slates of some situations as records, `count` a situation, with the truth beside them: the pool, both policies' and all
 * groups' probabilities. Throws a RangeError for slates without replacement that are larger than the pool.
 */
export const slateRecords = (
  world: World,
  seed: number,
  situations: ReadonlyArray<WorldSituation>,
  count: number,
  settings: SlateSettings,
  source: (situation: WorldSituation) => string
): ReadonlyArray<LoggedSlate> => {
  const { poolSize, positionBias, replacement = true, slateSize, voters } = settings
  if (!replacement && slateSize > poolSize) {
    throw new RangeError(
      `a slate of [${slateSize}] answers without replacement needs a pool of as many, not [${poolSize}]`
    )
  }
  const groups = makeGroups(world)
  return situations.flatMap((situation) => {
    const pool = makePool(world, groups, situation, settings)
    const known = pool.map((answer) => ({
      text: answer.text,
      logprob: logOf(answer.behaviour),
      tokens: tokensOf(answer.text),
      target: logOf(answer.target),
      approvals: nonEmpty(approvalsOf(groups, answer, situation))
    }))
    return Array.from({ length: count }, (_, k): LoggedSlate => {
      const random = draws(seed, "world", "slates", situation.id, k)
      const { responses } = slateOf(`${situation.id}/${k}`, situation, groups, pool, settings, random)
      return {
        id: `${situation.id}/${k}`,
        promptId: situation.id,
        prompt: situation.prompt,
        responses: nonEmpty(
          responses.map(({ answer, position, text, votes }) => ({
            text,
            votes,
            exposure: voters * positionBias ** position,
            logprob: known[answer]!.logprob,
            tokens: known[answer]!.tokens
          }))
        ),
        source: source(situation),
        truth: {
          voters,
          positionBias,
          shares: nonEmpty(groups.map(({ share }) => share)),
          replacement,
          pool: nonEmpty(known)
        }
      }
    })
  })
}

const nonEmpty = <A>([first, ...rest]: ReadonlyArray<A>): readonly [A, ...Array<A>] => {
  if (first === undefined) throw new RangeError("a slate and its pool hold at least one answer")
  return [first, ...rest]
}

/**
 * The control: the same slates, everyone's votes equal (the log's mean, with an exposure that keeps the log's mean rate).
 * What a method gains on it is not owed to what people think.
 */
export const equalVotes = (slates: ReadonlyArray<LoggedSlate>): ReadonlyArray<LoggedSlate> => {
  const responses = slates.flatMap((slate) => slate.responses).filter(({ votes }) => votes !== undefined)
  const mean = (of: (response: (typeof responses)[number]) => number) =>
    responses.reduce((sum, response) => sum + of(response), 0) / Math.max(responses.length, 1)
  const votes = mean((response) => response.votes!)
  const rate = mean((response) => response.votes! / (response.exposure ?? 1))
  return slates.map(({ truth: _, ...slate }) => ({
    ...slate,
    responses: nonEmpty(
      slate.responses.map(({ exposure, relevance, ...response }) => ({
        ...response,
        votes,
        ...(exposure === undefined || rate === 0 ? {} : { exposure: votes / rate })
      }))
    )
  }))
}
