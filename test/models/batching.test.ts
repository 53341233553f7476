import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { packInputs } from "../../src/models/batchInputs.ts"
import { packSequences, packTexts, planGroups, planMicroBatches, sequenceLength } from "../../src/models/batching.ts"
import { samplingDifference } from "../../src/models/samplingDifference.ts"

describe("micro-batches", () => {
  it("hold every row with tokens once, fit, and are the same for the same lengths", () => {
    const lengths = fc.array(fc.integer({ min: 0, max: 50 }), { maxLength: 60 })
    fc.assert(
      fc.property(lengths, fc.integer({ min: 1, max: 200 }), (lengths, maxTokens) => {
        const { padding, parts } = planMicroBatches(lengths, maxTokens)
        const rows = parts.flat().sort((a, b) => a - b)
        assert.deepStrictEqual(
          rows,
          lengths.flatMap((length, row) => (length > 0 ? [row] : []))
        )
        let places = 0
        for (const part of parts) {
          const longest = Math.max(...part.map((row) => lengths[row]!))
          assert.isTrue(part.length === 1 || part.length * longest <= maxTokens)
          places += part.length * longest
        }
        const tokens = lengths.reduce((a, b) => a + b, 0)
        assert.closeTo(padding, places === 0 ? 0 : 1 - tokens / places, 1e-12)
      }),
      { seed: 4 }
    )
  })

  it("by hand: 5, 3, 3, 1 in 10 places are (5, 3) and (3, 1), with 4 of 16 padding", () => {
    const { padding, parts } = planMicroBatches([3, 5, 1, 0, 3], 10)
    assert.deepStrictEqual(parts, [
      [1, 0],
      [4, 2]
    ])
    assert.strictEqual(padding, 4 / 16)
  })

  it("hold whole groups, by hand: pairs (3, 5), (0, 0), (2, 0), (1, 4) in 20 places, first rows first", () => {
    const lengths = [3, 5, 0, 0, 2, 0, 1, 4]
    // Longest of each: 5, 0, 2, 4; in 20 places of pairs two groups of 5; (0, 0) has nothing to learn.
    const { padding, parts } = planGroups(lengths, 2, 20)
    assert.deepStrictEqual(parts, [
      [0, 6, 1, 7],
      [4, 5]
    ])
    assert.closeTo(padding, 1 - 15 / (4 * 5 + 2 * 2), 1e-12)
    assert.deepStrictEqual(planGroups(lengths, 1, 20), planMicroBatches(lengths, 20))
    assert.throws(() => planGroups([1, 2, 3], 2, 20), /rows \[3\] are no whole groups of \[2\]/)
  })

  it("pack sequences: each completion token is predicted from the state before it", () => {
    const sequences = [
      { prompt: [1, 7], completion: [8, 9, 3] },
      { prompt: [1], completion: [5] }
    ]
    assert.deepStrictEqual(sequences.map(sequenceLength), [4, 1])
    const { at, ids, rows, targets } = packSequences(sequences, 0)
    assert.deepStrictEqual(ids.shape, [2, 4])
    assert.deepStrictEqual([...ids.data], [1, 7, 8, 9, 1, 0, 0, 0])
    assert.deepStrictEqual([...at.data], [1, 2, 3, 4])
    assert.deepStrictEqual([...targets.data], [8, 9, 3, 5])
    assert.deepStrictEqual([...rows.data], [0, 0, 0, 1])
    assert.throws(() => packSequences([{ prompt: [], completion: [1] }], 0), /a prompt of at least one token/)
  })

  it("pack texts on the right", () => {
    const { ids, lengths, segments } = packTexts(
      [
        { ids: [5, 6], segments: [0, 1] },
        { ids: [7], segments: [0] }
      ],
      9
    )
    assert.deepStrictEqual(
      [[...ids.data], [...segments.data], [...lengths.data]],
      [
        [5, 6, 7, 9],
        [0, 1, 0, 0],
        [2, 1]
      ]
    )
  })

  it("carry the values of their own rows, per token, per row and for the batch", () => {
    const objective = {
      name: "o",
      inputs: {
        t: { per: "token", dtype: "f32" },
        r: { per: "row", dtype: "i32" },
        b: { per: "batch", dtype: "f32" }
      },
      build: () => {
        throw new Error("not built")
      }
    } as const
    const sequences = [{ completion: [1, 2] }, { completion: [3] }, { completion: [4] }]
    const feeds = packInputs(objective, { t: [[0.5, 0.25], [1], [2]], r: [7, 8, 9], b: 3 }, sequences, [2, 0])
    assert.deepStrictEqual(
      Object.entries(feeds).map(([name, { data, dtype, shape }]) => [name, dtype, shape, [...data]]),
      [
        ["batch:t", "f32", [3], [2, 0.5, 0.25]],
        ["batch:r", "i32", [1, 2], [9, 7]],
        ["batch:b", "f32", [], [3]]
      ]
    )
    const short = { t: [[0.5], [1], [2]], r: [7, 8, 9], b: 3 }
    assert.throws(
      () => packInputs(objective, short, sequences, [0]),
      /batch input "t" of o: row 0 has 1 values for 2 completion tokens/
    )
  })
})

describe("sampling difference", () => {
  it("is the largest, the mean and the 99.9th percentile of absolute differences", () => {
    // differences 0.001, 0.002, ..., 1: the 999th of 1000 is 0.999
    const trainer = [
      Array.from({ length: 400 }, (_, i) => (i + 1) / 1000),
      Array.from({ length: 600 }, (_, i) => -(i + 401) / 1000)
    ]
    const { max, mean, p999 } = samplingDifference(
      trainer.map((row) => row.map(() => 0)),
      trainer
    )
    assert.deepStrictEqual([max, p999], [1, 0.999])
    assert.closeTo(mean, 0.5005, 1e-12)
    assert.deepStrictEqual(samplingDifference([[]], [[]]), { max: 0, mean: 0, p99: 0, p999: 0 })
    assert.throws(() => samplingDifference([[1]], [[1, 2]]), /row 0: 1 tokens against 2/)
  })
})
