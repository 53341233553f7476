import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { samplingDifference } from "../../src/models/samplingDifference.ts"
import { grpo } from "../../src/objectives/grpo.ts"
import { ofGroup, perRow, type TokenObjective } from "../../src/objectives/Objective.ts"
import { sft } from "../../src/objectives/sft.ts"
import { div, mul, sub } from "../../src/tensor/ops/elementwise.ts"
import { reduceSum } from "../../src/tensor/ops/reduce.ts"
import { cpu } from "./device.ts"
import { tinyPolicy as tiny } from "./tinyPolicy.ts"

const prompts = ["The farmer", "farmer sells well because", "Duty", "sells of"].map((prompt, i) => ({
  promptId: `p${i}`,
  prompt
}))
const rows = [
  ["The farmer", "sells well"],
  ["farmer sells well because", "In the perspective of Duty, because of Care\n"],
  ["Duty", "Care"],
  ["sells of", "<summary>Justice</summary>"]
] as const

layer(cpu)("policy", (it) => {
  it.effect("what it samples it scores alike, greedily and by chance, with constants and with fed weights", () =>
    Effect.gen(function* () {
      for (const constantWeights of [2 ** 30, 0]) {
        const policy = yield* tiny(1, { constantWeights })
        for (const temperature of [1, 0.7]) {
          const found = yield* policy.generate(prompts, {
            seed: 0,
            purpose: "test",
            maxNewTokens: 20,
            samples: 3,
            temperature
          })
          assert.deepStrictEqual(found.map(({ promptId, sample }) => `${promptId}:${sample}`).slice(2, 5), [
            "p0:2",
            "p1:0",
            "p1:1"
          ])
          const scores = yield* policy.logprobs(
            found.map(({ ids, prompt }) => ({ prompt, completion: ids })),
            { temperature }
          )
          const { max } = samplingDifference(
            found.map(({ logprobs }) => logprobs),
            scores.map(({ logprobs }) => logprobs)
          )
          assert.isBelow(max, 2e-5)
          for (const { finish, ids, logprobs, truncatedLogprobs } of found) {
            assert.strictEqual(logprobs.length, ids.length)
            assert.deepStrictEqual(truncatedLogprobs, logprobs)
            assert.strictEqual(finish === "stop", ids.at(-1) === 3)
            assert.isFalse(ids.slice(0, -1).includes(3))
          }
        }
      }
    })
  )

  it.effect("groups of rows stay together in any plan of micro-batches, empty rows among them", () =>
    Effect.gen(function* () {
      // The mean over groups of (2 first - second + 4 third) sums of log-probabilities: wrong if a row took another's place.
      const weighted: TokenObjective = {
        name: "weighted triples",
        inputs: { weight: { per: "row", dtype: "f32" } },
        groupSize: 3,
        build: (outputs, { weight }) => {
          const sums = mul(perRow(outputs.logprobs, outputs), weight!)
          const first = mul(ofGroup(sums, 0, outputs), 2)
          const total = sub(first, sub(ofGroup(sums, 1, outputs), mul(ofGroup(sums, 2, outputs), 4)))
          return { loss: div(reduceSum(total), outputs.totalRows), logs: {} }
        }
      }
      const found: Array<number> = []
      for (const microBatchTokens of [1, 40, 10_000]) {
        const policy = yield* tiny(1)
        const trainer = yield* policy.trainer(weighted, { learningRate: 0.01 }, { microBatchTokens })
        const sequences = yield* Effect.forEach([...rows, ...rows, rows[0]], ([prompt, completion]) =>
          policy.sequence(prompt, completion)
        )
        sequences[5] = { ...sequences[5]!, completion: [] }
        const weight = sequences.map((_, row) => 1 + row / 10)
        const before = (yield* policy.logprobs(sequences)).map(({ logprobs }) => logprobs.reduce((a, b) => a + b, 0))
        const { logprobs, metrics } = yield* trainer.update({ sequences, inputs: { weight } })
        const expected = before.reduce((sum, value, row) => sum + value * weight[row]! * [2, -1, 4][row % 3]!, 0) / 9
        assert.closeTo(metrics["loss"]!, expected, 1e-4)
        assert.strictEqual(logprobs[5]!.length, 0)
        const after = yield* policy.logprobs(sequences)
        found.push(after.reduce((sum, { logprobs }) => sum + logprobs.reduce((a, b) => a + b, 0), 0))
      }
      assert.closeTo(found[0]!, found[1]!, 1e-3)
      assert.closeTo(found[0]!, found[2]!, 1e-3)
    })
  )

  it.effect("memorises rows by SFT, then answers them greedily", () =>
    Effect.gen(function* () {
      const policy = yield* tiny(2)
      const sequences = yield* Effect.forEach(rows, ([prompt, answer]) => policy.sequence(prompt, answer))
      const trainer = yield* policy.trainer(sft(), { learningRate: 1e-2, schedule: "cosine", totalUpdates: 60 })
      let last = Number.POSITIVE_INFINITY
      for (let i = 0; i < 60; i++) last = (yield* trainer.update({ sequences })).metrics["loss"]!
      assert.isBelow(last, 0.05)
      const found = yield* policy.generate(
        rows.map(([prompt], i) => ({ promptId: String(i), prompt })),
        { seed: 0, purpose: "test", maxNewTokens: 20, temperature: 0 }
      )
      assert.deepStrictEqual(
        found.map(({ text }) => text),
        rows.map(([, answer]) => answer)
      )
    })
  )

  it.effect("GRPO moves the policy towards what has the higher advantage", () =>
    Effect.gen(function* () {
      const policy = yield* tiny(3)
      const a = yield* policy.sequence("Duty", "Care")
      const b = yield* policy.sequence("Duty", "Justice")
      const trainer = yield* policy.trainer(grpo(), { learningRate: 1e-3 })
      const total = Effect.map(policy.logprobs([a, b]), (scores) =>
        scores.map(({ logprobs }) => logprobs.reduce((x, y) => x + y, 0))
      )
      const before = yield* total
      const { metrics } = yield* trainer.update({ sequences: [a, b], inputs: { advantages: [1, -1] } })
      const after = yield* total
      assert.isAbove(after[0]!, before[0]!)
      assert.isBelow(after[1]!, before[1]!)
      assert.hasAllKeys(metrics, [
        "loss",
        "grad_norm",
        "learning_rate",
        "updates",
        "entropy",
        "clip_ratio/low_mean",
        "clip_ratio/high_mean",
        "clip_ratio/region_mean"
      ])
    })
  )
})
