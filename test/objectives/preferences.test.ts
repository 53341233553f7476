/** Losses on pairs, lists and single judgements: by hand, by finite differences, and reduced to each other. */
import * as fc from "fast-check"
import { assert, describe, it } from "vitest"
import { OnnxCpu } from "../../src/device/onnx/OnnxCpu.ts"
import { cpo } from "../../src/objectives/cpo.ts"
import { dpo, hinge, ipo, robustDpo } from "../../src/objectives/dpo.ts"
import { irpo } from "../../src/objectives/irpo.ts"
import { kto } from "../../src/objectives/kto.ts"
import type { TokenObjective } from "../../src/objectives/Objective.ts"
import { orpo } from "../../src/objectives/orpo.ts"
import { plackettLuceDpo } from "../../src/objectives/plackettLuceDpo.ts"
import { simpo } from "../../src/objectives/simpo.ts"
import { tisDpo, tokenWeights } from "../../src/objectives/tisDpo.ts"
import { onDevice, runOnce } from "../device/support.ts"
import { within } from "./close.ts"
import { evaluateTokens, type Rows, tokenProgram } from "./evaluate.ts"

const { close, closeAll } = within(1e-6)

/** Two pairs of one token each: ratios (log 2, 0) and (0, log 4), so Delta = log 2 and -log 4 at beta 1. */
const l2 = Math.log(2)
const byHand: Rows = {
  logprobs: [[-1], [-1], [-2], [-1]],
  mask: [[1], [1], [1], [1]],
  inputs: { refLogprobs: [[-1 - l2], [-1], [-2], [-1 - 2 * l2]], chosenTokens: 2 }
}

