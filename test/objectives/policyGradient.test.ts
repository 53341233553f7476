/**
 * Every policy-gradient loss and what they share: against TRL's own numbers and PyTorch's, by hand, and by central
 * differences.
 */
import { assert, describe, it } from "@effect/vitest"
import { OnnxCpu } from "../../src/device/onnx/OnnxCpu.ts"
import { type CispoSettings, cispo } from "../../src/objectives/cispo.ts"
import { copg } from "../../src/objectives/copg.ts"
import { dppo } from "../../src/objectives/dppo.ts"
import { grpo } from "../../src/objectives/grpo.ts"
import { gspo } from "../../src/objectives/gspo.ts"
import { klEstimators, klValue } from "../../src/objectives/kl.ts"
import type { TokenObjective } from "../../src/objectives/Objective.ts"
import type { PolicyGradientSettings } from "../../src/objectives/policyGradient.ts"
import { reinforce } from "../../src/objectives/reinforce.ts"
import { onDevice, runOnce } from "../device/support.ts"
import { evaluateTokens, namesOf, type Rows, tokenProgram } from "./evaluate.ts"
import { batch, close, closeAll, type Flat, given, golden, type Reference, rowsOf } from "./policyGradientCases.ts"

const ofTrl: Readonly<Record<string, TokenObjective>> = {
  bnpo: grpo(given),
  "clip-higher": grpo({ ...given, clipHigh: 0.28 }),
  "dapo of 20 tokens": grpo({ ...given, aggregation: "token-mean-global" }),
  grpo: grpo({ ...given, aggregation: "sequence-mean" }),
  dr_grpo: grpo({ ...given, aggregation: "constant", maxTokens: golden.maxTokens }),
  delta: grpo({ ...given, delta: 1.4 }),
  k3: grpo({ ...given, klCoefficient: 0.3 }),
  "k3 corrected": grpo({ ...given, klCoefficient: 0.3, klCorrected: true }),
  weighted: grpo({ ...given, klCoefficient: 0.3, weighted: true, aggregation: "sequence-mean" }),
  "entropy bonus": grpo({ ...given, entropyBonus: 0.1, aggregation: "constant", maxTokens: golden.maxTokens }),
  gspo: gspo({ ...given, clipLow: 0.1, clipHigh: 0.15 }),
  cispo: cispo({ ...given, cap: 1.3 })
}
const ofFormula: Readonly<Record<string, TokenObjective>> = {
  reinforce: reinforce(given),
  "dppo tv": dppo({ ...given, low: 0.05, high: 0.08 }),
  "dppo tv, cap": dppo({ ...given, low: 9, high: 9, cap: 1.1 }),
  "dppo kl": dppo({ ...given, divergence: "kl", low: 0.02, high: 0.01 }),
  copg: copg({ ...given, clipHigh: 0.3 }),
  dual: grpo({ ...given, dualClip: 1.3 }),
  k1: grpo({ ...given, klCoefficient: 0.3, klEstimator: "k1" }),
  k2: grpo({ ...given, klCoefficient: 0.3, klEstimator: "k2" }),
  "k2 corrected": grpo({ ...given, klCoefficient: 0.3, klEstimator: "k2", klCorrected: true })
}

describe("against independent implementations", () => {
  /** In the float64 interpreter to the last digits, and in float32 on the device. */
  const compare = async (objective: TokenObjective, reference: Reference, logs: ReadonlyArray<string>) => {
    const { feeds, program, read } = tokenProgram(objective, batch())
    const inFloat32 = read(await onDevice(OnnxCpu.layer({ threads: 1 }))(runOnce(program, feeds)))
    for (const [found, tolerance] of [
      [evaluateTokens(objective, batch()), 1e-9],
      [inFloat32, 1e-5]
    ] as const) {
      close(found.loss, reference.loss, tolerance)
      closeAll(found.by, reference.gradient, tolerance)
      for (const name of logs) close(found.log(name), reference.logs[name]!, tolerance, name)
    }
  }

  it.each(Object.keys(ofTrl))("TRL: %s", async (name) => {
    const reference = golden.trl[name]!
    // TRL counts clipped rows of a sequence ratio, here their tokens are counted.
    await compare(ofTrl[name]!, reference, name === "gspo" ? [] : Object.keys(reference.logs))
  })

  it("TRL: luspo is gspo under `constant`, times the most tokens", () => {
    const luspo = gspo({
      ...given,
      clipLow: 0.1,
      clipHigh: 0.15,
      aggregation: "constant",
      maxTokens: golden.maxTokens
    })
    const found = evaluateTokens(luspo, batch())
    close(found.loss * golden.maxTokens, golden.trl["luspo"]!.loss)
    closeAll(
      found.by.map((by) => by * golden.maxTokens),
      golden.trl["luspo"]!.gradient
    )
  })

  it.each(Object.keys(ofFormula))("PyTorch: %s", async (name) => {
    await compare(ofFormula[name]!, golden.formula[name]!, [])
  })

  it("the batch reaches every clip and mask", () => {
    const shares = (objective: TokenObjective, names: ReadonlyArray<string>) => {
      const found = evaluateTokens(objective, batch())
      for (const name of names) assert.isAbove(found.log(name), 0, `${objective.name} ${name}`)
    }
    const both = ["clip_ratio/low_mean", "clip_ratio/high_mean"]
    shares(ofTrl["bnpo"]!, both)
    shares(ofTrl["gspo"]!, both.slice(0, 1))
    for (const name of ["dppo tv", "dppo kl", "copg"]) shares(ofFormula[name]!, both)
    shares(ofTrl["cispo"]!, ["cispo_clip_ratio"])
  })
})

