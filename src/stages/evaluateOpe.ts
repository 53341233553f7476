/**
 * What a policy is worth, judged from a log that another policy made (`docs/ope.md`): eight estimators side by side with
 * bootstrap intervals over queries, the effective sample size and the largest weight, beside
 *
 * - the truth, where the log knows all that may be said (the world): by enumeration of its slates;
 * - the same estimate on equal votes: an importance estimate rises by making every logged response likelier, whatever people
 *   think of it, and this is by how much;
 * - the people's approval of the policy's own answers, where they are given: on-policy, without any weight.
 *
 * Without a policy it is the world's own target policy that is evaluated. A query's item is what it contributes: the mean of
 * an estimator's items is its value. Estimators: Open Bandit Pipeline; slate forms and rewards: POPE (arXiv 2509.19333).
 */
import { Effect } from "effect"
import { optional } from "../artifact/Kind.ts"
import { Completions, LoggedSlates, Policy, Report, WorldFolder } from "../artifact/kinds.ts"
import type { LoggedSlate } from "../data/records.ts"
import { stream, uniforms } from "../device/random.ts"
import * as Param from "../dsl/param.ts"
import * as Stage from "../dsl/Stage.ts"
import { Task } from "../dsl/Task.ts"
import * as PolicyModel from "../models/Policy.ts"
import { valueBounds } from "../ope/bounds.ts"
import { estimate, estimatorNames } from "../ope/estimators.ts"
import { logSumExp, type Scored } from "../ope/propensity.ts"
import { makeRounds, type OpeSettings, type ScoredSlate, slatePropensities } from "../ope/rounds.ts"
import { enumeratedValue } from "../ope/truth.ts"
import { responseReward, scaleVotes } from "../ope/votes.ts"
import { weightReport } from "../ope/weights.ts"
import { makeChecker } from "../world/exact.ts"
import { makeGroups } from "../world/groups.ts"
import { approvalsOfText } from "../world/people.ts"
import { checkOpe, opeFields, refusing, scoredSlates, scoreSlates, UnusableLog } from "./ips/settings.ts"
import { writeSummary } from "./summary.ts"
import { readWorld } from "./world.ts"

export const EvaluateOpeParams = Param.struct({
  ...opeFields,
  model: Param.literal(
    ["fitted", "exact"],
    "fitted",
    "reward model of dm, dr, sndr, switch_dr and dros: fitted on other slates, or the truth's own expected votes"
  ),
  shrinkage: Param.number(100, "of dros: 0 is the model alone, large values are doubly robust", { min: 0 }),
  resamples: Param.int(1000, "bootstrap resamples of the queries", { min: 100 }),
  confidence: Param.number(0.95, "of the bootstrap intervals", { above: 0, below: 1 }),
  temperature: Param.number(1, "temperature at which the policy's probabilities are taken", { above: 0 }),
  split: Param.literal(["test", "development", "train"], "test", "what the items call the log's queries")
})

const controls = ["ips_clipped", "snips"] as const
const mean = (values: ReadonlyArray<number>) => values.reduce((sum, value) => sum + value, 0) / values.length

/** log-ratios of the best- and the worst-voted responses of a slate; none where all are equal. */
const extremes = (slate: ScoredSlate, ratios: ReadonlyArray<number>) => {
  const [low, high] = [Math.min(...slate.votes), Math.max(...slate.votes)]
  const of = (vote: number) => ratios.filter((_, k) => slate.votes[k] === vote)
  return low === high ? undefined : { top: mean(of(high)), bottom: mean(of(low)) }
}

/** The enumerated value by query; none where a slate's truth is not known or cannot be told. */
const truths = (slates: ReadonlyArray<ScoredSlate>, settings: OpeSettings): ReadonlyMap<string, number> => {
  const found = new Map<string, number>()
  for (const slate of slates) {
    const { pool, query } = slate
    if (pool === undefined || found.has(query)) continue
    const logp = pool.policy.map(({ logprob }) => logprob)
    // A propensity that is no probability can only speak of the choice among what may be said.
    const mass = settings.propensity === "sequence" ? 0 : logSumExp(logp)
    const value = enumeratedValue(
      pool.truth,
      settings,
      settings.weighting,
      logp.map((x) => x - mass),
      pool.behaviour.map(({ logprob }) => logprob),
      slatePropensities(settings.propensity, slate).policy.pool
    )
    if (value !== null) found.set(query, value)
  }
  return found
}

