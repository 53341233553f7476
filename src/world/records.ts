/**
 * The world's situations as the records that data sets hold, with references in the manner of a family: triplets'
 * in training (what a reward's references look like), evaluation's elsewhere, so that no checker shares templates with
 * what it checks.
 */
import type { PerspectiveText, Situation } from "../data/records.ts"
import { draws } from "./draws.ts"
import { type Saying, say } from "./language.ts"
import type { Family } from "./lexicon.ts"
import type { Item, World, WorldSituation } from "./world.ts"

/** "12+" or "12-": what a perspective means; equal for paraphrases. */
export const meaningOf = ({ perspective, stance }: Item): string => `${perspective}${stance === 1 ? "+" : "-"}`

export const sayingRecord = ({ item, name, explanation, text }: Saying): PerspectiveText => ({
  name,
  explanation,
  text,
  meaning: meaningOf(item)
})

/** A situation's window as references, one paraphrase each, in window order. */
export const references = (world: World, situation: WorldSituation, family: Family): ReadonlyArray<Saying> => {
  const random = draws(world.settings.seed, "world", "references", family, situation.id)
  return situation.window.map((item) => say(world, family, item, random))
}

/** A situation with these perspectives on it. Throws a RangeError where there is none. */
export const sayingsRecord = ({ id, prompt }: WorldSituation, sayings: ReadonlyArray<Saying>): Situation => {
  const [first, ...rest] = sayings.map(sayingRecord)
  if (first === undefined) throw new RangeError(`situation ${id} has an empty window`)
  return { id, prompt, perspectives: [first, ...rest] }
}

/** The record of a situation. */
export const situationRecord = (
  world: World,
  situation: WorldSituation,
  family: Family = situation.split === "train" ? "triplets" : "evaluation"
): Situation => sayingsRecord(situation, references(world, situation, family))
