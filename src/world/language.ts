/**
 * How the world says things: an explanation is four words in the manner of a paraphrase family (two content words of
 * the perspective, at least one its own, a stance word, a filler); a line names the perspective before it; an answer is
 * lines in a core block and a summary of their names.
 */
import type { Draws } from "./draws.ts"
import { type Family, fillers, orders, stanceWords } from "./lexicon.ts"
import { joinTokens, specialTokens } from "./vocabulary.ts"
import type { Item, World } from "./world.ts"

/** A perspective put into words. */
export interface Saying {
  readonly item: Item
  readonly name: string
  readonly explanation: string
  /** "In the perspective of NAME , EXPLANATION". */
  readonly text: string
}

const explain = (world: World, family: Family, item: Item, random: Draws): string => {
  const { pairs, words } = world.perspectives[item.perspective]!
  const [i, j] = random.pick(pairs[family])
  const [a, b] = random.chance(0.5) ? [words[j]!, words[i]!] : [words[i]!, words[j]!]
  const stance = random.pick(stanceWords[item.stance])
  const filler = random.pick(fillers[family])
  const order = random.pick(orders[family])
  return [...order].map((place) => (place === "a" ? a : place === "b" ? b : place === "S" ? stance : filler)).join(" ")
}

/** Puts an item into words in the manner of a family. */
export const say = (world: World, family: Family, item: Item, random: Draws): Saying => {
  const { name } = world.perspectives[item.perspective]!
  const explanation = explain(world, family, item, random)
  return { item, name, explanation, text: `${specialTokens.perspective} ${name} , ${explanation}` }
}

/** An answer in the strict form with these lines, in this order: at most 9 n + 6 tokens with the end token. */
export const writeWorldAnswer = (sayings: ReadonlyArray<Saying>): string =>
  joinTokens([
    specialTokens.openCore,
    "\n",
    ...sayings.flatMap(({ text }) => [text, "\n"]),
    specialTokens.closeCore,
    specialTokens.openSummary,
    ...sayings.map(({ name }) => name),
    specialTokens.closeSummary
  ])

/** The same lines as plain text, one below another: no block, no summary. */
export const writePlainLines = (sayings: ReadonlyArray<Saying>): string =>
  joinTokens(sayings.flatMap(({ text }, k) => (k === 0 ? [text] : ["\n", text])))
