/** Losses on pairs, lists and single judgements: by finite differences, and reduced to each other. */
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
import { reinforce } from "../../src/objectives/reinforce.ts"
import { sft } from "../../src/objectives/sft.ts"
import { simpo } from "../../src/objectives/simpo.ts"
import { tisDpo } from "../../src/objectives/tisDpo.ts"
import { onDevice, runOnce } from "../device/support.ts"
import { within } from "./close.ts"
import { evaluateTokens, type Rows, tokenProgram } from "./evaluate.ts"
import { byHand, l2 } from "./preferenceCases.ts"

const { close, closeAll } = within(1e-6)

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
  ["hinge", hinge({ beta: 0.7, offsets: "given", weights: "given" })],
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
  it("hinge, while no difference reaches 1, is REINFORCE with the chosen answers' sign", () => {
    // max(0, 1 - D) = 1 - D: derivatives -beta / pairs on the chosen answer's tokens, beta / pairs on the rejected one's
    const found = evaluateTokens(hinge({ beta: 0.5 }), byHand)
    closeAll(found.by, [-0.25, 0.25, -0.25, 0.25])
    const far = evaluateTokens(hinge({ beta: 2 }), byHand)
    // D = 2 log 2 > 1 has none; the second pair has D = -2 log 4
    closeAll(far.by, [0, 0, -1, 1])
  })
  it("ORPO without its odds, and CPO without its difference, are supervised fine-tuning on the chosen answers", () => {
    fc.assert(
      fc.property(batchOf(6), (rows) => {
        const chosen = [0, 2, 4]
        const alone = {
          logprobs: chosen.map((row) => rows.logprobs[row]!),
          mask: chosen.map((row) => rows.mask[row]!)
        }
        const chosenTokens = alone.mask.flat().reduce((sum, x) => sum + x, 0)
        const given = { ...rows, inputs: { ...rows.inputs, chosenTokens } }
        const fitted = evaluateTokens(sft(), alone)
        for (const objective of [orpo({ lambda: 1e-12 }), cpo({ beta: 1e-12 })]) {
          const found = evaluateTokens(objective, given)
          // -log sigmoid(0) of CPO's difference is a constant.
          close(found.loss - (objective.name.startsWith("cpo") ? l2 : 0), fitted.loss, 1e-9)
          closeAll(
            chosen.flatMap((row) => found.by.slice(row * 3, row * 3 + 3)),
            fitted.by,
            1e-9
          )
        }
      }),
      { numRuns: 10 }
    )
  })
  it("KTO at its reference is REINFORCE with advantages +-beta / 4 by label; without a side it learns from the other", () => {
    const rows = {
      logprobs: [
        [-1, -2],
        [-3, 0],
        [-1, 0]
      ],
      mask: [
        [1, 1],
        [1, 0],
        [1, 0]
      ]
    }
    const inputs = { refLogprobs: rows.logprobs, labels: [1, 0, 1], desirable: 2, kl: 0 }
    const found = evaluateTokens(kto({ beta: 0.8 }), { ...rows, inputs })
    close(found.loss, 1 / 2)
    // REINFORCE's sums over rows, by the constant 1 / (rows x 1)
    const constant = reinforce({ aggregation: "constant", maxTokens: 1 })
    closeAll(found.by, evaluateTokens(constant, { ...rows, inputs: { advantages: [0.2, -0.2, 0.2] } }).by)
    const one = evaluateTokens(kto({ beta: 0.8, undesirableWeight: 0 }), { ...rows, inputs })
    closeAll(one.by, evaluateTokens(constant, { ...rows, inputs: { advantages: [0.2, 0, 0.2] } }).by)
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
