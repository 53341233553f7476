/** The losses that the stage `preference` knows: each with its own knobs, and the data and models that it needs. */
import * as Param from "../../dsl/param.ts"
import { cpo } from "../../objectives/cpo.ts"
import { dpo, hinge, ipo, robustDpo } from "../../objectives/dpo.ts"
import { irpo } from "../../objectives/irpo.ts"
import { kto } from "../../objectives/kto.ts"
import type { TokenObjective } from "../../objectives/Objective.ts"
import { orpo } from "../../objectives/orpo.ts"
import { plackettLuceDpo } from "../../objectives/plackettLuceDpo.ts"
import { simpo } from "../../objectives/simpo.ts"
import { tisDpo } from "../../objectives/tisDpo.ts"

const beta = Param.number(0.1, "how far the policy is held to the one that came in", { above: 0 })

const divergence = {
  divergence: Param.literal(
    ["reverse-kl", "forward-kl", "js", "alpha"],
    "reverse-kl",
    "which f-divergence from the policy that came in is held small"
  ),
  alpha: Param.number(0.5, "of the alpha divergence: 1 is reverse KL, 0 forward KL")
}

const weights = {
  weights: Param.literal(
    ["equal", "given"],
    "equal",
    "given: a pair counts as its `weight` says, 1 where it says nothing"
  )
}

/** D = beta Delta - offset x margin. */
const offset = {
  offset: Param.number(0, "times a pair's margin: by how much more the better answer must win (ODPO)", { min: 0 })
}

const flips = (description: string) => Param.number(0, description, { min: 0, max: 0.5 })
const smoothing = flips("label smoothing: how likely it is that a pair is the wrong way round")
const nll = (value: number) => Param.number(value, "weight of the likelihood of the chosen answer", { min: 0 })

export const LossParams = Param.choice(
  "kind",
  {
    dpo: { beta, labelSmoothing: smoothing, nllWeight: nll(0), ...divergence, ...offset, ...weights },
    hinge: { beta, ...divergence, ...offset, ...weights },
    robust: {
      beta,
      labelSmoothing: Param.number(0.1, "share of pairs that are the wrong way round", { min: 0, below: 0.5 }),
      ...divergence,
      ...offset,
      ...weights
    },
    ipo: {
      beta,
      lengths: Param.literal(["normalised", "sums"], "normalised", "per token, as TRL, or sums, as the paper writes"),
      ...divergence,
      ...weights
    },
    simpo: {
      beta: Param.number(2.5, "scale of the mean log-probabilities", { above: 0 }),
      gamma: Param.number(1.375, "margin of the rewards", { min: 0 }),
      labelSmoothing: smoothing,
      nllWeight: nll(0),
      ...weights
    },
    cpo: {
      beta: Param.number(0.1, "scale of the log-probabilities", { above: 0 }),
      labelSmoothing: smoothing,
      nllWeight: nll(1),
      ...weights
    },
    orpo: { lambda: Param.number(0.1, "weight of the odds ratio", { above: 0 }), ...weights },
    kto: {
      beta,
      desirableWeight: Param.number(1, "weight of desirable answers", { min: 0 }),
      undesirableWeight: Param.number(1, "weight of undesirable answers", { min: 0 })
    },
    "pl-dpo": { beta },
    irpo: {
      beta: Param.number(1, "how far the policy is held to the one that came in", { above: 0 }),
      gain: Param.literal(
        ["linear", "exponential"],
        "linear",
        "what relevance y counts: y, or 2^y - 1, for grades of a few levels"
      ),
      lengths: Param.literal(
        ["normalised", "sums"],
        "normalised",
        "log-probabilities per token, as the authors' code, or their sums"
      )
    },
    "tis-dpo": {
      beta,
      weighting: Param.literal(
        ["exponential", "rank"],
        "exponential",
        "a token's weight: k e^(mu ratio) within bounds, or by its ratio's rank in the answer, as the authors' code"
      ),
      spread: Param.number(0.3, "rank: how far weights are from 1 at most", { min: 0, max: 1 }),
      scale: Param.number(1, "k: weight of a token of which the contrastive pair says nothing", { above: 0 }),
      mu: Param.number(1, "how much the contrastive pair says; 0 makes it DPO", { min: 0 }),
      low: Param.number(-0.5, "bound of the pair's log-ratio from below"),
      high: Param.number(1.5, "bound of the pair's log-ratio from above"),
      ...weights
    }
  },
  "dpo",
  "the loss, with its own knobs"
)
export type LossParams = typeof LossParams.Type

export interface LossNeeds {
  readonly data: "pairs" | "ranked" | "unpaired"
  /** The log-probabilities of the policy that came in. */
  readonly reference: boolean
}

export const needsOf = ({ kind }: LossParams): LossNeeds => {
  switch (kind) {
    case "kto":
      return { data: "unpaired", reference: true }
    case "pl-dpo":
    case "irpo":
      return { data: "ranked", reference: true }
    case "simpo":
    case "cpo":
    case "orpo":
      return { data: "pairs", reference: false }
    default:
      return { data: "pairs", reference: true }
  }
}

/** The objective of a loss; `listSize` is the longest ranking. */
export const objectiveOf = (loss: LossParams, listSize: number): TokenObjective => {
  const offsets = "offset" in loss && loss.offset > 0 ? ("given" as const) : ("none" as const)
  switch (loss.kind) {
    case "dpo": {
      const { beta, divergence, labelSmoothing, nllWeight, weights } = loss
      return dpo({ beta, labelSmoothing, nllWeight, divergence, alpha: loss.alpha, offsets, weights })
    }
    case "hinge":
      return hinge({ beta: loss.beta, divergence: loss.divergence, alpha: loss.alpha, offsets, weights: loss.weights })
    case "robust": {
      const { beta, divergence, labelSmoothing, weights } = loss
      return robustDpo({ beta, labelSmoothing, divergence, alpha: loss.alpha, offsets, weights })
    }
    case "ipo": {
      const { beta, divergence, lengths, weights } = loss
      return ipo({ beta, divergence, alpha: loss.alpha, lengths, weights })
    }
    case "simpo": {
      const { kind: _, ...settings } = loss
      return simpo(settings)
    }
    case "cpo": {
      const { kind: _, ...settings } = loss
      return cpo(settings)
    }
    case "orpo":
      return orpo({ lambda: loss.lambda, weights: loss.weights })
    case "kto": {
      const { kind: _, ...settings } = loss
      return kto(settings)
    }
    case "pl-dpo":
      return plackettLuceDpo({ size: listSize, beta: loss.beta })
    case "irpo":
      return irpo({ size: listSize, beta: loss.beta, gain: loss.gain, lengths: loss.lengths })
    case "tis-dpo":
      return tisDpo({ beta: loss.beta, weights: loss.weights })
  }
}
