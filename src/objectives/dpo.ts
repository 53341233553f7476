/**
 * Direct preference optimisation and the losses that differ from it only in what they make of a pair's difference.
 * Rafailov et al. (2305.18290); hinge (SLiC): Zhao et al. (2305.10425); IPO: Azar et al. (2310.12036), eq. 17; robust:
 * Chowdhury et al. (2403.00409); f-divergences: Wang et al. (2309.16240); offset: Amini et al. (2402.10571); `nllWeight`:
 * iterative reasoning preference optimisation, Pang et al. (2404.19733), whose weight is 1.
 *
 *     l = sum over the answer of log p - log p_ref;     Delta = f(l_chosen) - f(l_rejected);     D = beta Delta - offset
 *
 *     dpo     -(1 - e) log sigmoid(D) - e log sigmoid(-D)                            e: label smoothing (conservative DPO)
 *             + nllWeight * NLL of the chosen answers, mean over their tokens
 *     hinge   max(0, 1 - D)
 *     robust  [-(1 - e) log sigmoid(D) + e log sigmoid(-D)] / (1 - 2 e)              e: share of flipped labels, < 1/2
 *     ipo     (f(l_chosen) / |y_chosen| - f(l_rejected) / |y_rejected| - 1 / (2 beta))^2     `sums`: without the lengths
 *
 *     f: reverse-kl l;  forward-kl 1 - exp(-l);  js log 2 + log sigmoid(l);  alpha (exp((a - 1) l) - 1) / (a - 1)
 *
 * IPO divides by the tokens as TRL does (confirmed there with its authors; the paper writes sums). Exponents are held at 80,
 * where float32 ends. A pair of equal texts has Delta = 0: no gradient.
 */

import { logSigmoid } from "../tensor/composites/activation.ts"
import { add, div, exp, expm1, max, min, mul, neg, square, sub } from "../tensor/ops/elementwise.ts"
import type { Tensor } from "../tensor/Tensor.ts"
import { inputOf, ofGroup, type TokenObjective } from "./Objective.ts"
import {
  chosenNll,
  chosenTokens,
  logRatios,
  onBoth,
  pairLengths,
  pairLogs,
  refLogprobs,
  type Weighted,
  weightedMean,
  weightInput
} from "./pairs.ts"

export type Divergence = "reverse-kl" | "forward-kl" | "js" | "alpha"

interface Common extends Weighted {
  /** How far the policy is held to its reference; > 0, default 0.1. */
  readonly beta?: number
  /** Default `reverse-kl`, DPO's own. */
  readonly divergence?: Divergence
  /** Of `alpha`: 1 is reverse KL, 0 forward KL up to rounding. Default 0.5. */
  readonly alpha?: number
}

interface Offset {
  /** `given`: the batch tensor `offsets`, read of the chosen row, is how much better the chosen answer is to be. */
  readonly offsets?: "none" | "given"
}

export interface DpoSettings extends Common, Offset {
  /** In [0, 1/2]; default 0. */
  readonly labelSmoothing?: number
  /** Weight of the likelihood of the chosen answer; >= 0, default 0. */
  readonly nllWeight?: number
}
export interface HingeSettings extends Common, Offset {}
export interface RobustDpoSettings extends Common, Offset {
  /** Share of flipped labels, in [0, 1/2); default 0. */
  readonly labelSmoothing?: number
}
export interface IpoSettings extends Common {
  /** Default `normalised`: per token, as TRL. `sums`: as the paper writes it. */
  readonly lengths?: "normalised" | "sums"
}

const largest = 80

/** What the derivative of an f-divergence makes of a log-ratio l. */
const score = (divergence: Divergence, alpha: number, l: Tensor): Tensor => {
  switch (divergence) {
    case "reverse-kl":
      return l
    case "forward-kl":
      return sub(1, exp(min(neg(l), largest)))
    case "js":
      return add(logSigmoid(l), Math.LN2)
    case "alpha":
      return Math.abs(alpha - 1) < 1e-6 ? l : div(expm1(min(mul(l, alpha - 1), largest)), alpha - 1)
  }
}

/** The numbers of settings as part of an objective's name. */
const listed = (settings: object): string =>
  Object.entries(settings)
    .map(([key, value]) => `${key} ${value}`)
    .join(", ")

const check = (name: string, { alpha = 0.5, beta = 0.1 }: Common, inRange = true): void => {
  if (!(beta > 0 && Number.isFinite(alpha) && inRange)) {
    throw new RangeError(
      `${name}: beta must be > 0, alpha finite, the label smoothing in [0, 1/2], for robust below 1/2`
    )
  }
}

