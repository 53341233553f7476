/**
 * The Overton world: a synthetic world of situations whose window of true perspectives is known exactly.
 *
 * A situation is four attributes (actor, action, object, circumstance). Every attribute value contributes one to three
 * perspectives; their union is the situation's window, kept if it has 5 to 10 of them. Whether a perspective speaks for
 * or against is decided by the action and the perspective's cluster. Perspectives are contributed by popularity
 * (Zipf), but each is contributed by some value first: plain Zipf leaves a third unused and makes a constant answer
 * good. Development and test situations combine actions and objects that never meet in training.
 *
 * Everything is a function of the settings; nothing is drawn by call order.
 */
import { type Draws, draws } from "./draws.ts"
import { attributes, clusterWord, type Family, families, ownWord, perspectiveNameOf } from "./lexicon.ts"
import type { WorldSettings } from "./settings.ts"
import { makeVocabulary, type Vocabulary } from "./vocabulary.ts"

export type Stance = 1 | -1
export type Split = "train" | "development" | "test"

/** A true (or false) thing to say: perspective index and stance. */
export interface Item {
  readonly perspective: number
  readonly stance: Stance
}

export interface Perspective {
  readonly name: string
  readonly cluster: number
  /** Its own content words, then those it shares with its cluster. */
  readonly words: ReadonlyArray<string>
  /** Which pairs of `words` each paraphrase family may use: disjoint. */
  readonly pairs: { readonly [F in Family]: ReadonlyArray<readonly [number, number]> }
  /** Share of popularity; sums to 1 over perspectives. */
  readonly popularity: number
}

export interface WorldSituation {
  /** "train/17": split and place in it. */
  readonly id: string
  readonly split: Split
  readonly index: number
  /** Value of each attribute. */
  readonly values: ReadonlyArray<number>
  /** One surface word per attribute, joined by spaces. */
  readonly prompt: string
  /** 5 to 10 different perspectives, each with its stance here. */
  readonly window: ReadonlyArray<Item>
}

export interface World {
  readonly settings: WorldSettings
  readonly vocabulary: Vocabulary
  readonly perspectives: ReadonlyArray<Perspective>
  readonly splits: { readonly [S in Split]: ReadonlyArray<WorldSituation> }
}

/** Two items say the same. */
export const sameItem = (a: Item, b: Item): boolean => a.perspective === b.perspective && a.stance === b.stance

/** Which stances a world has room for: actions by domains of clusters. */
const domains = 2

const makePerspectives = (settings: WorldSettings): ReadonlyArray<Perspective> => {
  const { perspectives: total, clusters, ownWords, sharedWords, zipf, seed } = settings
  const wordPairs = (ownWords * (ownWords - 1)) / 2 + ownWords * sharedWords
  if (wordPairs < families.length) {
    throw new RangeError(
      `${ownWords} own and ${sharedWords} shared words make ${wordPairs} word pairs; ` +
        `the ${families.length} paraphrase families need one each: raise \`ownWords\``
    )
  }
  const rank = draws(seed, "world", "popularity").shuffled(Array.from({ length: total }, (_, k) => (k + 1) ** -zipf))
  const mass = rank.reduce((sum, weight) => sum + weight, 0)
  return rank.map((weight, index) => {
    const cluster = Math.floor((index * clusters) / total)
    const own = Array.from({ length: ownWords }, (_, k) => ownWord(index, k))
    const shared = Array.from({ length: sharedWords }, (_, k) => clusterWord(cluster, k))
    const every = own.flatMap((_, i) =>
      Array.from({ length: ownWords + sharedWords - i - 1 }, (_, k) => [i, i + 1 + k] as const)
    )
    const dealt = draws(seed, "world", "word pairs", index).shuffled(every)
    const dealtTo = (family: Family) => dealt.filter((_, k) => k % families.length === families.indexOf(family))
    return {
      name: perspectiveNameOf(index),
      cluster,
      words: [...own, ...shared],
      pairs: {
        demonstrations: dealtTo("demonstrations"),
        triplets: dealtTo("triplets"),
        nli: dealtTo("nli"),
        evaluation: dealtTo("evaluation")
      },
      popularity: weight / mass
    }
  })
}