describe("by hand", () => {
  it("dpo: sigmoid(log 2) = 2/3, sigmoid(-log 4) = 1/5", () => {
    const found = evaluateTokens(dpo({ beta: 1 }), byHand)
    // (-log 2/3 - log 1/5) / 2; derivatives by the chosen answers -(1 - 2/3) / 2 and -(1 - 1/5) / 2
    close(found.loss, (Math.log(1.5) + Math.log(5)) / 2)
    closeAll(found.by, [-1 / 6, 1 / 6, -0.4, 0.4])
    close(found.log("rewards/accuracies"), 0.5)
    close(found.log("rewards/margins"), (l2 - 2 * l2) / 2)
    close(found.log("logps/chosen"), -1.5)
    // e = 1/4: 3/4 log 3/2 + 1/4 log 3 and 3/4 log 5 + 1/4 log 5/4
    const smoothed = [0.75 * Math.log(1.5) + 0.25 * Math.log(3), 0.75 * Math.log(5) + 0.25 * Math.log(1.25)]
    close(evaluateTokens(dpo({ beta: 1, labelSmoothing: 0.25 }), byHand).loss, (smoothed[0]! + smoothed[1]!) / 2)
  })

  it("hinge, robust and IPO", () => {
    // hinge: max(0, 1 - log 2) and 1 + log 4
    close(evaluateTokens(hinge({ beta: 1 }), byHand).loss, (1 - l2 + 1 + 2 * l2) / 2)
    // robust, e = 1/4: [3/4 log 3/2 - 1/4 log 3] / (1/2) and [3/4 log 5 - 1/4 log 5/4] / (1/2)
    const robust = [0.75 * Math.log(1.5) - 0.25 * Math.log(3), 0.75 * Math.log(5) - 0.25 * Math.log(1.25)]
    close(evaluateTokens(robustDpo({ beta: 1, labelSmoothing: 0.25 }), byHand).loss, robust[0]! + robust[1]!)
    // ipo, beta 1/2: (Delta - 1)^2
    close(evaluateTokens(ipo({ beta: 0.5 }), byHand).loss, ((l2 - 1) ** 2 + (-2 * l2 - 1) ** 2) / 2)
  })

  it("offsets and weights: D = log 2 - log 2 = 0 and weight 3; the second pair weighs nothing", () => {
    const objective = dpo({ beta: 1, offsets: "given", weights: "given" })
    const found = evaluateTokens(objective, {
      ...byHand,
      inputs: { ...byHand.inputs, offsets: [l2, 9, 0, 9], weights: [3, 9, 0, 9] }
    })
    close(found.loss, (3 * l2) / 2)
    closeAll(found.by, [-0.75, 0.75, 0, 0])
  })

  it("orpo: p = 1/2 has odds 1, p = 1/4 has odds 1/3", () => {
    const rows = { logprobs: [[-l2], [-2 * l2]], mask: [[1], [1]], inputs: { chosenTokens: 1 } }
    // odds ratio 3: -log sigmoid(log 3) = log 4/3
    close(evaluateTokens(orpo({ lambda: 0.5 }), rows).loss, l2 + 0.5 * Math.log(4 / 3))
    const certain = evaluateTokens(orpo(), { ...rows, logprobs: [[0], [-1]] })
    assert.isTrue([certain.loss, ...certain.by].every(Number.isFinite))
  })

  it("kto: l = log 2, 0, 0, log 4 at z = log 2, beta 1", () => {
    const rows = { ...byHand, inputs: { ...byHand.inputs, labels: [1, 0, 1, 0], desirable: 2, kl: l2 } }
    // 1 - sigmoid(0) = 1/2; 1 - sigmoid(log 2) = 1/3; 1 - sigmoid(-log 2) = 2/3; 1 - sigmoid(-log 2) = 2/3
    close(evaluateTokens(kto({ beta: 1 }), rows).loss, (1 / 2 + 1 / 3 + 2 / 3 + 2 / 3) / 4)
    // only bad ones: no chosen answers, no division by nothing
    const bad = evaluateTokens(kto(), { ...rows, inputs: { ...rows.inputs, labels: [0, 0, 0, 0], desirable: 0 } })
    close(bad.log("rewards/chosen"), 0)
    assert.isTrue(Number.isFinite(bad.loss))
  })

  it("a list of three: s = log 4, log 2, 0 at beta 1", () => {
    const rows = {
      logprobs: [[-1], [-1], [-1]],
      mask: [[1], [1], [1]],
      inputs: {
        refLogprobs: [[-1 - 2 * l2], [-1 - l2], [-1]],
        present: [1, 1, 1],
        relevance: [3, 0, 1]
      }
    }
    // shares 4/7, 2/3, 1
    close(evaluateTokens(plackettLuceDpo({ size: 3, beta: 1 }), rows).loss, Math.log(7 / 4) + Math.log(3 / 2))
    // place 1: the others' mean of e^s is 3/2, against 4: log(1 + 3/8); place 3: 3 against 1, log 4, weight 1 / log2 4
    const [first, third] = [Math.log(11 / 8), Math.log(4) / 2]
    close(evaluateTokens(irpo({ size: 3, beta: 1 }), rows).loss, (3 * first + third) / 3)
    // 2^3 - 1 and 2^1 - 1
    close(evaluateTokens(irpo({ size: 3, gain: "exponential" }), rows).loss, (7 * first + third) / 3)
    close(evaluateTokens(irpo({ size: 3, beta: 1 }), rows).log("rewards/accuracies"), 1)
  })

  it("TIS-DPO's token weights by rank run from 0.7 to 1.3, and turn over on the rejected side", () => {
    // Ratios 1, 3, -3: on the chosen answer the second is the greatest, on the rejected one the third.
    const weights = (side: "chosen" | "rejected", spread = 0.3) => [
      ...tokenWeights([-1, -1, -4], [-2, -4, -1], side, { weighting: "rank", spread })
    ]
    closeAll(weights("chosen"), [1, 1.3, 0.7], 1e-12)
    closeAll(weights("rejected"), [1, 0.7, 1.3], 1e-12)
    assert.deepStrictEqual(weights("chosen", 0), [1, 1, 1])
    assert.deepStrictEqual([...tokenWeights([-1], [-5], "chosen", { weighting: "rank" })], [1])
  })

  it("TIS-DPO's token weights are clamped, and turn over on the rejected side", () => {
    const weights = (side: "chosen" | "rejected") => [...tokenWeights([-1, -1, -4], [-2, -4, -1], side)]
    assert.deepStrictEqual(weights("chosen"), [Math.exp(1), Math.exp(1.5), Math.exp(-0.5)])
    assert.deepStrictEqual(weights("rejected"), [Math.exp(-1), Math.exp(-1.5), Math.exp(0.5)])
    assert.deepStrictEqual([...tokenWeights([-1], [-2], "chosen", { mu: 0, scale: 2 })], [2])
    assert.throws(() => tokenWeights([1], [1, 2], "chosen"), RangeError)
  })
})

