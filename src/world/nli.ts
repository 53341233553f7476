/**
 * NLI pairs of the world, in a paraphrase family of their own: a saying entails another saying of the same perspective
 * and stance, contradicts one of the opposite stance, and is neutral to one of another perspective (half of the time
 * of the same cluster, so that shared words mean nothing). Labels err at the judge's rate.
 */
import type { NliLabel, NliPair } from "../data/records.ts"
import { draws } from "./draws.ts"
import { say } from "./language.ts"
import type { Item, Stance, World } from "./world.ts"

const labels: ReadonlyArray<NliLabel> = ["entailment", "neutral", "contradiction"]

/** What one item says of another. */
export const relation = (premise: Item, hypothesis: Item): NliLabel =>
  premise.perspective !== hypothesis.perspective
    ? "neutral"
    : premise.stance === hypothesis.stance
      ? "entailment"
      : "contradiction"

/**
 * Pair `index` of an endless supply, the three labels in equal shares. The premise is an explanation, the hypothesis an
 * explanation too (`strip`) or a whole line (`keep`), as the evaluation is to read them.
 */
export const nliPair = (
  world: World,
  seed: number,
  index: number,
  options: { readonly prefix: "strip" | "keep"; readonly errorRate?: number }
): NliPair & { readonly truth: NliLabel } => {
  const random = draws(seed, "world", "nli", index)
  const truth = labels[index % labels.length]!
  const stance = (): Stance => (random.chance(0.5) ? 1 : -1)
  const item: Item = { perspective: random.integer(world.perspectives.length), stance: stance() }
  const { cluster } = world.perspectives[item.perspective]!
  const elsewhere = world.perspectives.map((_, k) => k).filter((k) => k !== item.perspective)
  const neighbours = elsewhere.filter((k) => world.perspectives[k]!.cluster === cluster)
  const against = (): Item =>
    truth === "neutral"
      ? {
          perspective: random.pick(neighbours.length > 0 && random.chance(0.5) ? neighbours : elsewhere),
          stance: stance()
        }
      : { perspective: item.perspective, stance: truth === "entailment" ? item.stance : item.stance === 1 ? -1 : 1 }
  const premise = say(world, "nli", item, random)
  const hypothesis = say(world, "nli", against(), random)
  const wrong = random.chance(options.errorRate ?? world.settings.judgeError)
  return {
    premise: premise.explanation,
    hypothesis: options.prefix === "keep" ? hypothesis.text : hypothesis.explanation,
    label: wrong ? random.pick(labels.filter((label) => label !== truth)) : truth,
    truth
  }
}
