/**
 * A reward of a user's own, as a module exports it: `grpo.reward.<name>: { from: ./mine.ts#brevity, weight: 1 }`.
 *
 *     export const brevity = reward({
 *       params: { most: Param.int(5, "candidates that count as short") },
 *       score: ({ answer }, { most }) => (answer.candidates.length <= most ? 0.5 : 0)
 *     })
 *
 * It says one number for one completion, or null for one that it cannot score (the row then counts without this reward,
 * and not at all where no reward can score it). It may return a promise. `weight` and `timeout` are every reward's.
 */
import { Schema } from "effect"
import type { AnyRewardPart, RewardInput } from "./part.ts"

/** What a reward says of a completion: a finite value, null where it cannot say, or a value with rates to journal. */
export type Verdict =
  | number
  | null
  | { readonly value: number | null; readonly rates?: Readonly<Record<string, number>> }

export interface CustomReward<F extends Schema.Struct.Fields = Schema.Struct.Fields> {
  readonly _tag: "Reward"
  /** Schemas of the keys beside `from`, `weight` and `timeout`. */
  readonly params: F
  /** The weight where the YAML says none. */
  readonly weight: number
  /** Whether `score` reads embeddings. */
  readonly embeddings: boolean
  readonly score: (input: RewardInput, params: Schema.Struct.Type<F>) => Verdict | Promise<Verdict>
}

/** A custom reward with the types of its parameters forgotten. */
export interface AnyCustomReward {
  readonly _tag: "Reward"
  readonly params: Schema.Struct.Fields
  readonly weight: number
  readonly embeddings: boolean
  readonly score: (input: RewardInput, params: never) => Verdict | Promise<Verdict>
}

/** Keys that every reward of a user's own has beside its parameters. */
export const reservedKeys = ["from", "weight", "timeout"] as const
type Reserved = { readonly [K in (typeof reservedKeys)[number]]?: never }

export const reward = <const F extends Schema.Struct.Fields & Reserved>(spec: {
  readonly params?: F
  readonly weight?: number
  readonly embeddings?: boolean
  readonly score: (input: RewardInput, params: Schema.Struct.Type<F>) => Verdict | Promise<Verdict>
}): CustomReward<F> => ({
  _tag: "Reward",
  params: spec.params ?? ({} as F),
  weight: spec.weight ?? 1,
  embeddings: spec.embeddings ?? false,
  score: spec.score
})

type Known = Readonly<Record<string, unknown>>
const isRecord = (value: unknown): value is Known => typeof value === "object" && value !== null

/**
 * What a module's export is as a reward: made by `reward`, or a part as Overtone's own are (`RewardPart`); else why it is
 * none.
 * @param withDefault a Schema for a key that may be left out
 */
export const asReward = (
  value: unknown,
  withDefault: (schema: Schema.Codec<unknown, unknown>, value: unknown, help: string) => Schema.Top
): AnyCustomReward | { readonly wrong: string } => {
  const remedy = 'write `export const name = reward({ score: ... })`, with reward from "overtone/rewards/custom"'
  if (!isRecord(value)) return { wrong: `it is ${kindOf(value)}; ${remedy}` }
  if (typeof value["score"] !== "function") return { wrong: `it has no function \`score\`; ${remedy}` }
  if (value["_tag"] === "Reward" && isRecord(value["params"])) return value as never
  if (!isRecord(value["fields"]) || !isRecord(value["defaults"]))
    return { wrong: `it was not made by reward(...); ${remedy}` }
  const part = value as never as AnyRewardPart
  const defaults: Known = { ...part.defaults }
  const fields = Object.entries(part.fields)
    .filter(([key]) => key !== "weight")
    .map(([key, schema]) => [key, withDefault(schema, defaults[key], part.help?.[key] ?? key)])
  return {
    _tag: "Reward",
    params: Object.fromEntries(fields),
    weight: part.defaults.weight,
    embeddings: part.embeddings,
    score: part.score
  }
}

const kindOf = (value: unknown): string => (value === null || value === undefined ? String(value) : `a ${typeof value}`)

/** The section of a custom reward without `from`: its parameters, and what every reward has. */
export const paramsOf = (custom: AnyCustomReward, common: Schema.Struct.Fields): Schema.Codec<Known, unknown> =>
  Schema.Struct({ ...custom.params, ...common }) as never
