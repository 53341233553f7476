/**
 * The typed records that data sets hold: what readers produce and stages consume.
 */
import { Schema } from "effect"

/** One perspective on a situation: `text` is what an answer would say, "In the perspective of NAME, EXPLANATION". */
export const PerspectiveText = Schema.Struct({
  name: Schema.NonEmptyString,
  explanation: Schema.NonEmptyString,
  text: Schema.NonEmptyString,
  /** What it means, where that is known (the world): perspectives with equal meanings say the same. */
  meaning: Schema.optionalKey(Schema.String)
})
export type PerspectiveText = typeof PerspectiveText.Type

/** A prompt with the window of reasonable perspectives on it: at least one. */
export const Situation = Schema.Struct({
  id: Schema.NonEmptyString,
  /** What the policy is asked: the situation, or the situation put into words of a task. */
  prompt: Schema.NonEmptyString,
  /** The situation by itself, where `prompt` says more. */
  situation: Schema.optionalKey(Schema.NonEmptyString),
  perspectives: Schema.NonEmptyArray(PerspectiveText)
})
export type Situation = typeof Situation.Type

/** A prompt and an answer to learn from. */
export const PromptCompletion = Schema.Struct({
  id: Schema.NonEmptyString,
  prompt: Schema.NonEmptyString,
  completion: Schema.NonEmptyString
})
export type PromptCompletion = typeof PromptCompletion.Type

/** Two sentences that mean the same and one that does not. */
export const Triplet = Schema.Struct({
  anchor: Schema.NonEmptyString,
  positive: Schema.NonEmptyString,
  negative: Schema.NonEmptyString
})
export type Triplet = typeof Triplet.Type

/** Two sentences and a judgement whether they mean the same; what thresholds are calibrated on. */
export const JudgedPair = Schema.Struct({
  left: Schema.NonEmptyString,
  right: Schema.NonEmptyString,
  same: Schema.Boolean
})
export type JudgedPair = typeof JudgedPair.Type

export const NliLabel = Schema.Literals(["entailment", "neutral", "contradiction"])
export type NliLabel = typeof NliLabel.Type

/** A premise, a hypothesis, and what the first says of the second. */
export const NliPair = Schema.Struct({
  premise: Schema.NonEmptyString,
  hypothesis: Schema.NonEmptyString,
  label: NliLabel
})
export type NliPair = typeof NliPair.Type

/** An answer that some model gave: `text` may be empty. `summary` where a file keeps it apart. */
export const Completion = Schema.Struct({
  id: Schema.NonEmptyString,
  prompt: Schema.NonEmptyString,
  text: Schema.String,
  summary: Schema.optionalKey(Schema.String)
})
export type Completion = typeof Completion.Type

/** Two answers to a prompt, one preferred. */
export const PreferencePair = Schema.Struct({
  id: Schema.NonEmptyString,
  prompt: Schema.NonEmptyString,
  chosen: Schema.NonEmptyString,
  rejected: Schema.NonEmptyString
})
export type PreferencePair = typeof PreferencePair.Type
