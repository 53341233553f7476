import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { grpo } from "../../src/objectives/grpo.ts"
import { sft } from "../../src/objectives/sft.ts"
import { golden } from "../models/folders.ts"
import { asRows, evaluateTokens, namesOf } from "./evaluate.ts"

const close = (a: number, b: number, tolerance = 1e-6) =>
  assert.isAtMost(Math.abs(a - b), tolerance * Math.max(1, Math.abs(b)), `${a} against ${b}`)

describe("grpo", () => {
  it("equals PyTorch: clip, dual clip, k3, token mean, and its gradient", () => {
    const reference = golden<{
      grpo: Record<"logp" | "old" | "ref" | "mask" | "advantage" | "gradient", Array<number>> &
        Record<"epsilonLow" | "epsilonHigh" | "dualClip" | "beta" | "loss" | "kl" | "clipRatio", number> & {
          shape: readonly [number, number]
        }
    }>("losses.json").grpo
    const { shape } = reference
    const objective = grpo({
      clipLow: reference.epsilonLow,
      clipHigh: reference.epsilonHigh,
      dualClip: reference.dualClip,
      klCoefficient: reference.beta,
      old: "given"
    })
    const found = evaluateTokens(objective, {
      logprobs: asRows(reference.logp, shape),
      mask: asRows(reference.mask, shape),
      inputs: {
        advantages: reference.advantage,
        oldLogprobs: asRows(reference.old, shape),
        refLogprobs: asRows(reference.ref, shape)
      }
    })
    close(found.loss, reference.loss)
    close(found.log("kl"), reference.kl)
    close(found.log("clip_ratio/region_mean"), reference.clipRatio)
    found.by.forEach((value, i) => {
      close(value, reference.gradient[i]!)
    })
  })

  it("on policy is the policy gradient: loss -mean(A), gradient -A / tokens", () => {
    // ratio = 1 everywhere: the loss is -(2 * 3 - 1 * 1) / 4 tokens = -1.25
    const found = evaluateTokens(grpo(), {
      logprobs: [
        [-0.1, -2, -3],
        [-0.5, 0, 0]
      ],
      mask: [
        [1, 1, 1],
        [1, 0, 0]
      ],
      inputs: { advantages: [2, -1] }
    })
    close(found.loss, -1.25)
    assert.deepStrictEqual(
      found.by.map((x) => x + 0),
      [-0.5, -0.5, -0.5, 0.25, 0, 0]
    )
    assert.strictEqual(found.log("clip_ratio/region_mean"), 0)
  })

  it("clips by hand", () => {
    // ratios 2, 2, 1/2, 1/2 with A = 1, -1, 1, -1 and clip 0.2:
    // max(-2, -1.2) = -1.2; max(2, 1.2) = 2; max(-.5, -.8) = -.5; max(.5, .8) = .8; mean (-1.2 + 2 - .5 + .8) / 4 = .275
    const l = Math.log(2)
    const rows = { logprobs: [[l], [l], [-l], [-l]], mask: [[1], [1], [1], [1]] }
    const inputs = { advantages: [1, -1, 1, -1], oldLogprobs: [[0], [0], [0], [0]] }
    const found = evaluateTokens(grpo({ old: "given" }), { ...rows, inputs })
    close(found.loss, 0.275)
    // low: ratio < .8 and A < 0 (row 3); high: ratio > 1.2 and A > 0 (row 0)
    assert.deepStrictEqual(
      ["low_mean", "high_mean", "region_mean"].map((name) => found.log(`clip_ratio/${name}`)),
      [0.25, 0.25, 0.5]
    )
    // dual clip 1.5: row 1 becomes min(2, 1.5)
    close(evaluateTokens(grpo({ old: "given", dualClip: 1.5 }), { ...rows, inputs }).loss, 0.15)
  })

  it("sequence mean gives every row the same weight", () => {
    // rows of 1 and 3 tokens on policy with A = 1, 0: -(1 + 0) / 2 against -1 / 4
    const rows = {
      logprobs: [
        [-1, 0, 0],
        [-1, -1, -1]
      ],
      mask: [
        [1, 0, 0],
        [1, 1, 1]
      ],
      inputs: { advantages: [1, 0] }
    }
    close(evaluateTokens(grpo({ aggregation: "sequence-mean" }), rows).loss, -0.5)
    close(evaluateTokens(grpo(), rows).loss, -0.25)
  })

  it("adds up over micro-batches, for both aggregations", () => {
    const row = fc.record({
      logprobs: fc.array(fc.double({ min: -5, max: 0, noNaN: true }), { minLength: 3, maxLength: 3 }),
      mask: fc.array(fc.constantFrom(0, 1), { minLength: 3, maxLength: 3 }),
      advantage: fc.double({ min: -2, max: 2, noNaN: true })
    })
    fc.assert(
      fc.property(
        fc.array(row, { minLength: 2, maxLength: 5 }),
        fc.constantFrom("token-mean" as const, "sequence-mean" as const),
        (rows, aggregation) => {
          const tokens = rows.flatMap(({ mask }) => mask).reduce<number>((a, b) => a + b, 0)
          if (tokens === 0) return
          const run = (part: typeof rows) =>
            evaluateTokens(grpo({ aggregation, klCoefficient: 0.1 }), {
              logprobs: part.map((r) => r.logprobs),
              mask: part.map((r) => r.mask),
              inputs: {
                advantages: part.map((r) => r.advantage),
                refLogprobs: part.map((r) => r.logprobs.map((l) => l - 0.3))
              },
              totalTokens: tokens,
              totalRows: rows.length
            })
          const [whole, first, rest] = [run(rows), run(rows.slice(0, 1)), run(rows.slice(1))]
          for (const name of ["loss", "kl", "entropy"]) close(whole.log(name), first.log(name) + rest.log(name), 1e-9)
          close(whole.by[4]!, rest.by[1]!, 1e-9)
        }
      ),
      { seed: 3, numRuns: 50 }
    )
  })

  it("asks for no more than its settings need, and refuses settings that make no sense", () => {
    assert.deepStrictEqual(namesOf(grpo()), ["advantages"])
    assert.deepStrictEqual(namesOf(grpo({ klCoefficient: 0.1 })), ["advantages", "refLogprobs"])
    assert.throws(() => grpo({ dualClip: 0.5 }), /dual clip > 1/)
    assert.throws(() => grpo({ clipLow: -0.1 }), /must be >= 0/)
  })
})

describe("sft", () => {
  it("is the mean negative log-probability of the unmasked tokens", () => {
    const rows = {
      logprobs: [
        [-1, -2, -9],
        [-3, -9, -9]
      ],
      mask: [
        [1, 1, 0],
        [1, 0, 0]
      ]
    }
    const found = evaluateTokens(sft(), rows)
    close(found.loss, 2)
    close(found.log("entropy"), 0.5)
    assert.deepStrictEqual(
      found.by.map((x) => Math.round(x * 3) + 0),
      [-1, -1, 0, -1, 0, 0]
    )
    // (1.5 + 3) / 2
    close(evaluateTokens(sft({ aggregation: "sequence-mean" }), rows).loss, 2.25)
  })

  it("with everything masked is 0 with gradient 0, given that the batch has tokens elsewhere", () => {
    const found = evaluateTokens(sft(), { logprobs: [[-1, -2]], mask: [[0, 0]], totalTokens: 3 })
    assert.deepStrictEqual([found.loss + 0, ...found.by.map((x) => x + 0)], [0, 0, 0])
  })
})
