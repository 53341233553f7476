/** What stages that weigh logged slates have in common: POPE's options, and slates as the estimators take them. */
import { Effect, Schema } from "effect"
import type { LoggedResponse, LoggedSlate } from "../../data/records.ts"
import type { Refusal } from "../../dsl/Pipeline.ts"
import * as Param from "../../dsl/param.ts"
import type * as PolicyModel from "../../models/Policy.ts"
import { propensities, type Scored } from "../../ope/propensity.ts"
import type { ScoredSlate } from "../../ope/rounds.ts"
import { setProbabilities } from "../../ope/setProbability.ts"
import { diversities, utilities, type VoteScale, voteScales } from "../../ope/votes.ts"
import { weightings } from "../../ope/weights.ts"

/** POPE's options. The paper publishes none of its formulas in readable form: what fits its words alone says so. */
export const opeFields = {
  propensity: Param.literal(
    propensities,
    "length-normalised",
    "sequence: the probability itself, unbiased; length-normalised: exp of the mean token log-probability, POPE's words; pool-normalised: that, renormalised over the slate or known pool (reconstructed). The last two are biased"
  ),
  weights: Param.literal(
    weightings,
    "joint",
    "joint: one weight a slate; independent: one a response, of less variance (reconstructed)"
  ),
  set: Param.literal(
    setProbabilities,
    "product",
    "joint weights: product for independent draws, plackett-luce for draws without replacement, at most 16 (reconstructed)"
  ),
  cu: Param.literal(
    utilities,
    "prob",
    "collaborative utility: prob, sum of votes x probability; logprob; label, the votes themselves (reconstructed: the paper's values rule out logprob alone)"
  ),
  votes: Param.literal(
    voteScales,
    "slate-normalised",
    "scale of the votes: shares of the slate's, as in the paper's words; min-max in the slate, raw, or rate: by exposure (reconstructed); relevance: a response's relevance in the place of votes. label refuses slate-normalised"
  ),
  diversity: Param.literal(
    diversities,
    "soft-entropy",
    "-log p, whose importance-weighted mean is the policy's entropy; or -p log p on the set itself (reconstructed)"
  ),
  lambda: Param.number(1, "weight of the diversity beside the utility (not stated in the paper); 0 leaves it out", {
    min: 0
  }),
  clip: Param.number(
    10,
    "largest importance weight where weights are clipped; also from where on switch_dr trusts the model",
    {
      above: 0
    }
  ),
  shrink: Param.number(2, "reward model: pseudo-counts of the mean of other queries against the same text elsewhere", {
    min: 0
  })
}

const OpeFields = Param.struct(opeFields)
export type OpeParams = typeof OpeFields.Type

/** Combinations of the options that cannot work, under a pipeline's section. */
export const opeRefusals = (
  section: string,
  { cu, model = "fitted", propensity, set, votes, weights }: OpeParams & { readonly model?: "fitted" | "exact" }
): ReadonlyArray<Refusal> => [
  ...(model === "exact" && votes !== "rate" && votes !== "raw"
    ? [
        {
          path: `${section}.model`,
          message: `an exact reward model knows expected votes on the scales rate and raw, not on ${votes}`,
          hint: "take model: fitted, or votes: rate"
        }
      ]
    : []),
  ...(cu === "label" && votes === "slate-normalised"
    ? [
        {
          path: `${section}.votes`,
          message: "with `cu: label` every slate's shares of its votes have the mean 1/K, so votes would not matter",
          hint: "take rate, min-max, raw or relevance"
        }
      ]
    : []),
  ...(weights === "joint" && set === "plackett-luce" && propensity === "length-normalised"
    ? [
        {
          path: `${section}.propensity`,
          message: "length-normalised propensities are no probabilities, and `set: plackett-luce` draws by them",
          hint: "take sequence or pool-normalised"
        }
      ]
    : [])
]

/** The same, for a stage that was called without a pipeline's check. */
export const checkOpe = (
  stage: string,
  params: Parameters<typeof opeRefusals>[1]
): Effect.Effect<void, UnusableLog> => {
  const [refused] = opeRefusals(stage, params)
  return refused === undefined
    ? Effect.void
    : Effect.fail(new UnusableLog({ stage, slate: "", detail: `${refused.path}: ${refused.message}; ${refused.hint}` }))
}

/** Maths that refuses a log says so of the log. */
export const refusing = <A>(stage: string, slate: string, compute: () => A): Effect.Effect<A, UnusableLog> =>
  Effect.try({
    try: compute,
    catch: (cause) => new UnusableLog({ stage, slate, detail: cause instanceof Error ? cause.message : String(cause) })
  })

export class UnusableLog extends Schema.TaggedError<UnusableLog>()("UnusableLog", {
  stage: Schema.String,
  slate: Schema.String,
  detail: Schema.String
}) {
  override get message() {
    return `${this.stage}: ${this.slate === "" ? "" : `slate ${JSON.stringify(this.slate)}: `}${this.detail}`
  }
}

