/**
 * How far off-policy estimates are from the truth, where it is known: replications of a log of the synthetic world, whose pool
 * of answers, both policies and people's votes are given, so that the target policy's value is enumerated.
 *
 *   node bench/ope.ts [--replications 200] [--prompts 200] [--overlap 0.7] [--size 4]      prints tables, then one JSON object
 *
 * A replication draws its prompts from 3,000 situations, for the intervals speak of prompts that were not seen; the truth is
 * the mean over all of them. Reported per propensity, weights and estimator: bias with its standard error, standard deviation, and how many of the 95 %
 * bootstrap intervals hold the truth. Reward: the share of those who looked that approved (`label`, `rate`, no diversity).
 * At overlap 0.7 every unbiased estimator's intervals hold the truth in 90 to 99 % of cases; at 0.5 joint IPS has weights too skewed for
 * a bootstrap over 200 slates, and its do in 88 % (docs/log.md).
 */
import { parseArgs } from "node:util"
import { permutation, stream, uniforms } from "../src/device/random.ts"
import { type EstimatorName, estimate, estimatorNames, valueOf } from "../src/ope/estimators.ts"
import { type Propensity, propensities, type Scored } from "../src/ope/propensity.ts"
import { makeRounds, type OpeSettings, type ScoredSlate } from "../src/ope/rounds.ts"
import { enumeratedValue } from "../src/ope/truth.ts"
import { type Weighting, weightings, weightReport } from "../src/ope/weights.ts"
import { defaultSettings } from "../src/world/settings.ts"
import { slateRecords } from "../src/world/slates.ts"
import { makeWorld, type WorldSituation } from "../src/world/world.ts"

const { values: flags } = parseArgs({
  options: {
    replications: { type: "string", default: "200" },
    prompts: { type: "string", default: "200" },
    overlap: { type: "string", default: "0.7" },
    size: { type: "string", default: "4" },
    resamples: { type: "string", default: "400" }
  }
})
const replications = Number(flags.replications)
const prompts = Number(flags.prompts)
const resamples = Number(flags.resamples)
const world = makeWorld({ ...defaultSettings, train: 3000, development: 1, test: 1 })
const slateSettings = {
  slateSize: Number(flags.size),
  poolSize: 8,
  voters: 20,
  positionBias: 0.85,
  overlap: Number(flags.overlap)
}

/** A log of some situations under both policies. */
const logOf = (seed: number, situations: ReadonlyArray<WorldSituation>): ReadonlyArray<ScoredSlate> =>
  slateRecords(world, seed, situations, 1, slateSettings, () => "world").map((slate): ScoredSlate => {
    const truth = slate.truth!
    const texts = truth.pool.map(({ text }) => text)
    const of = (who: "logprob" | "target") =>
      truth.pool.map((one): Scored => ({ logprob: one[who]!, tokens: one.tokens }))
    const [behaviour, policy] = [of("logprob"), of("target")]
    const places = slate.responses.map(({ text }) => texts.indexOf(text))
    return {
      query: slate.promptId,
      texts: slate.responses.map(({ text }) => text),
      votes: slate.responses.map(({ votes }) => votes!),
      exposure: slate.responses.map(({ exposure }) => exposure!),
      policy: places.map((k) => policy[k]!),
      behaviour: places.map((k) => behaviour[k]!),
      pool: {
        texts,
        policy,
        behaviour,
        truth: {
          voters: truth.voters,
          positionBias: truth.positionBias,
          shares: truth.shares,
          size: slate.responses.length,
          replacement: truth.replacement,
          approvals: truth.pool.map(({ approvals }) => approvals)
        }
      }
    }
  })

const settingsOf = (propensity: Propensity, weighting: Weighting, model: OpeSettings["model"]): OpeSettings => ({
  propensity,
  weighting,
  set: "product",
  cu: "label",
  votes: "rate",
  diversity: "soft-entropy",
  lambda: 0,
  shrink: 2,
  model
})

const mean = (list: ReadonlyArray<number>) => list.reduce((sum, x) => sum + x, 0) / list.length
const deviation = (list: ReadonlyArray<number>) => {
  const centre = mean(list)
  return Math.sqrt(list.reduce((sum, x) => sum + (x - centre) ** 2, 0) / (list.length - 1))
}

interface Row {
  readonly propensity: Propensity
  readonly weights: Weighting
  readonly estimator: EstimatorName | "dr_exact"
  readonly bias: number
  readonly standardError: number
  readonly deviation: number
  readonly covered: number
}

