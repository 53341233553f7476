/** Policy-gradient losses reduced to one another, and what holds of all of them. */
import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { cispo } from "../../src/objectives/cispo.ts"
import { copg } from "../../src/objectives/copg.ts"
import { dppo } from "../../src/objectives/dppo.ts"
import { grpo } from "../../src/objectives/grpo.ts"
import { gspo } from "../../src/objectives/gspo.ts"
import type { TokenObjective } from "../../src/objectives/Objective.ts"
import { reinforce } from "../../src/objectives/reinforce.ts"
import { sft } from "../../src/objectives/sft.ts"
import { evaluateTokens, type Rows } from "./evaluate.ts"
import { batch, close, closeAll, type Flat, given, golden, losses, rowsOf } from "./policyGradientCases.ts"

describe("reductions", () => {
  const by = (objective: TokenObjective, rows = batch()) => evaluateTokens(objective, rows).by
  const wide = { ...given, clipLow: 1, clipHigh: 1e9 }

  it.each(Object.keys(losses))("%s on policy, one update: the policy gradient", (name) => {
    const aggregation = "sequence-mean"
    const gradient = by(reinforce({ aggregation }))
    assert.isAbove(Math.max(...gradient.map(Math.abs)), 0.1)
    closeAll(by(losses[name]!({ aggregation })), gradient)
    // The same where the old log-probabilities are given and equal.
    const same = batch(golden.logp, { oldLogprobs: rowsOf(golden.logp) })
    closeAll(by(losses[name]!({ ...given, aggregation }), same), gradient)
  })

  it("REINFORCE with every advantage 1 is supervised fine-tuning", () => {
    for (const aggregation of ["token-mean", "sequence-mean"] as const) {
      const same = batch(golden.logp, { advantages: golden.advantages.map(() => 1) })
      const [one, other] = [reinforce({ aggregation }), sft({ aggregation })].map((of) => evaluateTokens(of, same))
      close(one!.loss, other!.loss)
      closeAll(one!.by, other!.by)
    }
  })

  it("gspo with one token a row is grpo", () => {
    const first = (values: Flat) => rowsOf(values).map(([x]) => [x!])
    const rows: Rows = {
      logprobs: first(golden.logp),
      mask: first(golden.mask),
      inputs: { advantages: golden.advantages, oldLogprobs: first(golden.old) }
    }
    const clips = { ...given, clipLow: 0.1, clipHigh: 0.2 }
    closeAll(by(gspo(clips), rows), by(grpo(clips), rows))
    close(evaluateTokens(gspo(clips), rows).loss, evaluateTokens(grpo(clips), rows).loss)
  })

  it("copg with clips out of reach is REINFORCE", () => {
    closeAll(by(copg({ ...given, clipLow: 1 - 1e-12, clipHigh: 1e12 })), by(reinforce()))
  })

  it("dppo and cispo without bounds, and grpo without clips, are importance-weighted policy gradient", () => {
    const plain = by(grpo(wide))
    closeAll(by(dppo({ ...given, low: 9, high: 9, cap: 1e9 })), plain)
    closeAll(by(cispo({ ...given, cap: 1e9 })), plain)
  })

  it("delta equal to the dual clip bounds the same; without bounds they change nothing", () => {
    closeAll(by(grpo({ ...given, delta: 1.3 })), by(grpo({ ...given, dualClip: 1.3 })))
    closeAll(by(grpo({ ...given, delta: 1e9, dualClip: 1e9 })), by(grpo(given)))
  })

  it("with rows of equal length `constant` is the token mean, up to lengths over the most", () => {
    const full = { ...batch(), mask: rowsOf(golden.mask.map(() => 1)) }
    closeAll(by(grpo({ ...given, aggregation: "constant", maxTokens: golden.shape[1] }), full), by(grpo(given), full))
    closeAll(by(grpo({ ...given, aggregation: "sequence-mean" }), full), by(grpo(given), full))
  })

  it("weights of 1, rows all kept, advantages per token that are a row's: nothing changes", () => {
    const tokens = golden.mask.reduce((a, b) => a + b, 0)
    const more = batch(golden.logp, {
      weights: rowsOf(golden.mask.map(() => 1)),
      kept: golden.advantages.map(() => 1),
      keptTokens: tokens,
      tokensPerUpdate: tokens
    })
    const plain = by(grpo(given))
    closeAll(by(grpo({ ...given, weighted: true, masked: true, aggregation: "token-mean-global" }), more), plain)
    const spread = batch(golden.logp, { advantages: golden.advantages.map((a) => Array(5).fill(a) as Array<number>) })
    closeAll(by(grpo({ ...given, advantages: "token" }), spread), plain)
  })

  it("the gradient of k3 times the ratio is that of k1 times the ratio: both estimate the reverse KL", () => {
    // Exactly: sum over tokens x of mu rho (k3 - k1) = sum of p (exp(ref - logp) - 1) = sum of (q - p) = 0, for any p.
    // Three tokens, drawn by mu; weights mu make the batch its own expectation.
    const [mu, q] = [
      [0.2, 0.5, 0.3],
      [0.6, 0.1, 0.3]
    ] as const
    const p = [0.3, 0.3, 0.4]
    const logs = (values: Flat) => values.map((x) => [Math.log(x)])
    const find = (klEstimator: "k1" | "k3") =>
      evaluateTokens(grpo({ ...given, klCoefficient: 1, klEstimator, klCorrected: true }), {
        logprobs: logs(p),
        mask: mu.map((x) => [x]),
        inputs: { advantages: [0, 0, 0], oldLogprobs: logs(mu), refLogprobs: logs(q) }
      }).loss
    const kl = p.reduce((sum, x, i) => sum + x * Math.log(x / q[i]!), 0)
    close(find("k1"), kl)
    close(find("k3"), kl)
  })
})

