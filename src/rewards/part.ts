/**
 * What a reward part is: a pure function of one completion, its prompt and its references.
 *
 * A GRPO stage is composed from parts: it derives its parameter Schema from their `fields` and `defaults`, embeds the
 * texts of `texts.ts` once per batch if any part reads embeddings, and journals one row per part and per rate. A part
 * of one's own implements the same interface; `module` brings its code into the task's code digest.
 */
import type { Schema } from "effect"
import type { Answer } from "./grammar.ts"
import type { Rows } from "./matching.ts"
import type { ProfileOptions } from "./profile.ts"
import type { Prompt } from "./texts.ts"

/** Everything a part may read about one completion. */
export interface RewardInput {
  readonly prompt: Prompt
  readonly answer: Answer
  /** Reference perspectives as written, "In the perspective of NAME, ...". */
  readonly references: ReadonlyArray<string>
  /** Unit embeddings of `referenceTexts(...)`: [M, d]. */
  readonly referenceEmbeddings: Rows
  /** Unit embeddings of `candidateTexts(...)`: [K, d], K = number of `answer.candidates`. */
  readonly candidateEmbeddings: Rows
  /** The estimator's own thresholds: what a part's `threshold: calibrated` stands for. */
  readonly calibrated: { readonly coverage: number; readonly uniqueness: number }
  readonly options: ProfileOptions
}

/** A part's verdict: the value after shaping and before weighting (NaN: unscorable), and unshaped rates to journal. */
export interface PartScore {
  readonly value: number
  /** Journaled with weight 0, under the names given. */
  readonly rates?: Readonly<Record<string, number>>
}

export interface RewardPart<Name extends string, Params extends { readonly weight: number }> {
  readonly name: Name
  /** `import.meta.url` of the module that defines the part. */
  readonly module: string
  /** Whether `score` reads embeddings. */
  readonly embeddings: boolean
  /** A Schema for every parameter, without defaults. */
  readonly fields: { readonly [K in keyof Params]: Schema.Codec<Params[K], unknown> }
  /** The paper's values. */
  readonly defaults: Params
  /** One line on every parameter, for the schema of experiments. */
  readonly help: { readonly [K in keyof Params]: string }
  readonly score: (input: RewardInput, params: Params) => PartScore
}

/** A part with the types of its parameters forgotten. */
export interface AnyRewardPart {
  readonly name: string
  readonly module: string
  readonly embeddings: boolean
  readonly fields: Readonly<Record<string, Schema.Codec<unknown, unknown>>>
  readonly defaults: { readonly weight: number }
  readonly help: Readonly<Record<string, string>>
  readonly score: (input: RewardInput, params: never) => PartScore
}

/** The parameters of a list of parts, by part name. */
export type ParamsOf<Parts extends ReadonlyArray<AnyRewardPart>> = {
  readonly [P in Parts[number] as P["name"]]: P["defaults"]
}