/** The perspectives every value of every attribute contributes: each perspective somewhere, the rest by popularity. */
const makeContributions = (settings: WorldSettings, perspectives: ReadonlyArray<Perspective>) => {
  const random = draws(settings.seed, "world", "contributions")
  const places = attributes.flatMap((values, attribute) => values.map((_, value) => ({ attribute, value })))
  const contributed = attributes.map((values) => values.map((): Array<number> => []))
  const wanted = places.map(() => 1 + random.integer(3))
  const order = random.shuffled(places)
  random.shuffled(perspectives.map((_, index) => index)).forEach((perspective, k) => {
    const { attribute, value } = order[k % order.length]!
    contributed[attribute]![value]!.push(perspective)
  })
  const popularity = perspectives.map((perspective) => perspective.popularity)
  places.forEach(({ attribute, value }, k) => {
    const own = contributed[attribute]![value]!
    while (own.length < Math.min(wanted[k]!, perspectives.length)) {
      const perspective = random.weighted(popularity)
      if (!own.includes(perspective)) own.push(perspective)
    }
  })
  return contributed
}

/** Stance by action and domain: half of the actions each way in every domain. */
const makeStances = (settings: WorldSettings): ReadonlyArray<ReadonlyArray<Stance>> =>
  Array.from({ length: domains }, (_, domain) =>
    draws(settings.seed, "world", "stances", domain).shuffled(
      attributes[1]!.map((_, action): Stance => (action % 2 === 0 ? 1 : -1))
    )
  )

const makePrompt = (values: ReadonlyArray<number>, random: Draws): string =>
  values.map((value, attribute) => random.pick(attributes[attribute]![value]!)).join(" ")

/** Makes the world. Throws RangeError if the settings leave fewer situations than asked for. */
export const makeWorld = (settings: WorldSettings): World => {
  const perspectives = makePerspectives(settings)
  const contributed = makeContributions(settings, perspectives)
  const stances = makeStances(settings)
  const [actors, actions, objects, circumstances] = attributes.map((values) => values.length) as [
    number,
    number,
    number,
    number
  ]

  const windowOf = (values: ReadonlyArray<number>): ReadonlyArray<Item> => {
    const found = new Set(values.flatMap((value, attribute) => contributed[attribute]![value]!))
    return [...found].map((perspective) => ({
      perspective,
      stance: stances[perspectives[perspective]!.cluster % domains]![values[1]!]!
    }))
  }

  const pairs = Array.from({ length: actions * objects }, (_, pair) => pair)
  const heldOut = new Set(
    draws(settings.seed, "world", "held-out pairs")
      .shuffled(pairs)
      .slice(0, Math.round(settings.heldOutPairs * pairs.length))
  )
  const everything = Array.from({ length: actors * actions * objects * circumstances }, (_, k) => k)
  const seen: Array<ReadonlyArray<number>> = []
  const unseen: Array<ReadonlyArray<number>> = []
  const { leastWindow, mostWindow } = settings
  for (const k of draws(settings.seed, "world", "situations").shuffled(everything)) {
    if (seen.length >= settings.train && unseen.length >= settings.development + settings.test) break
    const pair = k % (actions * objects)
    const values = [
      Math.floor(k / (actions * objects)) % actors,
      Math.floor(pair / objects),
      pair % objects,
      Math.floor(k / (actions * objects * actors))
    ]
    const size = windowOf(values).length
    if (size >= leastWindow && size <= mostWindow) (heldOut.has(pair) ? unseen : seen).push(values)
  }

  const split = (name: Split, from: ReadonlyArray<ReadonlyArray<number>>, start: number, size: number) => {
    if (from.length < start + size) {
      throw new RangeError(
        `the world has ${Math.max(from.length - start, 0)} situations for "${name}" and ${size} are asked for; ` +
          "ask for fewer, widen `leastWindow` to `mostWindow`, or change `heldOutPairs`"
      )
    }
    return from.slice(start, start + size).map((values, index): WorldSituation => {
      const prompt = makePrompt(values, draws(settings.seed, "world", "prompt", name, index))
      return { id: `${name}/${index}`, split: name, index, values, prompt, window: windowOf(values) }
    })
  }
  return {
    settings,
    vocabulary: makeVocabulary(settings),
    perspectives,
    splits: {
      train: split("train", seen, 0, settings.train),
      test: split("test", unseen, 0, settings.test),
      development: split("development", unseen, settings.test, settings.development)
    }
  }
}
