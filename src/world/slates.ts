/**
 * Logged slates with votes, for off-policy evaluation where the truth is known.
 *
 * For every situation there is a pool of answers of one or two lines, some with a falsehood. The behaviour policy
 * pi_0 draws answers from the pool by the popularity of what they say; the target policy leans towards approval:
 *
 *     log pi_0 = popularity logit + const,     log pi = overlap * log pi_0 + (1 - overlap) * 6 * approval + const
 *
 * so `overlap: 1` makes them equal. A slate is K independent draws from pi_0, in the order drawn. Every voter belongs to
 * a latent group, looks at position k with probability positionBias^k (1: no bias), and approves of what it looks at by
 * its group's taste. The value of a policy is its expected approval, computed by enumeration of the pool.
 */
import { draws } from "./draws.ts"
import { approval, type Group, makeGroups, sigmoid, thought } from "./groups.ts"
import { say, writeWorldAnswer } from "./language.ts"
import type { Item, World, WorldSituation } from "./world.ts"

export interface SlateSettings {
  readonly slateSize: number
  readonly poolSize: number
  readonly voters: number
  /** Probability of looking one position further down, in (0, 1]. */
  readonly positionBias: number
  /** How much the target policy follows the behaviour policy, in [0, 1]. */
  readonly overlap: number
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
    const truths = random.shuffled(situation.window).slice(0, 1 + random.integer(2))
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
  const random = draws(seed, "world", "slate", index)
  const shown = Array.from({ length: settings.slateSize }, () =>
    random.weighted(pool.map(({ behaviour }) => behaviour))
  )
  const votes = shown.map(() => 0)
  for (let voter = 0; voter < settings.voters; voter++) {
    const group = groups[random.weighted(groups.map(({ share }) => share))]!
    shown.forEach((answer, position) => {
      const looks = random.chance(settings.positionBias ** position)
      const approves = random.chance(sigmoid(thought(group, pool[answer]!.items, situation)))
      if (looks && approves) votes[position]!++
    })
  }
  const value = (policy: "behaviour" | "target") =>
    pool.reduce((sum, answer) => sum + answer[policy] * answer.approval, 0)
  return {
    id: `slate/${index}`,
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
