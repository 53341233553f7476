/**
 * Format: whether candidates name their perspectives, without repetition, and the summary takes the names up.
 *
 *     value = max(base - 0.5 * repeats + keyword, 0) in [0, 2]
 *
 * base: 2 if at least 70 % of the candidates carry "In/From the perspective of X", 1 if at least 30 %, else 0.
 * repeats: candidates that repeat an earlier one (lower-cased) plus names that repeat an earlier one.
 * keyword: by the share h of names found in the lower-cased summary: h >= .75: 0, >= .5: -.5, >= .25: -.75, else -1;
 * 0 without names. Read from the first core block and the first summary found anywhere, each else the whole text.
 * OP-GRPO, `op_reward_batch.py`. The authors look for substrings (pitfall P4); `names: whole-word` for whole words.
 */
import { Schema } from "effect"
import { type Answer, perspectiveName, splitPerspectives } from "./grammar.ts"
import type { RewardPart } from "./part.ts"
import type { ProfileOptions } from "./profile.ts"

export interface FormatParams {
  readonly weight: number
}

const repeats = (texts: ReadonlyArray<string>) => texts.length - new Set(texts).size

const wordCharacter = /[\p{L}\p{N}_]/u

/** Whether `name` occurs in `text` with no letter or digit directly before or after it. */
const occursAsWord = (text: string, name: string): boolean => {
  for (let at = text.indexOf(name); at !== -1; at = text.indexOf(name, at + 1)) {
    const before = text.slice(0, at).at(-1) ?? ""
    const after = text.at(at + name.length) ?? ""
    if (!wordCharacter.test(before) && !wordCharacter.test(after)) return true
  }
  return false
}

const keywordTerm = (names: ReadonlyArray<string>, summary: string, rule: ProfileOptions["names"]): number => {
  if (names.length === 0) return 0
  const hits = names.filter((name) =>
    rule === "substring" ? summary.includes(name) : occursAsWord(summary, name)
  ).length
  const share = hits / names.length
  return share >= 0.75 ? 0 : share >= 0.5 ? -0.5 : share >= 0.25 ? -0.75 : -1
}

/** The format score of an answer, in [0, 2]. */
export const formatScore = (answer: Answer, rule: ProfileOptions["names"]): number => {
  const candidates = splitPerspectives(answer.looseCore)
  if (candidates.length === 0) return 0
  const names = candidates.map(perspectiveName).filter((name) => name !== null)
  const share = names.length / candidates.length
  const base = share >= 0.7 ? 2 : share >= 0.3 ? 1 : 0
  const lowerNames = names.map((name) => name.toLowerCase())
  const repeated = repeats(candidates.map((candidate) => candidate.toLowerCase())) + repeats(lowerNames)
  return Math.max(base - 0.5 * repeated + keywordTerm(lowerNames, answer.looseSummary.toLowerCase(), rule), 0)
}

export const format: RewardPart<"format", FormatParams> = {
  name: "format",
  module: import.meta.url,
  embeddings: false,
  fields: { weight: Schema.Finite },
  defaults: { weight: 0.1 },
  help: { weight: "weight in the reward" },
  score: ({ answer, options }) => ({ value: formatScore(answer, options.names) })
}
