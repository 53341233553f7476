/**
 * What all policy-gradient losses share: everything but the loss of a token.
 *
 *     ratio = exp(logp - old)
 *     loss  = aggregate( w * tokenLoss(logp, old, ratio, A) + beta * kl ) - eta * mean entropy of the tokens
 *
 * A loss of one's own is a file like `cispo.ts`: a function from settings to the loss of every token. Old log-probabilities,
 * KL, entropy bonus, importance weights, masked rows and the aggregation come from here, so any loss has them all.
 *
 * With one update per generation `old` is `stopGradient(logp)`: the ratio is exactly 1, and its gradient that of the policy
 * gradient. With several, the caller gives log-probabilities from before the first update.
 */
import { stopGradient } from "../tensor/ops/control.ts"
import { add, and, exp, greater, less, mul, or, select, sub } from "../tensor/ops/elementwise.ts"
import { ones, zeros } from "../tensor/ops/leaf.ts"
import type { Tensor } from "../tensor/Tensor.ts"
import { constantMean, type PolicyAggregation, sequenceMean, tokenMean, tokenSum } from "./aggregate.ts"
import { type KlEstimator, klOf } from "./kl.ts"
import { type BatchInput, inputOf, perToken, type TokenObjective, type TokenOutputs } from "./Objective.ts"

export interface PolicyGradientSettings {
  /** `detached` (default): one update per generation. `given`: the batch has `oldLogprobs`. */
  readonly old?: "detached" | "given"
  /** Advantages per row (default) or per token. */
  readonly advantages?: "row" | "token"
  /** Default `token-mean`. `token-mean-global` asks for the batch tensor `tokensPerUpdate`. */
  readonly aggregation?: PolicyAggregation
  /** The most tokens an answer may have; what `constant` divides by. */
  readonly maxTokens?: number
  /** Coefficient beta of the KL to the reference policy in the loss; 0 (default) needs no reference. */
  readonly klCoefficient?: number
  /** Default k3. */
  readonly klEstimator?: KlEstimator
  /** Whether the estimate is multiplied by the ratio, gradient and all. Default false. */
  readonly klCorrected?: boolean
  /** Coefficient eta of the tokens' mean entropy (a token mean whatever the aggregation, as in TRL). Default 0. */
  readonly entropyBonus?: number
  /** Whether the batch has importance weights: `weights` per token, which multiply the policy's loss (`correction.ts`). */
  readonly weighted?: boolean
  /** Whether the batch says which rows count: `kept` per row (1 or 0), and `keptTokens` of the whole batch. */
  readonly masked?: boolean
}

/** What the loss of a token may depend on; all f32 [tokens]. */
export interface PolicyTokens {
  readonly logprobs: Tensor
  /** Log-probabilities before the first update; no gradient flows into them. */
  readonly old: Tensor
  /** exp(logprobs - old). */
  readonly ratio: Tensor
  readonly advantages: Tensor
  readonly outputs: TokenOutputs
}

export interface TokenLoss {
  /** [tokens]. */
  readonly loss: Tensor
  /** Scalars, additive over micro-batches. */
  readonly logs: Readonly<Record<string, Tensor>>
}

/** Share of the batch's tokens for which a condition (bool [tokens]) holds. */
export const share = (condition: Tensor, outputs: TokenOutputs): Tensor => {
  const [yes, no] = [ones(condition.shape), zeros(condition.shape)]
  return tokenMean(select(condition, yes, no), outputs)
}

/** Shares of tokens that a clip or mask keeps from moving further down and up: TRL's names. */
export const clipShares = (low: Tensor, high: Tensor, outputs: TokenOutputs) => ({
  "clip_ratio/low_mean": share(low, outputs),
  "clip_ratio/high_mean": share(high, outputs),
  "clip_ratio/region_mean": share(or(low, high), outputs)
})

/** Where a ratio is below 1 - low at negative advantages, and above 1 + high at positive ones. */
export const outside = (ratio: Tensor, advantages: Tensor, low: number, high: number) =>
  [and(less(ratio, 1 - low), less(advantages, 0)), and(greater(ratio, 1 + high), greater(advantages, 0))] as const