describe("by hand", () => {
  const l = Math.log(2)
  // Ratios 2, 2, 1/2, 1/2 with A = 1, -1, 1, -1; p = 1/2, 1/2, 1/4, 1/4 and mu = 1/4, 1/4, 1/2, 1/2.
  const four: Rows = {
    logprobs: [[-l], [-l], [-2 * l], [-2 * l]],
    mask: [[1], [1], [1], [1]],
    inputs: { advantages: [1, -1, 1, -1], oldLogprobs: [[-2 * l], [-2 * l], [-l], [-l]] }
  }
  const find = (objective: TokenObjective) => evaluateTokens(objective, four)

  it("reinforce: whatever the ratio", () => {
    // -A logp is l, -l, 2l, -2l, with A = 1 everywhere l, l, 2l, 2l; gradients -A / 4
    const found = find(reinforce(given))
    close(found.loss, 0)
    closeAll(found.by, [-0.25, 0.25, -0.25, 0.25])
    const good = evaluateTokens(reinforce(given), { ...four, inputs: { ...four.inputs, advantages: [1, 1, 1, 1] } })
    close(good.loss, 1.5 * l)
  })

  it("cispo: weights min(2, 1.5), the same, 1/2, 1/2", () => {
    const found = find(cispo({ ...given, cap: 1.5 }))
    // -(1.5 * -l * 1 + 1.5 * -l * -1 + .5 * -2l * 1 + .5 * -2l * -1) / 4 = 0; gradients -w A / 4
    close(found.loss, 0)
    closeAll(found.by, [-0.375, 0.375, -0.125, 0.125])
    close(found.log("cispo_clip_ratio"), 0.25)
    closeAll(find(cispo({ ...given, cap: 1.5, floor: 0.75 })).by, [-0.375, 0.375, -0.1875, 0.1875])
  })

  it("copg: clipped where PPO is; elsewhere the gradient is A, whatever the ratio", () => {
    // row 0: A > 0 above: max(l, l(2 - log2(1.2))) is the clipped one; row 3: A < 0 below: clipped. Rows 1, 2: -A logp
    const found = find(copg(given))
    const upper = -2 * l + Math.log(1.2)
    const lower = -l + Math.log(0.8)
    close(found.loss, (-upper + -l + 2 * l + lower) / 4)
    closeAll(found.by, [0, 0.25, -0.25, 0])
  })

  it("dppo: |p - mu| is 1/4 everywhere; only what moves on is masked", () => {
    // threshold .2: rows 0 (up, A > 0) and 3 (down, A < 0) are masked; weights 2 and 1/2 on rows 1 and 2
    closeAll(find(dppo(given)).by, [0, 0.5, -0.125, 0])
    closeAll(find(dppo({ ...given, high: 0.3 })).by, [-0.5, 0.5, -0.125, 0])
    closeAll(find(dppo({ ...given, low: 0.3, cap: 1.5 })).by, [0, 0.375, -0.125, 0.125])
    // kl of mu = 1/4 to p = 1/2: .25 log(1/2) + .75 log(1.5) = .13081; of 1/2 to 1/4: .5 log 2 + .5 log(2/3) = .14384
    const kl = (low: number, high: number) => find(dppo({ ...given, divergence: "kl", low, high })).by
    closeAll(kl(0.1438, 0.1308), [0, 0.5, -0.125, 0])
    closeAll(kl(0.1439, 0.1309), [-0.5, 0.5, -0.125, 0.125])
  })

  it("gspo: the geometric mean of a row's ratios", () => {
    // Row 0: ratios 2 and 1/2, s = 1, A = 1: -1. Row 1: ratios 2 and 2, s = 2, A = 1, clip .5: -1.5, no gradient.
    const found = evaluateTokens(gspo({ ...given, clipLow: 0.5, clipHigh: 0.5 }), {
      logprobs: [
        [-l, -2 * l],
        [-l, -l]
      ],
      mask: [
        [1, 1],
        [1, 1]
      ],
      inputs: {
        advantages: [1, 1],
        oldLogprobs: [
          [-2 * l, -l],
          [-2 * l, -2 * l]
        ]
      }
    })
    close(found.loss, -1.25)
    closeAll(found.by, [-0.25, -0.25, 0, 0])
    close(found.log("clip_ratio/high_mean"), 0.5)
  })

  it("delta: a ratio of 2 counts as 1.5 where A < 0", () => {
    // max(-2, -1.2) = -1.2; min(2, 1.5) = 1.5; -.5; .8: sum .6
    close(find(grpo({ ...given, delta: 1.5 })).loss, 0.15)
  })

  it("aggregations: rows of 1 and 3 tokens, token losses -1 and -2, at most 4 tokens, a step of 10 tokens in 2 updates", () => {
    const rows: Rows = {
      logprobs: [
        [-1, 0, 0],
        [-1, -1, -1]
      ],
      mask: [
        [1, 0, 0],
        [1, 1, 1]
      ],
      inputs: { advantages: [1, 2], tokensPerUpdate: 5 }
    }
    const loss = (settings: PolicyGradientSettings) => evaluateTokens(grpo(settings), rows).loss
    close(loss({ aggregation: "token-mean" }), -7 / 4)
    close(loss({ aggregation: "token-mean-global" }), -7 / 5)
    close(loss({ aggregation: "sequence-mean" }), -3 / 2)
    close(loss({ aggregation: "constant", maxTokens: 4 }), -7 / 8)
  })

  it("kl estimates of log 2: .693, .240, .193; as numbers and in the graph", () => {
    const values = { k1: l, k2: (l * l) / 2, k3: 0.5 + l - 1 }
    for (const klEstimator of klEstimators) {
      close(klValue(klEstimator, -l, -2 * l), values[klEstimator])
      const found = evaluateTokens(grpo({ klCoefficient: 1, klEstimator }), {
        logprobs: [[-l]],
        mask: [[1]],
        inputs: { advantages: [0], refLogprobs: [[-2 * l]] }
      })
      close(found.loss, values[klEstimator])
      close(found.log("kl"), values[klEstimator])
    }
  })

  it("masked rows have no tokens: not in the sum, not in a token mean; `constant` and `sequence-mean` count them", () => {
    const rows: Rows = {
      logprobs: [
        [-1, -1, -1],
        [-1, 0, 0]
      ],
      mask: [
        [1, 1, 1],
        [1, 0, 0]
      ],
      inputs: { advantages: [5, 2], kept: [0, 1], keptTokens: 1 }
    }
    const find = (settings: PolicyGradientSettings) => evaluateTokens(grpo({ ...settings, masked: true }), rows)
    const found = find({})
    close(found.loss, -2)
    close(found.log("entropy"), 0.5)
    closeAll(found.by, [0, 0, 0, -2, 0, 0])
    close(find({ aggregation: "sequence-mean" }).loss, -1)
    close(find({ aggregation: "constant", maxTokens: 4 }).loss, -2 / 8)
    // All masked: nothing is learnt, and nothing is infinite.
    const none = evaluateTokens(gspo({ masked: true, klCoefficient: 1 }), {
      ...rows,
      inputs: { advantages: [5, 2], kept: [0, 0], keptTokens: 1, refLogprobs: rows.logprobs }
    })
    assert.deepStrictEqual([none.loss, ...none.by].map(Math.abs), Array(7).fill(0))
  })
})