describe("properties", () => {
  const row = fc.record({
    logprobs: fc.array(fc.double({ min: -5, max: 0, noNaN: true }), { minLength: 3, maxLength: 3 }),
    shift: fc.double({ min: -0.5, max: 0.5, noNaN: true }),
    mask: fc.constantFrom([1, 1, 1], [1, 1, 0], [1, 0, 0]),
    kept: fc.constantFrom(0, 1),
    advantage: fc.double({ min: -2, max: 2, noNaN: true })
  })

  it("losses and logs add up over micro-batches, under every aggregation", () => {
    fc.assert(
      fc.property(
        fc.array(row, { minLength: 2, maxLength: 4 }),
        fc.constantFrom(...Object.keys(losses)),
        fc.constantFrom(
          "token-mean" as const,
          "token-mean-global" as const,
          "sequence-mean" as const,
          "constant" as const
        ),
        (rows, name, aggregation) => {
          const objective = losses[name]!({
            ...given,
            aggregation,
            maxTokens: 4,
            klCoefficient: 0.1,
            entropyBonus: 0.01,
            masked: true
          })
          const count = (part: typeof rows) => part.flatMap(({ mask }) => mask).reduce<number>((a, b) => a + b, 0)
          const run = (part: typeof rows) =>
            evaluateTokens(objective, {
              logprobs: part.map((r) => r.logprobs),
              mask: part.map((r) => r.mask),
              inputs: {
                advantages: part.map((r) => r.advantage),
                oldLogprobs: part.map((r) => r.logprobs.map((x, t) => x + r.shift * (t - 1))),
                refLogprobs: part.map((r) => r.logprobs.map((x) => x - 0.3)),
                kept: part.map((r) => r.kept),
                keptTokens: Math.max(1, count(rows.filter((r) => r.kept === 1))),
                tokensPerUpdate: 7
              },
              totalTokens: count(rows),
              totalRows: rows.length
            })
          const [whole, first, rest] = [run(rows), run(rows.slice(0, 1)), run(rows.slice(1))]
          for (const log of ["loss", "kl", "entropy"]) close(whole.log(log), first.log(log) + rest.log(log), 1e-9, log)
          closeAll(whole.by, [...first.by, ...rest.by])
        }
      ),
      { seed: 5, numRuns: 60 }
    )
  })
})