const given: BatchInput = { per: "token", dtype: "f32" }

/**
 * An objective from the loss of its tokens. Batch tensors: `advantages` [rows] or [tokens]; `oldLogprobs`, `refLogprobs`,
 * `weights` [tokens], `kept` [rows], `keptTokens`, `tokensPerUpdate` where the settings ask for them. Logs: `entropy`, those
 * of the loss, and `kl` where there is a KL. Throws a RangeError for settings that make no sense.
 */
export const policyGradient = (
  name: string,
  settings: PolicyGradientSettings,
  tokenLoss: (tokens: PolicyTokens) => TokenLoss
): TokenObjective => {
  const {
    advantages: per = "row",
    aggregation = "token-mean",
    entropyBonus = 0,
    klCoefficient = 0,
    klCorrected = false,
    klEstimator = "k3",
    masked = false,
    maxTokens,
    old = "detached",
    weighted = false
  } = settings
  if (!(klCoefficient >= 0 && entropyBonus >= 0)) {
    throw new RangeError(`${name}: the KL coefficient and the entropy bonus must be >= 0`)
  }
  if (aggregation === "constant" && !(maxTokens !== undefined && maxTokens >= 1)) {
    throw new RangeError(`${name}: the aggregation \`constant\` divides by \`maxTokens\`, which must be >= 1`)
  }

  const aggregate = (values: Tensor, outputs: TokenOutputs, tokensPerUpdate: () => Tensor): Tensor => {
    switch (aggregation) {
      case "token-mean":
        return tokenMean(values, outputs)
      case "token-mean-global":
        return tokenSum(values, outputs, tokensPerUpdate())
      case "sequence-mean":
        return sequenceMean(values, outputs)
      case "constant":
        return constantMean(values, outputs, maxTokens!)
    }
  }

  return {
    name,
    inputs: {
      advantages: { per, dtype: "f32" },
      ...(old === "given" ? { oldLogprobs: given } : {}),
      ...(klCoefficient > 0 ? { refLogprobs: given } : {}),
      ...(weighted ? { weights: given } : {}),
      ...(masked ? { kept: { per: "row", dtype: "f32" }, keptTokens: { per: "batch", dtype: "f32" } } : {}),
      ...(aggregation === "token-mean-global" ? { tokensPerUpdate: { per: "batch", dtype: "f32" } } : {})
    },
    build: (all, inputs) => {
      const from = (key: string) => inputOf(name, inputs, key)
      // Rows that are left out have no tokens, neither in sums nor in what is divided by; they stay rows.
      const outputs = masked
        ? { ...all, mask: mul(all.mask, perToken(from("kept"), all)), totalTokens: from("keptTokens") }
        : all
      const { logprobs } = outputs
      const before = old === "given" ? from("oldLogprobs") : stopGradient(logprobs)
      const ratio = exp(sub(logprobs, before))
      const advantages = per === "row" ? perToken(from("advantages"), outputs) : from("advantages")
      const policy = tokenLoss({ logprobs, old: before, ratio, advantages, outputs })
      const logs: Record<string, Tensor> = {
        entropy: tokenMean(stopGradient(outputs.entropies), outputs),
        ...policy.logs
      }
      let loss = weighted ? mul(policy.loss, from("weights")) : policy.loss
      if (klCoefficient > 0) {
        const estimate = klOf(klEstimator, logprobs, from("refLogprobs"))
        const kl = klCorrected ? mul(ratio, estimate) : estimate
        loss = add(loss, mul(kl, klCoefficient))
        logs["kl"] = tokenMean(kl, outputs)
      }
      const aggregated = aggregate(loss, outputs, () => from("tokensPerUpdate"))
      if (entropyBonus === 0) return { loss: aggregated, logs }
      return { loss: sub(aggregated, mul(tokenMean(outputs.entropies, outputs), entropyBonus)), logs }
    }
  }
}