/** Losses of a token in numbers: `at` is where log-probabilities stand, for what is held constant in the derivative. */
const surrogates: Readonly<
  Record<string, readonly [TokenObjective, (x: number, at: number, old: number, a: number) => number]>
> = {
  grpo: [
    grpo({ ...given, dualClip: 1.3 }),
    (x, _, old, a) => {
      const ratio = Math.exp(x - old)
      const loss = Math.max(-ratio * a, -Math.min(Math.max(ratio, 0.8), 1.2) * a)
      return a < 0 ? Math.min(loss, -1.3 * a) : loss
    }
  ],
  cispo: [cispo({ ...given, cap: 1.3 }), (x, at, old, a) => -Math.min(Math.exp(at - old), 1.3) * a * x],
  copg: [
    copg(given),
    (x, _, old, a) => -Math.min(a * x, a * Math.min(Math.max(x, old + Math.log(0.8)), old + Math.log(1.2)))
  ],
  dppo: [
    dppo({ ...given, low: 0.05, high: 0.05 }),
    (x, at, old, a) => {
      const [p, mu] = [Math.exp(at), Math.exp(old)]
      const masked = a > 0 ? p - mu > 0.05 : p - mu < -0.05
      return masked ? 0 : -Math.min(p / mu, 10) * a * x
    }
  ],
  reinforce: [reinforce(given), (x, _, __, a) => -a * x]
}

