/**
 * The most-voted responses of a log as the references of its queries, with their votes: POPE's controlled study has three
 * annotated responses a query and weighs them by up-votes (arXiv 2509.19333, RQ1; three is what the denominators of its
 * Table 1 fit). Responses of all of a query's slates count; a text that is there twice has the sum of its votes.
 *
 * A reference of several lines in the reward's grammar is read as its lines' explanations one after another, as the
 * evaluation reads an answer; with `of: lines` every distinct line is a reference with the votes of the responses that say it,
 * which makes a window of perspectives for OP-GRPO out of what people voted for.
 */
import { Effect } from "effect"
import { LoggedSlates, Situations } from "../artifact/kinds.ts"
import type { LoggedSlate, PerspectiveText, Situation } from "../data/records.ts"
import * as Param from "../dsl/param.ts"
import * as Stage from "../dsl/Stage.ts"
import { parseAnswer, perspectiveName, stripPerspective } from "../rewards/grammar.ts"

export const ReferencesParams = Param.struct({
  count: Param.int(3, "responses of a query that are taken at most: the most-voted, the earlier one among equals", {
    min: 1
  }),
  of: Param.literal(["responses", "lines"], "responses", "what a reference is: a response whole, or each of its lines")
})

/** What a response says, without tags and without the words that open its lines. */
const readResponse = (text: string): string => {
  const { candidates, strict } = parseAnswer(text)
  return strict && candidates.length > 0 ? candidates.map(stripPerspective).join(" ") : text.trim()
}

/** Every distinct line of some responses, with the votes of those that say it; a response without lines is one. */
const linesOf = (responses: ReadonlyArray<readonly [string, number]>): ReadonlyArray<PerspectiveText> => {
  const votes = new Map<string, number>()
  for (const [text, sum] of responses) {
    const { candidates } = parseAnswer(text)
    for (const line of candidates.length > 0 ? candidates : [text.trim()]) votes.set(line, (votes.get(line) ?? 0) + sum)
  }
  return [...votes].map(([line, sum], k) => ({
    name: perspectiveName(line) ?? `response ${k + 1}`,
    explanation: stripPerspective(line),
    text: line,
    votes: sum
  }))
}

const situationOf = (slates: ReadonlyArray<LoggedSlate>, { count, of }: typeof ReferencesParams.Type): Situation => {
  const votes = new Map<string, number>()
  for (const response of slates.flatMap(({ responses }) => responses)) {
    votes.set(response.text, (votes.get(response.text) ?? 0) + (response.votes ?? 0))
  }
  const best = [...votes].toSorted(([, a], [, b]) => b - a).slice(0, count)
  const whole = best.map(([text, sum], k): PerspectiveText => {
    const said = readResponse(text)
    return { name: `response ${k + 1}`, explanation: said, text: said, votes: sum }
  })
  const [first, ...rest] = of === "lines" ? linesOf(best) : whole
  // A slate has a response, so a query has a reference.
  return { id: slates[0]!.promptId, prompt: slates[0]!.prompt, perspectives: [first!, ...rest] }
}

export const references = Stage.make("references", {
  module: import.meta.url,
  version: 1,
  params: ReferencesParams,
  inputs: { slates: LoggedSlates },
  outputs: { situations: Situations },
  run: Effect.fn("stage.references")(function* ({ inputs, outputs, params }) {
    const byQuery = Map.groupBy(yield* inputs.slates.rows, ({ promptId }) => promptId)
    yield* outputs.situations.write([...byQuery.values()].map((slates) => situationOf(slates, params)))
  })
})