/** The two bounds of theorem 4.1; undefined where rewards may be negative or weights are not the product it speaks of. */
const bounds = (slates: ReadonlyArray<ScoredSlate>, settings: OpeSettings) => {
  if (settings.cu === "logprob" || settings.weighting !== "joint" || settings.set !== "product") return undefined
  return valueBounds(
    slates.map((slate) => {
      const { behaviour, policy } = slatePropensities(settings.propensity, slate)
      const votes = scaleVotes(settings.votes, slate.votes, slate.exposure)
      const size = votes.length
      const utility = votes.map((vote, k) => responseReward({ ...settings, lambda: 0 }, vote, policy.logged[k]!, size))
      return {
        logWeights: policy.logged.map((logp, k) => logp - behaviour.logged[k]!),
        utility,
        diversity: votes.map((vote, k) =>
          Math.max(0, responseReward(settings, vote, policy.logged[k]!, size) - utility[k]!)
        )
      }
    })
  )
}

/** Every vote the mean of the log on the scale that rewards are made of. */
const withEqualVotes = (slates: ReadonlyArray<ScoredSlate>, { votes: scale }: OpeSettings) => {
  const scaled = slates.flatMap(({ exposure, votes }) => scaleVotes(scale, votes, exposure))
  const vote = mean(scaled)
  return slates.map((slate): ScoredSlate => {
    const { exposure: _, ...rest } = slate
    return { ...rest, votes: slate.votes.map(() => vote), exposure: slate.votes.map(() => 1) }
  })
}

/** Under the world's own target policy, whose odds are in the truth. */
const targetOf = (slate: LoggedSlate, text: string): Scored | undefined => {
  const answer = slate.truth?.pool.find((one) => one.text === text)
  return answer?.target === undefined ? undefined : { logprob: answer.target, tokens: answer.tokens }
}