const logprob = fc.double({ min: -6, max: -0.01, noNaN: true })
const batchOf = (rows: number) =>
  fc
    .array(
      fc.record({
        logprobs: fc.array(logprob, { minLength: 3, maxLength: 3 }),
        ref: fc.array(logprob, { minLength: 3, maxLength: 3 }),
        weights: fc.array(fc.double({ min: 0.1, max: 3, noNaN: true }), { minLength: 3, maxLength: 3 }),
        tokens: fc.integer({ min: 1, max: 3 })
      }),
      { minLength: rows, maxLength: rows }
    )
    .map((drawn): Rows => {
      const mask = drawn.map(({ tokens }) => [0, 1, 2].map((t) => (t < tokens ? 1 : 0)))
      return {
        logprobs: drawn.map(({ logprobs }, i) => logprobs.map((x, t) => x * mask[i]![t]!)),
        mask,
        inputs: {
          refLogprobs: drawn.map(({ ref }, i) => ref.map((x, t) => x * mask[i]![t]!)),
          tokenWeights: drawn.map(({ weights }) => weights),
          chosenTokens: 7,
          labels: drawn.map((_, i) => (i % 3 === 0 ? 1 : 0)),
          desirable: drawn.filter((_, i) => i % 3 === 0).length,
          kl: 0.3,
          present: drawn.map((_, i) => (i === rows - 1 && rows === 8 ? 0 : 1)),
          relevance: drawn.map((_, i) => (i * 7) % 5),
          offsets: drawn.map((_, i) => i / 5),
          weights: drawn.map((_, i) => 1 + i / 3)
        }
      }
    })

const everyObjective: ReadonlyArray<[string, TokenObjective]> = [
  ["dpo", dpo({ beta: 0.7, labelSmoothing: 0.1, offsets: "given", weights: "given" })],
  ["dpo forward-kl", dpo({ beta: 0.2, divergence: "forward-kl" })],
  ["dpo js", dpo({ beta: 0.7, divergence: "js" })],
  ["dpo with likelihood", dpo({ beta: 0.7, nllWeight: 0.4 })],
  ["dpo alpha", dpo({ beta: 0.7, divergence: "alpha", alpha: 0.6 })],
  ["robust", robustDpo({ beta: 0.7, labelSmoothing: 0.3 })],
  ["ipo", ipo({ beta: 0.5 })],
  ["ipo of sums", ipo({ beta: 0.5, lengths: "sums" })],
  ["simpo", simpo({ nllWeight: 0.5, labelSmoothing: 0.1 })],
  ["cpo", cpo({ beta: 0.6, labelSmoothing: 0.1 })],
  ["orpo", orpo({ lambda: 0.8 })],
  ["kto", kto({ beta: 0.6, undesirableWeight: 1.4 })],
  ["pl-dpo", plackettLuceDpo({ size: 4, beta: 0.5 })],
  ["irpo", irpo({ size: 4, beta: 0.5 })],
  ["irpo of grades", irpo({ size: 4, beta: 0.5, gain: "exponential", lengths: "sums" })],
  ["tis-dpo", tisDpo({ beta: 0.4 })]
]

