/**
 * Problems of an experiment or executor file: each with its place, all at once, in the shape that `exp run --json` prints.
 */
import { Schema } from "effect"

/** Where something was written. `line` and `col` count from 1; `--set` values have file `--set` and their number as line. */
export interface Place {
  readonly file: string
  readonly line: number
  readonly col: number
  /** Dotted, from the top of the file: `params.grpo.steps`, `sweep.grid.grpo.reward.coverage.shape.1`. */
  readonly path: string
}

export const Problem = Schema.Struct({
  file: Schema.String,
  line: Schema.Int,
  col: Schema.Int,
  path: Schema.String,
  message: Schema.String,
  /** A remedy in words (`did you mean grpo.steps?`), or null. */
  hint: Schema.NullOr(Schema.String)
})
export type Problem = typeof Problem.Type

export const problemAt = (place: Place, message: string, hint: string | null = null): Problem => ({
  file: place.file,
  line: place.line,
  col: place.col,
  path: place.path,
  message,
  hint
})

export const problemText = (p: Problem): string =>
  `${p.file}:${p.line}:${p.col} ${p.path === "" ? "" : `${p.path}: `}${p.message}${p.hint === null ? "" : ` (${p.hint})`}`

/** The experiment cannot be run as it is written. Nothing was created. */
export class InvalidExperiment extends Schema.TaggedError<InvalidExperiment>()("InvalidExperiment", {
  errors: Schema.Array(Problem)
}) {
  override get message() {
    return this.errors.map(problemText).join("\n")
  }
}

/** An executor file is not as it should be. Nothing was created. */
export class InvalidExecutor extends Schema.TaggedError<InvalidExecutor>()("InvalidExecutor", {
  errors: Schema.Array(Problem)
}) {
  override get message() {
    return this.errors.map(problemText).join("\n")
  }
}

/** Sorted by place, each once. */
export const tidy = (problems: ReadonlyArray<Problem>): ReadonlyArray<Problem> => {
  const once = new Map(problems.map((p) => [`${p.file}\0${p.line}\0${p.col}\0${p.path}\0${p.message}`, p]))
  return [...once.values()].sort(
    (a, b) => (a.file < b.file ? -1 : a.file > b.file ? 1 : 0) || a.line - b.line || a.col - b.col
  )
}

/** Optimal string alignment distance: insertions, deletions, substitutions and swaps of neighbours, each 1. */
export const editDistance = (a: string, b: string): number => {
  let before: ReadonlyArray<number> = []
  let last: ReadonlyArray<number> = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1]
      let d = Math.min(last[j]! + 1, row[j - 1]! + 1, last[j - 1]! + (same ? 0 : 1))
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) d = Math.min(d, before[j - 2]! + 1)
      row.push(d)
    }
    before = last
    last = row
  }
  return last[b.length]!
}

/**
 * The known name that was probably meant, or undefined: a name that differs only in case or separators, else one within
 * a third of the length in edits, else the only one of which `word` is the last segment.
 */
export const closest = (word: string, known: Iterable<string>): string | undefined => {
  const names = [...new Set(known)]
  const fold = (s: string) => s.toLowerCase().replaceAll(/[-_ ]/g, "")
  const folded = names.find((name) => fold(name) === fold(word))
  if (folded !== undefined) return folded
  let best: { readonly name: string; readonly d: number } | undefined
  for (const name of names) {
    const d = editDistance(word, name)
    if (d <= Math.max(1, Math.floor(Math.min(word.length, name.length) / 3)) && d < (best?.d ?? Infinity))
      best = { name, d }
  }
  if (best !== undefined) return best.name
  const ending = names.filter((name) => name.endsWith(`.${word}`))
  return ending.length === 1 ? ending[0] : undefined
}

/** `did you mean X?`, or null. */
export const didYouMean = (word: string, known: Iterable<string>): string | null => {
  const name = closest(word, known)
  return name === undefined ? null : `did you mean ${name}?`
}
