/**
 * What a logged slate says of its responses by itself: their order by votes, the best against the worst, the best to
 * learn from. POPE's baselines (SFT on the top-voted response, DPO of top against bottom) stand on this.
 *
 * A response's worth is its votes, its votes by exposure, or its relevance. Responses without that are left out; a text that
 * is there twice counts once, by its best place. Ties are kept in the order of the slate. Slates that say nothing give
 * nothing: no response with votes (`unvoted`), one text only (`alone`), all worth the same (`undecided`).
 */
import type {
  LoggedResponse,
  LoggedSlate,
  PreferencePair,
  PromptCompletion,
  RankedList,
  UnpairedPreference
} from "./records.ts"

export type Worth = "votes" | "rate" | "relevance"
export type Silence = "unvoted" | "alone" | "undecided"

interface Judged {
  readonly text: string
  readonly worth: number
}

const worthOf = ({ exposure, relevance, votes }: LoggedResponse, by: Worth): number | undefined => {
  switch (by) {
    case "votes":
      return votes
    case "rate":
      return votes === undefined || exposure === undefined ? undefined : votes / exposure
    case "relevance":
      return relevance
  }
}

/** The distinct texts of a slate with their worth, best first. */
export const rankedResponses = ({ responses }: LoggedSlate, by: Worth): ReadonlyArray<Judged> => {
  const best = new Map<string, number>()
  for (const response of responses) {
    const worth = worthOf(response, by)
    if (worth !== undefined) best.set(response.text, Math.max(worth, best.get(response.text) ?? worth))
  }
  return [...best].map(([text, worth]) => ({ text, worth })).toSorted((a, b) => b.worth - a.worth)
}

/** Everything that preference training may learn from a slate. */
export interface Lessons {
  /** The best response against the worst; its margin is how much more it is worth. */
  readonly pair: PreferencePair
  /** Best first, at most `most`, the worst kept; relevance is worth, never below 0. */
  readonly ranked: RankedList
  /** Worth more than the slate's mean: desirable; less: not. */
  readonly unpaired: ReadonlyArray<UnpairedPreference>
  readonly top: PromptCompletion
  readonly bottom: PromptCompletion
}

export interface LessonOptions {
  readonly by: Worth
  /** Longest ranked list. */
  readonly most: number
  /** Least difference between best and worst; 0 asks only that they differ. */
  readonly leastMargin: number
}

/** The lessons of a slate, or why there are none. */
export const lessonsOf = (slate: LoggedSlate, { by, leastMargin, most }: LessonOptions): Lessons | Silence => {
  const ranked = rankedResponses(slate, by)
  const [best, worst] = [ranked[0], ranked.at(-1)]
  if (best === undefined || worst === undefined) return "unvoted"
  if (ranked.length === 1) return "alone"
  const margin = best.worth - worst.worth
  if (margin <= 0 || margin < leastMargin) return "undecided"
  const { id, prompt } = slate
  const mean = ranked.reduce((sum, { worth }) => sum + worth, 0) / ranked.length
  const [first, ...rest] = ranked.length <= most ? ranked : [...ranked.slice(0, most - 1), worst]
  const answer = ({ text, worth }: Judged) => ({ text, relevance: Math.max(0, worth) })
  return {
    pair: { id, prompt, chosen: best.text, rejected: worst.text, margin },
    ranked: { id, prompt, answers: [answer(first!), ...rest.map(answer)] },
    unpaired: ranked.flatMap(({ text, worth }, k) =>
      worth === mean ? [] : [{ id: `${id}/${k}`, prompt, completion: text, label: worth > mean }]
    ),
    top: { id, prompt, completion: best.text },
    bottom: { id, prompt, completion: worst.text }
  }
}

/** The same from pairs that somebody else has judged: relevance is 1 and 0. */
export const lessonsOfPair = (pair: PreferencePair): Lessons => {
  const { chosen, id, prompt, rejected } = pair
  return {
    pair,
    ranked: {
      id,
      prompt,
      answers: [
        { text: chosen, relevance: 1 },
        { text: rejected, relevance: 0 }
      ]
    },
    unpaired: [
      { id: `${id}/chosen`, prompt, completion: chosen, label: true },
      { id: `${id}/rejected`, prompt, completion: rejected, label: false }
    ],
    top: { id, prompt, completion: chosen },
    bottom: { id, prompt, completion: rejected }
  }
}