export const evaluateOpe = Stage.make("evaluate-ope", {
  module: import.meta.url,
  version: 1,
  params: EvaluateOpeParams,
  inputs: {
    slates: LoggedSlates,
    policy: optional(Policy),
    completions: optional(Completions),
    world: optional(WorldFolder)
  },
  outputs: { report: Report },
  device: true,
  metrics: {
    "ope/ess": "higher",
    "ope/ess_share": "higher",
    "ope/max_weight": "none",
    "ope/clipped": "none",
    "ope/overflowed": "lower",
    "ope/bound/first": "higher",
    "ope/bound/second": "higher",
    "ope/*/low": "none",
    "ope/*/high": "none"
  },
  items: {
    "ope/ips": "higher",
    "ope/ips_clipped": "higher",
    "ope/snips": "higher",
    "ope/dm": "higher",
    "ope/dr": "higher",
    "ope/sndr": "higher",
    "ope/switch_dr": "higher",
    "ope/dros": "higher",
    "ope/truth": "higher",
    "ope/on_policy": "higher",
    "ope/equal_votes/ips_clipped": "none",
    "ope/equal_votes/snips": "none",
    "ope/log_ratio": "none",
    "ope/log_ratio/top": "higher",
    "ope/log_ratio/bottom": "lower"
  },
  run: Effect.fn("stage.evaluate-ope")(function* ({ inputs, outputs, params }) {
    yield* checkOpe("evaluate-ope", params)
    const task = yield* Task
    const slates = yield* inputs.slates.rows
    if (slates.length === 0) {
      return yield* new UnusableLog({ stage: "evaluate-ope", slate: "", detail: "the log has no slates" })
    }
    const policy = inputs.policy && (yield* PolicyModel.load(inputs.policy.dir))
    const score = policy && (yield* scoreSlates(policy, slates, { temperature: params.temperature, pools: true }))
    const untold = slates.find((slate) => !score && slate.responses.some(({ text }) => !targetOf(slate, text)))
    if (untold !== undefined) {
      return yield* new UnusableLog({
        stage: "evaluate-ope",
        slate: untold.id,
        detail: "there is no policy to evaluate, and the log knows no target policy of its own; give a policy"
      })
    }
    const scored = yield* scoredSlates(
      "evaluate-ope",
      slates,
      (slate, text) => (score ? score(slate.prompt, text) : targetOf(slate, text)!),
      params.votes
    )
    const settings: OpeSettings = { ...params, weighting: params.weights }
    const { logRatios, queries, rounds } = yield* refusing("evaluate-ope", "", () => makeRounds(scored, settings))
    // The votes are on their scale already, but for shares of the slate, which equal votes turn into equal shares again.
    const equal = makeRounds(withEqualVotes(scored, settings), {
      ...settings,
      model: "fitted",
      votes: settings.votes === "slate-normalised" ? "slate-normalised" : "raw"
    }).rounds
    const random = uniforms(stream(0, "evaluate-ope", "bootstrap"), params.resamples * queries.length)
    const estimators = { clip: params.clip, switch: params.clip, shrinkage: params.shrinkage }
    const estimated = (name: (typeof estimatorNames)[number], of: typeof rounds) => {
      let at = 0
      const { confidence, resamples } = params
      return estimate(name, of, { confidence, resamples, uniform: () => random[at++]! }, estimators)
    }

    const items: Array<{ readonly promptId: string; readonly name: string; readonly value: number }> = []
    const values: Record<string, number> = {}
    const intervals: Record<string, number> = {}
    for (const name of estimatorNames) {
      const { high, low, perQuery, value } = estimated(name, rounds)
      queries.forEach((promptId, k) => {
        items.push({ promptId, name: `ope/${name}`, value: perQuery[k]! })
      })
      values[`ope/${name}`] = value
      intervals[`ope/${name}/low`] = low
      intervals[`ope/${name}/high`] = high
    }
    for (const name of controls) {
      const { perQuery, value } = estimated(name, equal)
      queries.forEach((promptId, k) => {
        items.push({ promptId, name: `ope/equal_votes/${name}`, value: perQuery[k]! })
      })
      values[`ope/equal_votes/${name}`] = value
    }

    const add = (name: string, byQuery: ReadonlyMap<string, number>) => {
      if (byQuery.size === 0) return
      for (const [promptId, value] of byQuery) items.push({ promptId, name, value })
      values[name] = mean([...byQuery.values()])
    }
    add("ope/truth", truths(scored, settings))

    const ratios = new Map<string, Array<{ all: number; top?: number; bottom?: number }>>()
    let at = 0
    for (const slate of scored) {
      const own = logRatios.slice(at, at + slate.texts.length)
      at += slate.texts.length
      ratios.set(slate.query, [...(ratios.get(slate.query) ?? []), { all: mean(own), ...extremes(slate, own) }])
    }
    for (const [name, of] of [
      ["ope/log_ratio", "all"],
      ["ope/log_ratio/top", "top"],
      ["ope/log_ratio/bottom", "bottom"]
    ] as const) {
      const known = [...ratios].flatMap(([query, list]) => {
        const some = list.flatMap((one) => one[of] ?? [])
        return some.length === 0 ? [] : [[query, mean(some)] as const]
      })
      add(name, new Map(known))
    }

    if (inputs.completions && inputs.world) {
      const world = yield* readWorld(inputs.world.dir)
      const groups = makeGroups(world)
      const checker = makeChecker(world)
      const situations = new Map(Object.values(world.splits).flatMap((split) => split.map((one) => [one.id, one])))
      const answers = Map.groupBy(yield* inputs.completions.rows, ({ id }) => id)
      const approval = [...answers].flatMap(([id, all]) => {
        const situation = situations.get(id)
        if (situation === undefined || !ratios.has(id)) return []
        const of = all.map(({ text }) =>
          approvalsOfText(checker, groups, text, situation).reduce((sum, p, g) => sum + groups[g]!.share * p, 0)
        )
        return [[id, mean(of)] as const]
      })
      add("ope/on_policy", new Map(approval))
    }

    const { clipped, ess, essShare, max, overflowed } = weightReport(
      rounds.map(({ logWeight }) => logWeight),
      params.clip
    )
    const bound = bounds(scored, settings)
    const metrics = {
      "ope/ess": ess,
      "ope/ess_share": essShare,
      "ope/max_weight": max,
      "ope/clipped": clipped,
      "ope/overflowed": overflowed,
      ...(bound ? { "ope/bound/first": bound.bound1, "ope/bound/second": bound.bound2 } : {}),
      ...intervals
    }
    yield* task.items(items.map((item) => ({ ...item, split: params.split })))
    yield* task.metrics(0, metrics)
    yield* writeSummary(outputs.report.dir, {
      queries: queries.length,
      slates: slates.length,
      ...values,
      ...metrics
    })
  })
})
