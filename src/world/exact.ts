/**
 * The exact checker: what an answer says, read with the world's own knowledge. The reward never sees it.
 *
 * A line says (p, s) if it is "In the perspective of NAME , EXPLANATION" where NAME is p's, all content words (at least
 * two) belong to p, all stance words are s, and the explanation has at most seven words. Lines are read from the core
 * block, or, where there is none, from the text up to its first other tag.
 *
 *     coverage   = distinct true items / M          precision  = true lines / lines
 *     uniqueness = distinct true items / lines      f1         = harmonic mean of coverage and uniqueness
 *     at_m       = coverage of the first M lines    shuffled   = coverage of another situation's window
 */
import { parseAnswer, splitPerspectives } from "../rewards/grammar.ts"
import { stanceWords } from "./lexicon.ts"
import { meaningOf } from "./records.ts"
import { specialTokens, splitTokens } from "./vocabulary.ts"
import type { Item, Stance, World, WorldSituation } from "./world.ts"

/** The exact metrics of one answer, each in [0, 1] but `lines`. */
export interface ExactScores {
  readonly coverage: number
  readonly atM: number
  readonly precision: number
  readonly uniqueness: number
  readonly f1: number
  readonly lines: number
  /** 1 if the answer has the strict form with each tag once. */
  readonly strict: number
  readonly shuffled: number
}

/** Reads lines and answers of one world. */
export interface Checker {
  /** What a line says, or null if nothing certain. */
  readonly meaning: (line: string) => Item | null
  /** The lines of an answer. */
  readonly lines: (text: string) => ReadonlyArray<string>
  /** Scores an answer to `situation`; `other` is the situation whose window `shuffled` is measured against. */
  readonly score: (text: string, situation: WorldSituation, other: WorldSituation) => ExactScores
  /** The same of lines by themselves, those of several answers together, say. */
  readonly scoreLines: (
    lines: ReadonlyArray<string>,
    situation: WorldSituation,
    other: WorldSituation
  ) => Omit<ExactScores, "strict">
}

/** The longest explanation that still counts as one saying. */
const longestExplanation = 7

const otherTag = /<\/core\s+perspectives>|<\/?summary>/i
const openTag = /^\s*<core\s+perspectives>/i
const coreBlock = /<core\s+perspectives>.*?<\/core\s+perspectives>/is

/** Harmonic mean of two shares; 0 if both are 0. */
export const harmonicMean = (a: number, b: number): number => (a + b === 0 ? 0 : (2 * a * b) / (a + b))

/** Which test situation stands in for "another": far from the own one, never itself. */
export const shuffledIndex = (index: number, count: number): number =>
  (index + 1 + (36 % Math.max(count - 1, 1))) % count

export const makeChecker = (world: World): Checker => {
  const nameOf = new Map(world.perspectives.map(({ name }, perspective) => [name, perspective]))
  const ownersOf = new Map<string, Set<number>>()
  world.perspectives.forEach(({ words }, perspective) => {
    for (const word of words) ownersOf.set(word, (ownersOf.get(word) ?? new Set()).add(perspective))
  })
  const stanceOf = new Map<string, Stance>([
    ...stanceWords["1"].map((word) => [word, 1] as const),
    ...stanceWords["-1"].map((word) => [word, -1] as const)
  ])

  const meaning = (line: string): Item | null => {
    const [phrase, name, comma, ...explanation] = splitTokens(line)
    if (phrase !== specialTokens.perspective || comma !== specialTokens.comma) return null
    const perspective = nameOf.get(name ?? "")
    if (perspective === undefined || explanation.length > longestExplanation) return null
    const content = explanation.filter((word) => ownersOf.has(word))
    if (content.length < 2 || !content.every((word) => ownersOf.get(word)!.has(perspective))) return null
    const stances = new Set(explanation.flatMap((word) => stanceOf.get(word) ?? []))
    const [stance] = stances
    return stance === undefined || stances.size > 1 ? null : { perspective, stance }
  }

  const lines = (text: string): ReadonlyArray<string> => {
    const answer = parseAnswer(text)
    if (answer.strict) return answer.candidates
    if (coreBlock.test(text)) return splitPerspectives(answer.looseCore)
    return splitPerspectives((text.replace(openTag, "").split(otherTag)[0] ?? "").trim())
  }

  const scoreLines: Checker["scoreLines"] = (all, situation, other) => {
    const said = all.map((line) => {
      const item = meaning(line)
      return item === null ? "" : meaningOf(item)
    })
    const window = new Set(situation.window.map(meaningOf))
    const otherWindow = new Set(other.window.map(meaningOf))
    const within = (items: ReadonlyArray<string>, target: ReadonlySet<string>) =>
      items.filter((item) => target.has(item))
    const true_ = within(said, window)
    const distinct = new Set(true_).size
    const coverage = distinct / window.size
    const uniqueness = said.length === 0 ? 0 : distinct / said.length
    return {
      coverage,
      atM: new Set(within(said.slice(0, window.size), window)).size / window.size,
      precision: said.length === 0 ? 0 : true_.length / said.length,
      uniqueness,
      f1: harmonicMean(coverage, uniqueness),
      lines: said.length,
      shuffled: new Set(within(said, otherWindow)).size / otherWindow.size
    }
  }
  const score: Checker["score"] = (text, situation, other) => ({
    ...scoreLines(lines(text), situation, other),
    strict: parseAnswer(text, { tagsOnce: true }).strict ? 1 : 0
  })
  return { meaning, lines, score, scoreLines }
}