describe("gradients", () => {
  const h = 1e-6
  it.each(Object.keys(surrogates))("%s: central differences of the loss in plain numbers", (name) => {
    const [objective, token] = surrogates[name]!
    const total = golden.mask.reduce((a, b) => a + b, 0)
    const expected = golden.logp.map((at, i) => {
      const a = golden.advantages[Math.floor(i / golden.shape[1])]!
      const f = (x: number) => token(x, at, golden.old[i]!, a)
      return (golden.mask[i]! * (f(at + h) - f(at - h))) / (2 * h) / total
    })
    closeAll(evaluateTokens(objective, batch()).by, expected, 1e-7)
  })

  it("gspo: central differences of the loss of whole rows, not in its token form", () => {
    const rowLoss = (logp: Flat) =>
      rowsOf(logp).reduce((sum, row, i) => {
        const kept = row.flatMap((x, t) => (rowsOf(golden.mask)[i]![t] ? [x - rowsOf(golden.old)[i]![t]!] : []))
        const s = Math.exp(kept.reduce((x, y) => x + y, 0) / kept.length)
        const a = golden.advantages[i]!
        return sum + Math.max(-s * a, -Math.min(Math.max(s, 0.9), 1.15) * a) / golden.shape[0]
      }, 0)
    const nudged = (i: number, by: number) => golden.logp.map((x, k) => (k === i ? x + by : x))
    const expected = golden.logp.map((_, i) => (rowLoss(nudged(i, h)) - rowLoss(nudged(i, -h))) / (2 * h))
    closeAll(evaluateTokens(gspo({ ...given, clipLow: 0.1, clipHigh: 0.15 }), batch()).by, expected, 1e-7)
  })

  it("kl, corrected or not, and importance weights: central differences of the loss itself", () => {
    for (const klEstimator of klEstimators) {
      for (const klCorrected of [false, true]) {
        const objective = grpo({ ...given, klCoefficient: 0.3, klEstimator, klCorrected, weighted: true })
        const found = evaluateTokens(objective, batch())
        for (const i of [0, 3, 6, 16]) {
          const at = (by: number) =>
            evaluateTokens(objective, batch(golden.logp.map((x, k) => (k === i ? x + by : x)))).loss
          close(found.by[i]!, (at(h) - at(-h)) / (2 * h), 1e-7)
        }
      }
    }
  })
})

it("settings that make no sense are refused, and inputs are asked for by need", () => {
  const refused: ReadonlyArray<readonly [() => unknown, RegExp]> = [
    [() => grpo({ delta: 1.1 }), /delta must be > 1 \+ clipHigh/],
    [() => grpo({ klCoefficient: -1 }), /must be >= 0/],
    [() => grpo({ entropyBonus: -1 }), /must be >= 0/],
    [() => grpo({ aggregation: "constant" }), /`maxTokens`/],
    [() => gspo({ clipLow: -1 }), /clips/],
    [() => cispo({ cap: 1, floor: 1 } satisfies CispoSettings), /cap/],
    [() => copg({ clipLow: 1 }), /< 1/],
    [() => dppo({ cap: 0 }), /cap/]
  ]
  for (const [make, message] of refused) assert.throws(make, message)
  assert.deepStrictEqual(namesOf(reinforce()), ["advantages"])
  assert.deepStrictEqual(
    namesOf(gspo({ ...given, klCoefficient: 1, weighted: true, masked: true, aggregation: "token-mean-global" })),
    ["advantages", "oldLogprobs", "refLogprobs", "weights", "kept", "keptTokens", "tokensPerUpdate"]
  )
})
