/** Losses on pairs, lists and single judgements, worked by hand. */
import { assert, describe, it } from "vitest"
import { cpo } from "../../src/objectives/cpo.ts"
import { dpo, hinge, ipo, robustDpo } from "../../src/objectives/dpo.ts"
import { irpo } from "../../src/objectives/irpo.ts"
import { kto } from "../../src/objectives/kto.ts"
import { orpo } from "../../src/objectives/orpo.ts"
import { plackettLuceDpo } from "../../src/objectives/plackettLuceDpo.ts"
import { simpo } from "../../src/objectives/simpo.ts"
import { tisDpo, tokenWeights } from "../../src/objectives/tisDpo.ts"
import { within } from "./close.ts"
import { evaluateTokens } from "./evaluate.ts"
import { byHand, l2 } from "./preferenceCases.ts"

const { close, closeAll } = within(1e-6)

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

  it("f-divergences of l = log 2, 0 and 0, log 4", () => {
    const l = Math.log
    // sigmoid(x) = 1 / (1 + e^-x)
    const loss = (first: number, second: number) => (l(1 + Math.exp(-first)) + l(1 + Math.exp(-second))) / 2
    const at = (more: Parameters<typeof dpo>[0]) => evaluateTokens(dpo({ beta: 1, ...more }), byHand).loss
    // forward: 1 - e^-l is 1/2, 0 and 0, 3/4
    close(at({ divergence: "forward-kl" }), loss(1 / 2, -3 / 4))
    // js: log 2 + log sigmoid(l) is log 4/3, 0 and 0, log 8/5
    close(at({ divergence: "js" }), loss(l(4 / 3), -l(8 / 5)))
    // alpha 1/2: (e^(-l / 2) - 1) / (-1/2) is 2 - sqrt 2, 0 and 0, 1
    close(at({ divergence: "alpha", alpha: 0.5 }), loss(2 - Math.SQRT2, -1))
  })

  it("DPO with likelihood: the chosen answers' -log p, 1 and 2, over two tokens", () => {
    close(
      evaluateTokens(dpo({ beta: 1, nllWeight: 0.5 }), byHand).loss,
      (Math.log(1.5) + Math.log(5)) / 2 + (0.5 * 3) / 2
    )
  })

  it("CPO and SimPO: answers of log p -log 2, -log 2 against -log 16", () => {
    const rows = {
      logprobs: [
        [-l2, -l2],
        [-4 * l2, 0]
      ],
      mask: [
        [1, 1],
        [1, 0]
      ],
      inputs: { chosenTokens: 2 }
    }
    // CPO, beta 1/2: D = (-2 log 2 + 4 log 2) / 2 = log 2, sigmoid 2/3; e = 1/4: 3/4 log 3/2 + 1/4 log 3; NLL log 2
    close(evaluateTokens(cpo({ beta: 0.5 }), rows).loss, Math.log(1.5) + l2)
    close(
      evaluateTokens(cpo({ beta: 0.5, labelSmoothing: 0.25, nllWeight: 0 }), rows).loss,
      0.75 * Math.log(1.5) + 0.25 * Math.log(3)
    )
    closeAll(evaluateTokens(cpo({ beta: 0.5, nllWeight: 0 }), rows).by, [-1 / 6, -1 / 6, 1 / 6, 0])
    // SimPO, beta 1: means -log 2 and -4 log 2, less a margin of 2 log 2: D = log 2
    const simple = evaluateTokens(simpo({ beta: 1, gamma: 2 * l2 }), rows)
    close(simple.loss, Math.log(1.5))
    closeAll(simple.by, [-1 / 6, -1 / 6, 1 / 3, 0])
    close(evaluateTokens(simpo({ beta: 1, gamma: 2 * l2, nllWeight: 2 }), rows).loss, Math.log(1.5) + 2 * l2)
  })

  it("TIS-DPO: weights 2 and 1 on the chosen tokens, 3 on the rejected one", () => {
    // 2 * log 2 + 1 * 0 against 3 * (log 2 / 3): D = log 2, sigmoid 2/3; derivatives -1/3 and 1/3 times the weights
    const found = evaluateTokens(tisDpo({ beta: 1 }), {
      logprobs: [
        [-1, -1],
        [-1, 0]
      ],
      mask: [
        [1, 1],
        [1, 0]
      ],
      inputs: {
        refLogprobs: [
          [-1 - l2, -1],
          [-1 - l2 / 3, 0]
        ],
        tokenWeights: [
          [2, 1],
          [3, 1]
        ]
      }
    })
    close(found.loss, Math.log(1.5))
    closeAll(found.by, [-2 / 3, -1 / 3, 1, 0])
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