/** A response's score under the behaviour policy; undefined where the log does not have it. */
export const behaviourOf = ({ logprob, tokens }: LoggedResponse): Scored | undefined =>
  logprob === undefined || tokens === undefined ? undefined : { logprob, tokens }

/** Texts are scored once a prompt: names of what was scored. */
const keyOf = (prompt: string, text: string) => `${prompt}\u0000${text}`

/** Of a response that no policy has scored. */
export const unscored: Scored = { logprob: 0, tokens: 1 }

/** `score` scores every response, and every answer of a known pool, by the policy as it is by then. */
export const slateScorer = Effect.fnUntraced(function* (
  policy: PolicyModel.Policy,
  slates: ReadonlyArray<LoggedSlate>,
  options: { readonly temperature?: number; readonly pools?: boolean } = {}
) {
  const { pools = false, temperature = 1 } = options
  const wanted = new Map<string, readonly [string, string]>()
  for (const { prompt, responses, truth } of slates) {
    for (const { text } of [...responses, ...(pools ? (truth?.pool ?? []) : [])]) {
      wanted.set(keyOf(prompt, text), [prompt, text])
    }
  }
  const keys = [...wanted.keys()]
  const sequences = yield* Effect.forEach(wanted.values(), ([prompt, text]) => policy.sequence(prompt, text))
  const score = Effect.fnUntraced(function* () {
    const scores = yield* policy.logprobs(sequences, { temperature })
    const known = new Map(
      keys.map((key, k) => {
        const logprobs = scores[k]!.logprobs
        return [key, { logprob: logprobs.reduce((sum, x) => sum + x, 0), tokens: logprobs.length, logprobs }]
      })
    )
    return (prompt: string, text: string) => known.get(keyOf(prompt, text))!
  })
  return { score }
})

/** The policy's score of every response, and of every answer of a known pool. */
export const scoreSlates = Effect.fn("scoreSlates")(function* (...asked: Parameters<typeof slateScorer>) {
  return yield* (yield* slateScorer(...asked)).score()
})

/**
 * Slates as the estimators take them, the policy's scores by `scored`. Fails where votes or the behaviour policy's odds are
 * missing, and says what brings them.
 */
export const scoredSlates = (
  stage: string,
  slates: ReadonlyArray<LoggedSlate>,
  scored: (slate: LoggedSlate, text: string) => Scored,
  scale: VoteScale
): Effect.Effect<ReadonlyArray<ScoredSlate>, UnusableLog> =>
  Effect.forEach(slates, (slate) => {
    const { id, promptId, responses, truth } = slate
    const unusable = (detail: string) => Effect.fail(new UnusableLog({ stage, slate: id, detail }))
    const behaviour: Array<Scored> = []
    const votes: Array<number> = []
    const exposure: Array<number> = []
    for (const [k, response] of responses.entries()) {
      const odds = behaviourOf(response)
      if (odds === undefined) {
        return unusable(
          `response ${k} has no log-probability under the behaviour policy; give \`logprob\` and \`tokens\`, or let the stage \`behaviour\` score the log, with \`missing: skip\` to leave such responses out`
        )
      }
      const vote = scale === "relevance" ? response.relevance : response.votes
      if (vote === undefined) {
        return unusable(
          scale === "relevance"
            ? `response ${k} has no relevance, which \`votes: relevance\` goes by; take a scale of its votes`
            : `response ${k} has no votes; a log of other judgements is gone by with \`votes: relevance\`, or read as one of votes by naming their column, \`columns.votes: relevance\``
        )
      }
      if (vote < 0) return unusable(`response ${k} has a relevance of ${vote}, and rewards go by one of at least 0`)
      if (scale === "rate" && response.exposure === undefined) {
        return unusable(`response ${k} has no \`exposure\`, which votes on the scale \`rate\` are divided by`)
      }
      behaviour.push(odds)
      votes.push(vote)
      exposure.push(response.exposure ?? 1)
    }
    const pool = truth && {
      texts: truth.pool.map(({ text }) => text),
      policy: truth.pool.map(({ text }) => scored(slate, text)),
      behaviour: truth.pool.map(({ logprob, tokens }): Scored => ({ logprob, tokens })),
      truth: {
        voters: truth.voters,
        positionBias: truth.positionBias,
        shares: truth.shares,
        size: responses.length,
        replacement: truth.replacement,
        approvals: truth.pool.map(({ approvals }) => approvals)
      }
    }
    return Effect.succeed({
      query: promptId,
      texts: responses.map(({ text }) => text),
      votes,
      exposure,
      policy: responses.map(({ text }) => scored(slate, text)),
      behaviour,
      ...(pool ? { pool } : {})
    })
  })
