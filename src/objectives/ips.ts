/**
 * POPE's objective (arXiv 2509.19333, eqs 6-8, 11-13; reconstructed, `docs/ope.md`): raise an importance-weighted estimate
 * of a policy's value on logged slates by gradient.
 *
 *     V = mean_i W_i (1/K) sum_k r_ik,  W_i = P(S_i) / P0(S_i)         (joint)
 *     V = mean_i (1/K) sum_k w_ik r_ik,  w_ik = p_ik / p0_ik           (independent)
 *     r_ik = v_ik u_ik + lambda d_ik      u = 1, p or log p;  d = -log p or -p log p
 *
 * The loss is -V; weights and rewards are both differentiated. Weights are cut at `clip` in log space, where their gradient
 * ends and the reward's goes on. `self-normalised` divides by the sum of the batch's weights, which is given with the value
 * from a pass before (both change with the weights, and the gradient of the ratio is sum (W' (R - V) + W R') / sum W).
 * `doubly-robust` adds a reward model, here predicted votes: V = mean [ Q + W (R - R^) ], with Q the policy's expectation of
 * the model's reward over the slate. A constant model is a baseline: what earns less than it becomes less likely.
 *
 * A group is a slate of up to K responses, absent ones empty rows. With non-negative rewards and no baseline V rises by
 * making every logged response likelier: look at `log_ratio`, and at a log whose votes are all equal.
 */

import type { Dim } from "../tensor/Dim.ts"
import { stopGradient } from "../tensor/ops/control.ts"
import { add, div, exp, greater, log, max, min, mul, neg, select, sub } from "../tensor/ops/elementwise.ts"
import { gather } from "../tensor/ops/indexing.ts"
import { constant, ones, zeros } from "../tensor/ops/leaf.ts"
import { reduceMax, reduceSum } from "../tensor/ops/reduce.ts"
import { reshape, slice } from "../tensor/ops/shape.ts"
import type { Tensor } from "../tensor/Tensor.ts"
import { type BatchInput, inputOf, perRow, type TokenObjective, type TokenOutputs } from "./Objective.ts"

export interface IpsSettings {
  /** Responses of the largest slate. */
  readonly groupSize: number
  readonly weights?: "joint" | "independent"
  readonly set?: "product" | "plackett-luce"
  readonly propensity?: "sequence" | "length-normalised" | "pool-normalised"
  readonly cu?: "prob" | "logprob" | "label"
  readonly diversity?: "soft-entropy" | "p-log-p"
  readonly lambda?: number
  readonly estimator?: "plain" | "self-normalised" | "doubly-robust"
  /** Largest weight; none by default (weights stop at e^60, where float32 still holds their products). */
  readonly clip?: number
}

/** log of the largest weight that float32 holds together with its products. */
const largestLog = 60

/** For every layer of subsets of `size` elements: predecessors in the layer before and elements drawn, [subsets * m]. */
const layersOf = (size: number) => {
  const bySize: Array<Array<number>> = Array.from({ length: size + 1 }, () => [])
  const place: Array<number> = []
  for (let set = 0; set < 2 ** size; set++) {
    const members = Array.from({ length: size }, (_, k) => k).filter((k) => (set >> k) & 1)
    place[set] = bySize[members.length]!.push(set) - 1
  }
  return bySize.slice(1).map((sets, m) => {
    const pairs = sets.flatMap((set) =>
      Array.from({ length: size }, (_, k) => k)
        .filter((k) => (set >> k) & 1)
        .map((k) => [place[set & ~(1 << k)]!, k] as const)
    )
    return { subsets: sets.length, elements: m + 1, before: pairs.map(([b]) => b), drawn: pairs.map(([, k]) => k) }
  })
}

/** log sum exp along an axis, in the range of float32. */
const logSumExp = (x: Tensor, axis: number): Tensor => {
  const top = stopGradient(reduceMax(x, axis, { keepDims: true }))
  return add(log(reduceSum(exp(sub(x, top)), axis)), reshape(top, x.shape.toSpliced(axis, 1)))
}

