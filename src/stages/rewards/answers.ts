/**
 * Batches to rewards of a user's own, and what comes back: the protocol that modules, commands and services share.
 *
 * Request, one JSON object (a line, or a POST's body):
 *
 *     {"id": 0, "step": 3, "reward": "mine", "params": {...}, "rows": [{"prompt_id": "s12", "situation": "...",
 *      "prompt": "...", "completion": "...", "perspectives": ["..."], "strict": true, "references": ["..."]}]}
 *
 * Answer, one JSON object: `{"id": 0, "scores": [0.5, null]}`, one finite number or null (unscorable) for each row.
 */
import { Effect, Schema } from "effect"
import type { PartScore, RewardInput } from "../../rewards/part.ts"
import { type Reason, RewardFailed } from "./RewardFailed.ts"

/** A completion as a reward of a user's own gets it. */
export interface Asked {
  readonly promptId: string
  readonly input: RewardInput
}

/** A reward of a user's own, started. */
export interface Scorer {
  readonly name: string
  readonly embeddings: boolean
  /** Values of a batch, in its order; NaN where it said null. */
  readonly score: (batch: ReadonlyArray<Asked>, step: number) => Effect.Effect<ReadonlyArray<PartScore>, RewardFailed>
}

/** Who is asked, for messages. */
export interface Origin {
  readonly reward: string
  readonly origin: string
}

export const failedWith = (
  { reward, origin }: Origin,
  reason: Reason,
  at?: { readonly row: number; readonly asked: Asked }
) =>
  new RewardFailed({
    reward,
    origin,
    completion:
      at === undefined ? null : { promptId: at.asked.promptId, row: at.row, text: at.asked.input.answer.text },
    reason
  })

/** The body of a request. */
export const request = (id: number, name: string, step: number, params: unknown, batch: ReadonlyArray<Asked>): string =>
  JSON.stringify({
    id,
    step,
    reward: name,
    params: params ?? {},
    rows: batch.map(({ promptId, input }) => ({
      prompt_id: promptId,
      situation: input.prompt.situation,
      prompt: input.prompt.chat,
      completion: input.answer.text,
      perspectives: input.answer.candidates,
      strict: input.answer.strict,
      references: input.references
    }))
  })

const Answer = Schema.Struct({ id: Schema.Int, scores: Schema.Array(Schema.Unknown) })
const isAnswer = Schema.is(Answer)

const shown = (text: string): string => JSON.stringify(text.length > 200 ? `${text.slice(0, 197)}...` : text)

/** The scores of an answer to request `id`, not yet looked at one by one; or what is wrong with it. */
export const readAnswer = (text: string, id: number): { readonly scores: ReadonlyArray<unknown> } | Reason => {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    const odd = /\b(NaN|-?Infinity)\b/.exec(text)
    if (odd !== null && text.includes('"scores"')) {
      return { _tag: "NotANumber", got: `${odd[1]} (which JSON does not know)` }
    }
    return { _tag: "Garbled", detail: `${shown(text)} is no JSON` }
  }
  if (!isAnswer(value)) return { _tag: "Garbled", detail: `${shown(text)} has no \`id\` and \`scores\`` }
  if (value.id !== id) {
    return { _tag: "Garbled", detail: `an answer to request ${value.id} came when ${id} was asked` }
  }
  return value
}

const told = (value: unknown): string =>
  typeof value === "string"
    ? shown(value)
    : typeof value === "object" && value !== null
      ? JSON.stringify(value).slice(0, 200)
      : String(value)

const isVerdict = (value: unknown): value is { readonly value: unknown; readonly rates?: unknown } =>
  typeof value === "object" && value !== null && "value" in value

const ratesOf = (value: unknown): Readonly<Record<string, number>> | undefined =>
  isVerdict(value) && typeof value.rates === "object" && value.rates !== null
    ? (value.rates as Readonly<Record<string, number>>)
    : undefined

/** Scores as they came, checked: one for each row, each a finite number or null. */
export const checked = (
  origin: Origin,
  scores: ReadonlyArray<unknown>,
  batch: ReadonlyArray<Asked>
): Effect.Effect<ReadonlyArray<PartScore>, RewardFailed> => {
  if (scores.length !== batch.length) {
    return Effect.fail(failedWith(origin, { _tag: "WrongCount", got: scores.length, wanted: batch.length }))
  }
  const values: Array<PartScore> = []
  for (const [row, said] of scores.entries()) {
    const value = isVerdict(said) ? said.value : said
    const rates = ratesOf(said)
    const odd =
      value !== null && !(typeof value === "number" && Number.isFinite(value))
        ? told(value)
        : Object.entries(rates ?? {}).flatMap(([name, rate]) =>
            Number.isFinite(rate) ? [] : [`${told(rate)} as its rate ${name}`]
          )[0]
    if (odd !== undefined) {
      return Effect.fail(failedWith(origin, { _tag: "NotANumber", got: odd }, { row, asked: batch[row]! }))
    }
    values.push({ value: typeof value === "number" ? value : Number.NaN, ...(rates === undefined ? {} : { rates }) })
  }
  return Effect.succeed(values)
}