describe("every objective", () => {
  it.each(everyObjective)("%s: derivatives are those of central differences", (_, objective) => {
    fc.assert(
      fc.property(batchOf(8), (rows) => {
        const { by } = evaluateTokens(objective, rows)
        const at = (row: number, t: number, step: number) =>
          evaluateTokens(objective, {
            ...rows,
            logprobs: rows.logprobs.map((r, i) => r.map((x, j) => (i === row && j === t ? x + step : x)))
          }).loss
        for (const [row, t] of [
          [0, 0],
          [3, 0],
          [6, 0]
        ] as const) {
          const h = 1e-5
          close(by[row * 3 + t]!, (at(row, t, h) - at(row, t, -h)) / (2 * h), 1e-5)
        }
      }),
      { numRuns: 5 }
    )
  })

  it.each(everyObjective)("%s: adds up over micro-batches of whole groups", (_, objective) => {
    fc.assert(
      fc.property(batchOf(8), (rows) => {
        const part = (from: number, to: number): Rows => ({
          logprobs: rows.logprobs.slice(from, to),
          mask: rows.mask.slice(from, to),
          inputs: Object.fromEntries(
            Object.entries(rows.inputs!).map(([name, value]) => [
              name,
              typeof value === "number" ? value : (value.slice(from, to) as ReadonlyArray<number>)
            ])
          ),
          totalTokens: rows.mask.flat().reduce((a, b) => a + b, 0),
          totalRows: 8
        })
        const [whole, a, b] = [part(0, 8), part(0, 4), part(4, 8)].map((x) => evaluateTokens(objective, x))
        close(a!.loss + b!.loss, whole!.loss, 1e-9)
        close(
          a!.log("rewards/margins") + b!.log("rewards/margins"),
          whole!.log("rewards/margins"),
          objective.name.startsWith("kto") ? 1e-6 : 1e-9
        )
        assert.deepStrictEqual(
          [...a!.by, ...b!.by].map((x) => x.toFixed(9)),
          whole!.by.map((x) => x.toFixed(9))
        )
      }),
      { numRuns: 10 }
    )
  })

  it.each(everyObjective.filter(([name]) => name !== "dpo forward-kl"))(
    "%s: stays finite in float32 where answers are hundreds of nats apart",
    async (_, objective) => {
      const far: Rows = {
        logprobs: [[-900], [-1], [-1], [-700], [-1], [-800], [-600], [-1]],
        mask: Array.from({ length: 8 }, () => [1]),
        inputs: {
          refLogprobs: [[-1], [-900], [-700], [-1], [-800], [-1], [-1], [-600]],
          tokenWeights: Array.from({ length: 8 }, () => [1]),
          chosenTokens: 4,
          labels: [1, 0, 1, 0, 1, 0, 1, 0],
          desirable: 4,
          kl: 0,
          present: [1, 1, 1, 1, 1, 1, 1, 1],
          relevance: [3, 2, 1, 0, 3, 2, 1, 0],
          offsets: [0, 0, 0, 0, 0, 0, 0, 0],
          weights: [1, 1, 1, 1, 1, 1, 1, 1]
        }
      }
      const { feeds, program, read } = tokenProgram(objective, far)
      const { by, loss } = read(await onDevice(OnnxCpu.layer({ threads: 1 }))(runOnce(program, feeds)))
      assert.isTrue(Number.isFinite(loss) && by.every(Number.isFinite))
    }
  )
})

const same = (a: TokenObjective, b: TokenObjective, tolerance = 1e-9, more: Rows["inputs"] = {}) =>
  fc.assert(
    fc.property(batchOf(6), (rows) => {
      const given = { ...rows, inputs: { ...rows.inputs!, ...more } }
      const [x, y] = [evaluateTokens(a, given), evaluateTokens(b, given)]
      close(x.loss, y.loss, tolerance)
      closeAll(x.by, y.by, tolerance)
    }),
    { numRuns: 10 }
  )