/**
 * log of the Plackett-Luce probability of every slate, by dynamic programming over subsets: logp, present [K, slates] to
 * [slates]. An absent response may be drawn at any time for nothing, which multiplies by K! / n!; whoever gives the
 * behaviour policy's logarithm adds the same.
 */
const plackettLuce = (logp: Tensor, present: Tensor, size: number): Tensor => {
  const slates = logp.shape[1]!
  const p = mul(exp(logp), present)
  let f = zeros([1, slates])
  let mass = zeros([1, slates])
  for (const { before, drawn, elements, subsets } of layersOf(size)) {
    const indices = (list: ReadonlyArray<number>) => constant(list, "i32", [list.length])
    const [last, at] = [indices(drawn), indices(before)]
    const massBefore = gather(mass, at)
    const pDrawn = gather(p, last)
    const left = max(sub(1, massBefore), max(pDrawn, 1e-30))
    const terms = add(gather(f, at), mul(sub(gather(logp, last), log(left)), gather(present, last)))
    const shape: ReadonlyArray<Dim> = [subsets, elements, slates]
    f = logSumExp(reshape(terms, shape), 1)
    mass = reshape(slice(reshape(add(massBefore, pDrawn), shape), 1, 0, 1), [subsets, slates])
  }
  return reshape(f, [slates])
}

/**
 * Batch tensors, per row: `present` (1, or 0 for an absent response), `behaviour` (log-propensity under the behaviour
 * policy; with plackett-luce the slate's, log P0(S) + log(K! / n!), in its first row and 0 elsewhere), `votes` (scaled, times K
 * where they are a slate's shares), `distinct` (1 at the first place of a text) with pool-normalised propensities or a reward
 * model, `model` (votes as predicted) with `doubly-robust`. Per batch with `self-normalised`: `weightSum` (sum over slates of W, or
 * of the mean w) and `value`, of this very batch under the current policy.
 * Logs: `value` (the estimate), `log_ratio` (of a response: mean log p / p0; with plackett-luce the slate's by its size), `weight` (mean), `clip_ratio`.
 */
