/** The rows that preference training learns from, whatever data set they come from, and as token ids. */
import { Effect } from "effect"
import type { DatasetReader } from "../../artifact/kinds.ts"
import type { PreferencePair, PromptText, RankedList, UnpairedPreference } from "../../data/records.ts"
import { permutation, stream } from "../../device/random.ts"
import type { Sequence } from "../../models/batching.ts"
import type { Policy } from "../../models/Policy.ts"
import { fitting } from "../fitting.ts"
import type { LossNeeds } from "./losses.ts"

/** The answers of a group, with what is known of the group and of each answer. */
export interface PreferenceRow {
  readonly prompt: PromptText
  /** Chosen and rejected; best first; or the one answer. */
  readonly answers: ReadonlyArray<string>
  readonly margin: number
  readonly weight: number
  readonly label: boolean
  readonly relevance: ReadonlyArray<number>
}

export interface Example extends PreferenceRow {
  /** One per place of a group; empty places at the end. */
  readonly sequences: ReadonlyArray<Sequence>
}

export interface PreferenceInputs {
  readonly pairs: DatasetReader<PreferencePair> | undefined
  readonly ranked: DatasetReader<RankedList> | undefined
  readonly unpaired: DatasetReader<UnpairedPreference> | undefined
}

const plain = { margin: 0, weight: 1, label: true, relevance: [] }

/** Pairs as rows. */
export const pairRows = (pairs: ReadonlyArray<PreferencePair>): ReadonlyArray<PreferenceRow> =>
  pairs.map(({ chosen, margin = 0, prompt, rejected, weight = 1 }) => ({
    ...plain,
    prompt,
    answers: [chosen, rejected],
    margin,
    weight
  }))

/** The rows of the data set that a loss needs; undefined where it is not there. Rankings of one answer say nothing. */
export const preferenceRows = Effect.fnUntraced(function* ({ data }: LossNeeds, inputs: PreferenceInputs) {
  switch (data) {
    case "pairs": {
      const rows = inputs.pairs && (yield* inputs.pairs.rows)
      return rows && pairRows(rows)
    }
    case "ranked": {
      const rows = inputs.ranked && (yield* inputs.ranked.rows)
      return rows
        ?.filter(({ answers }) => answers.length > 1)
        .map(
          ({ answers, prompt }): PreferenceRow => ({
            ...plain,
            prompt,
            answers: answers.map(({ text }) => text),
            relevance: answers.map(({ relevance }) => relevance)
          })
        )
    }
    case "unpaired": {
      const rows = inputs.unpaired && (yield* inputs.unpaired.rows)
      return rows?.map(
        ({ completion, label, prompt }): PreferenceRow => ({ ...plain, prompt, answers: [completion], label })
      )
    }
  }
})

const empty: Sequence = { prompt: [], completion: [] }

/** Whether a row prefers a text to itself: such a row has no gradient but rounding, which Adam would blow up. */
const prefersNothing = ({ answers }: PreferenceRow) => answers.length > 1 && new Set(answers).size === 1

/**
 * Rows as token ids, `size` places each. Rows whose answers are all one text are left out; a row with an answer that does
 * not fit the context fails, or with `skip` is left out too.
 */
export const encodeRows = Effect.fnUntraced(function* (
  policy: Policy,
  rows: ReadonlyArray<PreferenceRow>,
  tooLong: "fail" | "skip"
) {
  const size = Math.max(...rows.map(({ answers }) => answers.length))
  const telling = rows.filter((row) => !prefersNothing(row))
  const { kept, skipped } = yield* fitting(telling, tooLong, (row) =>
    Effect.map(
      Effect.forEach(row.answers, (answer) => policy.sequence(row.prompt, answer)),
      (sequences): Example => {
        const filling = Array.from({ length: size - sequences.length }, () => empty)
        return { ...row, sequences: [...sequences, ...filling] }
      }
    )
  )
  return { size, examples: kept, equal: rows.length - telling.length, skipped }
})

/**
 * For every row the prompt of it with the answer of a row that has another prompt, as KTO's estimate of the divergence
 * wants it: the same partner all through training. Nothing where no partner is there, or does not fit.
 */
export const mismatchedSequences = (
  examples: ReadonlyArray<Example>,
  seed: number,
  limit: number
): ReadonlyArray<ReadonlyArray<Sequence>> => {
  const order = Array.from(permutation(stream(seed, "preference", "mismatch"), examples.length))
  const prompts = examples.map(({ prompt }) => JSON.stringify(prompt))
  const found = examples.map((): ReadonlyArray<Sequence> => [])
  order.forEach((row, place) => {
    for (let step = 1; step < order.length; step++) {
      const other = order[(place + step) % order.length]!
      if (prompts[other] === prompts[row]) continue
      const [{ prompt }, { completion }] = [examples[row]!.sequences[0]!, examples[other]!.sequences[0]!]
      if (prompt.length + completion.length <= limit) found[row] = [{ prompt, completion }]
      break
    }
  })
  return found
}
