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
  meaning: Schema.optionalKey(Schema.String),
  /** Up-votes that it got, >= 0, where people voted: its weight among the references of POPE's metrics. */
  votes: Schema.optionalKey(Schema.Finite.check(Schema.isGreaterThanOrEqualTo(0)))
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

/** A turn of a conversation. */
export const Message = Schema.Struct({
  role: Schema.Literals(["system", "user", "assistant"]),
  content: Schema.String
})
export type Message = typeof Message.Type

/** What a policy is asked: one user message as text, or a conversation. */
export const PromptText = Schema.Union([Schema.NonEmptyString, Schema.NonEmptyArray(Message)])
export type PromptText = typeof PromptText.Type

/** A prompt and an answer to learn from. */
export const PromptCompletion = Schema.Struct({
  id: Schema.NonEmptyString,
  prompt: PromptText,
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
  label: NliLabel,
  /** What it really says, where that is known (the world) and labels err. */
  truth: Schema.optionalKey(NliLabel)
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

/** How a group of people chooses among options: what distributional alignment is measured against. */
export const OptionQuestion = Schema.Struct({
  id: Schema.NonEmptyString,
  question: Schema.NonEmptyString,
  options: Schema.Array(Schema.NonEmptyString).check(Schema.isMinLength(2)),
  /** Who is asked. */
  attribute: Schema.NonEmptyString,
  /** Shares of the options; they sum to 1. */
  goldDistribution: Schema.Array(Schema.Finite.check(Schema.isBetween({ minimum: 0, maximum: 1 }))).check(
    Schema.isMinLength(2)
  )
})
export type OptionQuestion = typeof OptionQuestion.Type

const NonNegative = Schema.Finite.check(Schema.isGreaterThanOrEqualTo(0))

/** Two answers to a prompt, one preferred. */
export const PreferencePair = Schema.Struct({
  id: Schema.NonEmptyString,
  prompt: PromptText,
  chosen: Schema.NonEmptyString,
  rejected: Schema.NonEmptyString,
  /** How much better the chosen one is, in the unit of whoever judged. */
  margin: Schema.optionalKey(Schema.Finite),
  /** How much the pair counts; 1 where it is not said. */
  weight: Schema.optionalKey(NonNegative)
})
export type PreferencePair = typeof PreferencePair.Type

/** An answer that is desirable by itself, or is not. */
export const UnpairedPreference = Schema.Struct({
  id: Schema.NonEmptyString,
  prompt: PromptText,
  completion: Schema.NonEmptyString,
  label: Schema.Boolean
})
export type UnpairedPreference = typeof UnpairedPreference.Type

/** Answers to a prompt, the best first, with their worth in any unit that is not negative. */
export const RankedList = Schema.Struct({
  id: Schema.NonEmptyString,
  prompt: PromptText,
  answers: Schema.NonEmptyArray(Schema.Struct({ text: Schema.NonEmptyString, relevance: NonNegative }))
})
export type RankedList = typeof RankedList.Type
const Logprob = Schema.Finite.check(
  Schema.makeFilter((value) => value <= 1e-3, {
    message: "expected a log-probability, at most 0 (a probability of zero has none: leave such a response out)"
  })
)
const PositiveInt = Schema.Int.check(Schema.isGreaterThan(0))

/** A response of a logged slate. Its place in the list is the place where people saw it. */
export const LoggedResponse = Schema.Struct({
  text: Schema.NonEmptyString,
  /** Up-votes or helpful-votes as counted, >= 0. */
  votes: Schema.optionalKey(NonNegative),
  /** How many looks it got, where that is known: votes / exposure is its share of approval, whatever its place. */
  exposure: Schema.optionalKey(Schema.Finite.check(Schema.isGreaterThan(0))),
  /** A judgement of the response by itself, in any unit: what `preferences` may go by (`by: relevance`). */
  relevance: Schema.optionalKey(Schema.Finite),
  /** Natural logarithm of the probability of the whole response under the behaviour policy. */
  logprob: Schema.optionalKey(Logprob),
  /** Its tokens under the behaviour policy's tokenizer, the end token included. */
  tokens: Schema.optionalKey(PositiveInt),
  /** Log-probability of each of those tokens; `logprob` is their sum. */
  tokenLogprobs: Schema.optionalKey(Schema.NonEmptyArray(Logprob))
})
export type LoggedResponse = typeof LoggedResponse.Type

/**
 * Everything that the behaviour policy may answer to a prompt, and how people vote: what the true value of any policy is
 * enumerated from. `voters` people look at place k (from 0) with probability positionBias^k; who looks approves of a
 * response with the probability of their group.
 */
export const SlateTruth = Schema.Struct({
  voters: PositiveInt,
  positionBias: Schema.Finite.check(Schema.isBetween({ minimum: 0, maximum: 1 })),
  /** Share of people in each group; sums to 1. */
  shares: Schema.NonEmptyArray(NonNegative),
  /** Whether a slate may hold a response twice (independent draws). */
  replacement: Schema.Boolean,
  pool: Schema.NonEmptyArray(
    Schema.Struct({
      text: Schema.NonEmptyString,
      logprob: Logprob,
      tokens: PositiveInt,
      /** Log-probability under another policy whose value is asked for. */
      target: Schema.optionalKey(Logprob),
      /** By group: probability of a vote by someone who looks. */
      approvals: Schema.NonEmptyArray(Schema.Finite.check(Schema.isBetween({ minimum: 0, maximum: 1 })))
    })
  )
})
export type SlateTruth = typeof SlateTruth.Type

/** Responses that people saw together under a prompt, with their votes and where known the behaviour policy's odds. */
export const LoggedSlate = Schema.Struct({
  id: Schema.NonEmptyString,
  /** Which prompt it is about; several slates may share it. */
  promptId: Schema.NonEmptyString,
  prompt: Schema.NonEmptyString,
  responses: Schema.NonEmptyArray(LoggedResponse),
  /** Where it comes from: a data set, a domain, a file and line. */
  source: Schema.optionalKey(Schema.NonEmptyString),
  truth: Schema.optionalKey(SlateTruth)
})
export type LoggedSlate = typeof LoggedSlate.Type