export const ips = (settings: IpsSettings): TokenObjective => {
  const {
    clip = Number.POSITIVE_INFINITY,
    cu = "prob",
    diversity = "soft-entropy",
    estimator = "plain",
    groupSize,
    lambda = 1,
    propensity = "length-normalised",
    set = "product",
    weights = "joint"
  } = settings
  const name = `ips(${[groupSize, weights, set, propensity, cu, diversity, lambda, estimator, clip].join(", ")})`
  if (!(Number.isInteger(groupSize) && groupSize >= 1 && clip > 0 && lambda >= 0)) {
    throw new RangeError(`${name}: a slate has at least one response, the largest weight is > 0 and lambda >= 0`)
  }
  if (set === "plackett-luce" && groupSize > 16) {
    throw new RangeError(
      `${name}: plackett-luce goes over 2^K subsets and takes at most [16] responses, not [${groupSize}]`
    )
  }
  if (set === "plackett-luce" && propensity === "length-normalised") {
    throw new RangeError(
      `${name}: length-normalised propensities are no probabilities; plackett-luce needs them to sum to 1 at most`
    )
  }
  const row: BatchInput = { per: "row", dtype: "f32" }
  const batch: BatchInput = { per: "batch", dtype: "f32" }
  const distinctNeeded = propensity === "pool-normalised" || estimator === "doubly-robust"
  const logClip = Math.min(Math.log(clip), largestLog)

  return {
    name,
    groupSize,
    inputs: {
      present: row,
      behaviour: row,
      votes: row,
      ...(distinctNeeded ? { distinct: row } : {}),
      ...(estimator === "doubly-robust" ? { model: row } : {}),
      ...(estimator === "self-normalised" ? { weightSum: batch, value: batch } : {})
    },
    build: (outputs, inputs) => {
      const slates = outputs.groupCount
      /** A value per row as [K, slates]. */
      const grid = (rowValues: Tensor) => reshape(rowValues, [groupSize, slates])
      const given = (input: string) => inputOf(name, inputs, input)
      const present = grid(given("present"))
      const behaviour = grid(given("behaviour"))
      const size = max(reduceSum(present, 0), 1)
      /** Mean over a slate's responses: [K, slates] to [slates]. */
      const slateMean = (x: Tensor) => div(reduceSum(mul(x, present), 0), size)
      const total = div(outputs.totalRows, groupSize)
      /** This micro-batch's part of the mean over all slates. */
      const over = (x: Tensor) => div(reduceSum(x), total)

      const normalised = (x: Tensor) => {
        const distinct = grid(given("distinct"))
        const masked = add(mul(x, distinct), mul(sub(distinct, 1), 1e9))
        const mass = logSumExp(masked, 0)
        return sub(x, reshape(mass, [1, slates]))
      }
      const logp = mul(logPropensity(outputs, propensity, grid, normalised), present)
      const reward = (votes: Tensor) => {
        const utility = cu === "label" ? votes : mul(votes, cu === "prob" ? exp(logp) : logp)
        if (lambda === 0) return utility
        const spread = neg(diversity === "soft-entropy" ? logp : mul(logp, exp(logp)))
        return add(utility, mul(spread, lambda))
      }
      const rewards = reward(grid(given("votes")))

      const joint = weights === "joint"
      const logWeights = joint
        ? set === "product"
          ? reduceSum(sub(logp, mul(behaviour, present)), 0)
          : sub(plackettLuce(logp, present, groupSize), reduceSum(behaviour, 0))
        : sub(logp, mul(behaviour, present))
      const weight = exp(min(logWeights, logClip))
      const weighted = (values: Tensor) => (joint ? mul(weight, slateMean(values)) : slateMean(mul(weight, values)))
      const weightMean = joint ? weight : slateMean(weight)

      const clipped = select(greater(logWeights, logClip), ones(logWeights.shape), zeros(logWeights.shape))
      const logs = (value: Tensor) => ({
        value,
        log_ratio: over(stopGradient(joint ? div(logWeights, size) : slateMean(logWeights))),
        weight: over(stopGradient(weightMean)),
        clip_ratio: over(joint ? clipped : slateMean(clipped))
      })
      switch (estimator) {
        case "plain": {
          const value = over(weighted(rewards))
          return { loss: neg(value), logs: logs(value) }
        }
        case "self-normalised": {
          const [weightSum, value] = [given("weightSum"), given("value")]
          const above = reduceSum(weighted(sub(rewards, value)))
          const here = add(div(above, weightSum), mul(value, over(ones([slates]))))
          return { loss: neg(here), logs: logs(here) }
        }
        case "doubly-robust": {
          const modelled = reward(grid(given("model")))
          const chance = mul(exp(normalised(logp)), grid(given("distinct")))
          const expected = reduceSum(mul(chance, modelled), 0)
          const value = over(add(expected, weighted(sub(rewards, modelled))))
          return { loss: neg(value), logs: logs(value) }
        }
      }
    }
  }
}

/** log p of every response [K, slates], of absent ones anything. */
const logPropensity = (
  outputs: TokenOutputs,
  propensity: NonNullable<IpsSettings["propensity"]>,
  grid: (x: Tensor) => Tensor,
  normalised: (x: Tensor) => Tensor
): Tensor => {
  const whole = perRow(outputs.logprobs, outputs)
  if (propensity === "sequence") return grid(whole)
  const mean = grid(div(whole, max(perRow(ones(outputs.logprobs.shape), outputs), 1)))
  return propensity === "length-normalised" ? mean : normalised(mean)
}
