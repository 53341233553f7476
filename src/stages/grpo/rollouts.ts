/**
 * The answers of a step, scored. With `dynamicSampling.rounds` groups without variance, which teach nothing, are replaced by
 * those of further prompts until there are `promptsPerStep` that have it, or the rounds are over: DAPO's dynamic sampling
 * (arXiv 2503.14476, section 3.2), with a bound. If not a single group has variance, the step keeps the first ones.
 *
 * A round draws as many prompts as are missing, none that the step had before, in an order that depends on the step alone:
 * a resumed run draws the same.
 */
import { Effect } from "effect"
import type { Situation } from "../../data/records.ts"
import { permutation, stream } from "../../device/random.ts"
import type { Completion } from "../../models/generate.ts"
import { groupsVary } from "../../rewards/advantage.ts"
import type { Score } from "../scoring.ts"
import { overlongOf } from "./credit.ts"
import type { GrpoParams } from "./params.ts"

/** Answers of whole groups with their scores, row by row. */
export interface Answered {
  readonly answers: ReadonlyArray<Completion>
  readonly scores: ReadonlyArray<Score>
}

export interface Rollouts extends Answered {
  /** Rows to learn from, whole groups; all of them unless groups were replaced. */
  readonly kept: ReadonlyArray<number>
  /** Rounds of sampling, the first included. */
  readonly rounds: number
}

/** Whether each group's rewards, or any weighted part of them where parts are normalised by themselves, vary. */
const varying = (params: GrpoParams, { answers, scores }: Answered): ReadonlyArray<boolean> => {
  const { groupSize } = params
  const decomposed = params.reward.aggregate === "normalize-then-sum"
  const parts = decomposed ? scores[0]!.rows.flatMap(({ weight }, p) => (weight === 0 ? [] : [p])) : []
  const lists = [
    ...(decomposed ? [] : [scores.map(({ reward }, row) => reward + overlongOf(params, answers[row]!.ids.length))]),
    ...parts.map((p) => scores.map(({ rows }) => rows[p]!.value))
  ]
  const found = lists.map((values) => groupsVary(values, groupSize))
  return Array.from({ length: scores.length / groupSize }, (_, group) => found.some((vary) => vary[group]))
}

/** The rows of some groups. */
const rowsOf = (groups: ReadonlyArray<number>, groupSize: number) =>
  groups.flatMap((group) => Array.from({ length: groupSize }, (_, k) => group * groupSize + k))

/** Answers to the prompts of step `k`, `first` (rows of `situations`), and of what replaces them. */
export const collect = Effect.fn("grpo.collect")(function* <E, R>(
  params: GrpoParams,
  seed: number,
  k: number,
  first: ReadonlyArray<number>,
  situations: ReadonlyArray<Situation>,
  answer: (batch: ReadonlyArray<Situation>) => Effect.Effect<Answered, E, R>
) {
  const { dynamicSampling, groupSize } = params
  const at = (rows: ReadonlyArray<number>) => rows.map((row) => situations[row]!)
  let all = yield* answer(at(first))
  let rounds = 1
  if (dynamicSampling.rounds === 0) {
    return { ...all, kept: all.answers.map((_, row) => row), rounds } satisfies Rollouts
  }
  const used = new Set(first)
  const others = Array.from(permutation(stream(seed, "grpo", "replacements", k), situations.length)).filter(
    (row) => !used.has(row)
  )
  const found = () => varying(params, all).flatMap((vary, group) => (vary ? [group] : []))
  let groups = found()
  while (groups.length < first.length && rounds <= dynamicSampling.rounds && others.length > 0) {
    const more = yield* answer(at(others.splice(0, first.length - groups.length)))
    all = { answers: [...all.answers, ...more.answers], scores: [...all.scores, ...more.scores] }
    rounds++
    groups = found()
  }
  const kept = groups.length > 0 ? groups : first.map((_, group) => group)
  return { ...all, kept: rowsOf(kept, groupSize), rounds } satisfies Rollouts
})