const sampled = (seed: number): ReadonlyArray<WorldSituation> =>
  Array.from(permutation(stream(seed, "bench", "prompts"), world.splits.train.length).subarray(0, prompts)).map(
    (k) => world.splits.train[k]!
  )
const logs = Array.from({ length: replications }, (_, k) => logOf(k + 1, sampled(k + 1)))
const truth = mean(
  logOf(0, world.splits.train).map(({ pool }) => {
    const of = (who: "policy" | "behaviour") => pool![who].map(({ logprob }) => logprob)
    const settings = settingsOf("sequence", "independent", "fitted")
    return enumeratedValue(pool!.truth, settings, "independent", of("policy"), of("behaviour"))!
  })
)

const rows: Array<Row> = []
const ess: Record<string, number> = {}
for (const propensity of propensities) {
  for (const weights of weightings) {
    const names: ReadonlyArray<EstimatorName | "dr_exact"> =
      propensity === "sequence" ? [...estimatorNames, "dr_exact"] : ["ips", "snips", "dr"]
    const found = names.map(() => ({ values: [] as Array<number>, covered: 0 }))
    const sizes: Array<number> = []
    logs.forEach((log, k) => {
      const fitted = makeRounds(log, settingsOf(propensity, weights, "fitted")).rounds
      const exact =
        propensity === "sequence" ? makeRounds(log, settingsOf(propensity, weights, "exact")).rounds : fitted
      sizes.push(
        weightReport(
          fitted.map(({ logWeight }) => logWeight),
          10
        ).essShare
      )
      const random = uniforms(stream(k, "bench", "ope"), resamples * prompts)
      names.forEach((name, i) => {
        let at = 0
        const [of, rounds] = name === "dr_exact" ? (["dr", exact] as const) : ([name, fitted] as const)
        const { high, low, value } = estimate(of, rounds, { resamples, uniform: () => random[at++]! })
        found[i]!.values.push(value)
        if (low <= truth && truth <= high) found[i]!.covered++
      })
    })
    ess[`${propensity}/${weights}`] = mean(sizes)
    names.forEach((estimator, i) => {
      const { covered, values } = found[i]!
      const spread = deviation(values)
      rows.push({
        propensity,
        weights,
        estimator,
        bias: mean(values) - truth,
        standardError: spread / Math.sqrt(replications),
        deviation: spread,
        covered: covered / replications
      })
    })
  }
}

/** What weights alone make an estimate vary by: the same prompts, votes without noise, other slates. */
const weightSpread = (weights: Weighting) => {
  const fixed = sampled(0)
  const values = Array.from({ length: 20 }, (_, k) => {
    const log = logOf(k + 1, fixed).map((slate): ScoredSlate => {
      const { approvals, shares } = slate.pool!.truth
      const rate = (text: string) =>
        approvals[slate.pool!.texts.indexOf(text)]!.reduce((sum, p, g) => sum + shares[g]! * p, 0)
      return { ...slate, votes: slate.texts.map(rate), exposure: slate.texts.map(() => 1) }
    })
    const { rounds } = makeRounds(log, settingsOf("sequence", weights, "exact"))
    return { ips: valueOf("ips", rounds), dr: valueOf("dr", rounds) }
  })
  return { ips: deviation(values.map(({ ips }) => ips)), dr: deviation(values.map(({ dr }) => dr)) }
}

const digits = (x: number) => x.toFixed(4).padStart(8)
console.log(
  `truth ${truth.toFixed(4)}, ${replications} replications of ${prompts} slates of ${flags.size}, overlap ${flags.overlap}`
)
console.log("propensity         weights      estimator       bias  (2 SE)   deviation  covered")
for (const row of rows) {
  const { bias, covered, deviation: spread, estimator, propensity, standardError, weights } = row
  const verdict = Math.abs(bias) <= 2 * standardError ? " " : "!"
  console.log(
    `${propensity.padEnd(18)} ${weights.padEnd(12)} ${estimator.padEnd(11)} ${digits(bias)}${verdict} ${digits(2 * standardError)} ${digits(spread)}   ${(100 * covered).toFixed(1).padStart(5)} %`
  )
}
console.log(
  JSON.stringify({
    truth,
    replications,
    prompts,
    ...slateSettings,
    ess,
    spreadByWeightsAlone: { joint: weightSpread("joint"), independent: weightSpread("independent") },
    rows
  })
)