describe("reductions", () => {
  const ones = [1, 1, 1, 1, 1, 1]
  it("no smoothing, no flips, no offset, equal weights: DPO", () => {
    same(dpo({ labelSmoothing: 0 }), dpo())
    same(robustDpo({ beta: 0.4 }), dpo({ beta: 0.4 }))
    same(dpo({ offsets: "given", weights: "given" }), dpo(), 1e-9, { offsets: [0, 0, 0, 0, 0, 0], weights: ones })
  })
  it("a ranking of two is DPO; IRPO with relevance (2, 0), the mean over both places, is DPO", () => {
    same(plackettLuceDpo({ size: 2, beta: 0.6 }), dpo({ beta: 0.6 }), 1e-9, { present: ones })
    const more = { present: ones, relevance: [2, 0, 2, 0, 2, 0] }
    same(irpo({ size: 2, beta: 0.6, lengths: "sums" }), dpo({ beta: 0.6 }), 1e-9, more)
  })
  it("IRPO's gains agree at relevance 0 and 1", () => {
    const more = { present: ones, relevance: [1, 0, 1, 1, 0, 0] }
    same(irpo({ size: 3, beta: 0.6 }), irpo({ size: 3, beta: 0.6, gain: "exponential" }), 1e-9, more)
  })
  it("token weights of 1 are DPO", () => {
    same(tisDpo({ beta: 0.6 }), dpo({ beta: 0.6 }), 1e-9, { tokenWeights: ones.map(() => [1, 1, 1]) })
  })
  it("alpha 1 is reverse KL, near it nearly so; alpha 0 is forward KL", () => {
    same(dpo({ divergence: "alpha", alpha: 1 }), dpo())
    same(dpo({ divergence: "alpha", alpha: 1 + 1e-5 }), dpo(), 1e-2)
    same(dpo({ beta: 0.01, divergence: "alpha", alpha: 0 }), dpo({ beta: 0.01, divergence: "forward-kl" }), 1e-8)
  })
  it("IPO of one token an answer is IPO of sums; full label smoothing prefers neither", () => {
    const one: Rows = { ...byHand }
    close(evaluateTokens(ipo(), one).loss, evaluateTokens(ipo({ lengths: "sums" }), one).loss)
    const even = evaluateTokens(dpo({ beta: 1, labelSmoothing: 0.5 }), byHand)
    const turned = evaluateTokens(dpo({ beta: 1, labelSmoothing: 0.5 }), {
      ...byHand,
      logprobs: [1, 0, 3, 2].map((row) => byHand.logprobs[row]!),
      inputs: { refLogprobs: [[-1], [-1 - l2], [-1 - 2 * l2], [-2]] }
    })
    close(even.loss, turned.loss)
  })
  it("IPO is symmetric about its target: Delta = 1 / (2 beta) +- x cost the same", () => {
    const at = (delta: number) =>
      evaluateTokens(ipo({ beta: 0.25 }), {
        logprobs: [[delta - 5], [-5]],
        mask: [[1], [1]],
        inputs: { refLogprobs: [[-5], [-5]] }
      })
    close(at(2).loss, 0)
    close(at(3.5).loss, at(0.5).loss)
    close(at(3.5).by[0]!, -at(0.5).by[0]!)
  })
  it("SimPO without a margin is CPO without likelihood where answers have one token", () => {
    const one = { ...byHand }
    close(
      evaluateTokens(simpo({ beta: 0.7, gamma: 0 }), one).loss,
      evaluateTokens(cpo({ beta: 0.7, nllWeight: 0 }), one).loss
    )
  })
})

describe("refuse", () => {
  it.each([
    () => dpo({ beta: 0 }),
    () => dpo({ labelSmoothing: 0.6 }),
    () => dpo({ nllWeight: -0.1 }),
    () => robustDpo({ labelSmoothing: 0.5 }),
    () => simpo({ gamma: -1 }),
    () => cpo({ nllWeight: Number.NaN }),
    () => orpo({ lambda: 0 }),
    () => kto({ desirableWeight: -1 }),
    () => plackettLuceDpo({ size: 1 }),
    () => irpo({ size: 3, beta: -1 }),
    () => tisDpo({ beta: 0 })
  ])("settings out of range (%#)", (make) => assert.throws(make, RangeError))
})