/** An objective of beta Delta - offset; `lossOf` gets it as [pairs]. */
const ofDifference = (name: string, settings: Common & Offset, lossOf: (d: Tensor) => Tensor): TokenObjective => {
  const { alpha = 0.5, beta = 0.1, divergence = "reverse-kl", offsets = "none" } = settings
  return {
    name,
    groupSize: 2,
    inputs: {
      ...refLogprobs,
      ...(offsets === "given" ? { offsets: { per: "row", dtype: "f32" } } : {}),
      ...weightInput(settings)
    },
    build: (outputs, inputs) => {
      const ratios = logRatios(name, outputs, inputs)
      const scores = onBoth((l) => score(divergence, alpha, l!), ratios)
      const difference = mul(sub(scores.chosen, scores.rejected), beta)
      const d =
        offsets === "given" ? sub(difference, ofGroup(inputOf(name, inputs, "offsets"), 0, outputs)) : difference
      return {
        loss: weightedMean(name, lossOf(d), settings, outputs, inputs),
        logs: pairLogs(
          onBoth((l) => mul(l!, beta), ratios),
          outputs
        )
      }
    }
  }
}

/**
 * Batch tensors: `refLogprobs` [tokens]; `offsets` [rows] and `weights` [rows] where they are `given`; `chosenTokens` with a
 * likelihood, which logs `nll_loss`. Throws a RangeError for settings out of range.
 */
export const dpo = (settings: DpoSettings = {}): TokenObjective => {
  const { labelSmoothing: e = 0, nllWeight = 0 } = settings
  const name = `dpo(${listed(settings)})`
  check(name, settings, e >= 0 && e <= 0.5)
  if (!(nllWeight >= 0 && Number.isFinite(nllWeight))) throw new RangeError(`${name}: nllWeight must be >= 0`)
  const objective = ofDifference(name, settings, (d) =>
    e === 0 ? neg(logSigmoid(d)) : neg(add(mul(logSigmoid(d), 1 - e), mul(logSigmoid(neg(d)), e)))
  )
  return nllWeight === 0 ? objective : withLikelihood(objective, nllWeight)
}

/** An objective of pairs, and the negative log-likelihood of the chosen answers. */
const withLikelihood = ({ build, inputs: own, name, ...rest }: TokenObjective, weight: number): TokenObjective => ({
  ...rest,
  name,
  inputs: { ...own, ...chosenTokens },
  build: (outputs, inputs) => {
    const { logs, loss } = build(outputs, inputs)
    const nll = chosenNll(name, outputs, inputs)
    return { loss: add(loss, mul(nll, weight)), logs: { ...logs, nll_loss: nll } }
  }
})

/** As `dpo`, by the hinge of the difference. */
export const hinge = (settings: HingeSettings = {}): TokenObjective => {
  const name = `hinge(${listed(settings)})`
  check(name, settings)
  return ofDifference(name, settings, (d) => max(sub(1, d), 0))
}

/** As `dpo`, unbiased where a share of the labels is flipped; the loss may be negative. */
export const robustDpo = (settings: RobustDpoSettings = {}): TokenObjective => {
  const { labelSmoothing: e = 0 } = settings
  const name = `robust(${listed(settings)})`
  check(name, settings, e >= 0 && e < 0.5)
  return ofDifference(name, settings, (d) => div(sub(mul(logSigmoid(neg(d)), e), mul(logSigmoid(d), 1 - e)), 1 - 2 * e))
}

/** As `dpo`, by the square of what the difference lacks of 1 / (2 beta). */
export const ipo = (settings: IpoSettings = {}): TokenObjective => {
  const { alpha = 0.5, beta = 0.1, divergence = "reverse-kl", lengths = "normalised" } = settings
  const name = `ipo(${listed(settings)})`
  check(name, settings)
  return {
    name,
    groupSize: 2,
    inputs: { ...refLogprobs, ...weightInput(settings) },
    build: (outputs, inputs) => {
      const ratios = logRatios(name, outputs, inputs)
      const scores = onBoth((l) => score(divergence, alpha, l!), ratios)
      const per = lengths === "sums" ? scores : onBoth((l, n) => div(l!, n!), scores, pairLengths(outputs))
      const lacking = sub(sub(per.chosen, per.rejected), 1 / (2 * beta))
      return {
        loss: weightedMean(name, square(lacking), settings, outputs, inputs),
        logs: pairLogs(
          onBoth((l) => mul(l!, beta), ratios),
          outputs
        )
      }
    }
  }
}
