/** Packing: rows by hand and by property, the tensors by hand, and that a packed step is the step of the same rows unpacked. */
import { assert, describe, it, layer } from "@effect/vitest"
import { Effect } from "effect"
import { FileSystem } from "effect/FileSystem"
import * as fc from "fast-check"
import type { HostTensor } from "../../src/device/HostTensor.ts"
import { packRows, sequenceLength } from "../../src/models/batching.ts"
import { decoderParameters } from "../../src/models/decoder.ts"
import { load } from "../../src/models/Policy.ts"
import type { TrainingOptions } from "../../src/models/PolicyTrainer.ts"
import { fillRows, planRows } from "../../src/models/packing.ts"
import { parameterInputs } from "../../src/models/parameters.ts"
import { policyLoss } from "../../src/models/score.ts"
import { dpo } from "../../src/objectives/dpo.ts"
import type { TokenObjective } from "../../src/objectives/Objective.ts"
import { sft } from "../../src/objectives/sft.ts"
import { gradient } from "../../src/tensor/gradient.ts"
import { interpret } from "../../src/tensor/interpret.ts"
import { program } from "../../src/tensor/Program.ts"
import { cpu } from "./device.ts"
import { differenceOf, someSequences, stepOf } from "./packedStep.ts"
import { formula } from "./tiny.ts"
import { tinyConfig, tinyPolicy } from "./tinyPolicy.ts"

const sum = (values: ReadonlyArray<number>) => values.reduce((a, b) => a + b, 0)

/** First fit in the order given: the rows that a packer without a plan needs. */
const firstFit = (lengths: ReadonlyArray<number>, rowLength: number) => {
  const used: Array<number> = []
  for (const length of lengths.filter((length) => length > 0)) {
    const row = used.findIndex((places) => places + length <= rowLength)
    if (row < 0) used.push(length)
    else used[row]! += length
  }
  return used.length
}

describe("rows of packed sequences", () => {
  it("by hand: 6, 3, 5, 4, 2, 0, 7 in rows of 9 are 7 + 2, 6 + 3, 5 + 4", () => {
    // longest first: 7 | 6 | 5, 4 fits behind 5 only (4 left; 6 has 3, 7 has 2), 3 behind 6, 2 behind 7
    assert.deepStrictEqual(fillRows([6, 3, 5, 4, 2, 0, 7], 9), [
      [6, 4],
      [0, 1],
      [2, 3]
    ])
    // best fit: 2 goes where it leaves nothing, behind the second row's 5, not behind the first row's 4
    assert.deepStrictEqual(fillRows([5, 4, 4, 2], 7), [[0, 3], [1], [2]])
    assert.deepStrictEqual(fillRows([3, 12], 9), [[1], [0]])
    assert.deepStrictEqual(fillRows([0], 9), [])
  })

  it("hold every sequence with tokens once, none is too long, fewer than first fit needs; the same for the same lengths", () => {
    let [packed, first] = [0, 0]
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 60 }), { maxLength: 80 }),
        fc.integer({ min: 20, max: 200 }),
        (lengths, rowLength) => {
          const rows = fillRows(lengths, rowLength)
          assert.deepStrictEqual(
            rows.flat().toSorted((a, b) => a - b),
            lengths.flatMap((length, i) => (length > 0 ? [i] : []))
          )
          for (const row of rows) {
            assert.isTrue(row.length === 1 || sum(row.map((i) => lengths[i]!)) <= rowLength)
          }
          assert.deepStrictEqual(fillRows([...lengths], rowLength), rows)
          const fitting = lengths.map((length) => (length <= rowLength ? length : 0))
          const found = fillRows(fitting, rowLength).length
          // the bound of best-fit decreasing, from what no packing can do without
          assert.isAtMost(found, Math.floor((11 / 9) * firstFit(fitting, rowLength)) + 1)
          assert.isAtLeast(found, Math.ceil(sum(fitting) / rowLength))
          assert.isAtMost(found, firstFit(fitting, rowLength))
          packed += found
          first += firstFit(fitting, rowLength)
        }
      ),
      { seed: 8, numRuns: 300 }
    )
    assert.isBelow(packed, first)
  })

  it("go into micro-batches as rows of their length do, and what is left over is padding", () => {
    const { padding, parts } = planRows([6, 3, 5, 4, 2, 7], 9, 18)
    assert.deepStrictEqual(parts, [
      [
        [5, 4],
        [0, 1]
      ],
      [[2, 3]]
    ])
    assert.strictEqual(padding, 0)
    // 8 and 4 + 3 in rows of 8: one place of 16
    assert.strictEqual(planRows([8, 3, 4], 8, 16).padding, 1 / 16)
  })

  it("as tensors, by hand: ids, where each begins, which state predicts which token of which sequence", () => {
    const sequences = [
      { prompt: [1, 7], completion: [8, 9, 3] },
      { prompt: [1], completion: [5] },
      { prompt: [1, 6], completion: [] },
      { prompt: [1, 4], completion: [3] }
    ]
    const { at, firsts, ids, rows, starts, targets } = packRows(
      [
        [sequences[0]!, sequences[1]!],
        [sequences[2]!, sequences[3]!]
      ],
      0
    )
    assert.deepStrictEqual(ids.shape, [2, 5])
    assert.deepStrictEqual([...ids.data], [1, 7, 8, 9, 1, 1, 4, 0, 0, 0])
    assert.deepStrictEqual([...starts.data], [0, 0, 0, 0, 4, 0, 0, 2, 2, 2])
    assert.deepStrictEqual(firsts, [0, 4, 5, 5])
    assert.deepStrictEqual([...at.data], [1, 2, 3, 4, 6])
    assert.deepStrictEqual([...targets.data], [8, 9, 3, 5, 3])
    assert.deepStrictEqual([...rows.data], [0, 0, 0, 1, 3])
  })
})

/** Loss and all derivatives of a micro-batch by the float64 interpreter. */
const exactly = (rows: ReadonlyArray<ReadonlyArray<number>>, rowLength?: number) => {
  const sequences = someSequences(6, 14)
  const config = { ...tinyConfig, hiddenSize: 16, intermediateSize: 16, headSize: 4 }
  const table = decoderParameters(config)
  const parameters = parameterInputs(table)
  const { logs, loss } = policyLoss(config, parameters, sft(), { rowLength })
  const packed = packRows(
    rows.map((row) => row.map((i) => sequences[i]!)),
    0
  )
  const feed = ({ data, shape }: HostTensor) => ({ shape, data: Array.from(data, Number) })
  const scalar = (value: number) => ({ shape: [], data: [value] })
  const derivatives = gradient(loss, parameters.all)
  const outputs = { loss, ...logs, ...Object.fromEntries(derivatives.map((x, i) => [`grad:${table[i]!.name}`, x])) }
  const shape = [1, ...packed.ids.shape]
  return interpret(program("packed", { outputs }), {
    ids: { ...feed(packed.ids), shape },
    ...(rowLength === undefined ? {} : { starts: { ...feed(packed.starts), shape } }),
    at: feed(packed.at),
    targets: feed(packed.targets),
    mask: { shape: [packed.tokens], data: Array.from({ length: packed.tokens }, () => 1) },
    temperature: scalar(1),
    totalTokens: scalar(packed.tokens),
    ...Object.fromEntries(table.map((spec) => [spec.name, { shape: spec.shape, data: formula(spec) }]))
  }).outputs
}

describe("packed rows in float64", () => {
  it("have the loss and the derivatives of rows by themselves, and would not without the borders", () => {
    const rows = [[3, 0, 5], [1], [4, 2]]
    const alone = exactly([[0], [1], [2], [3], [4], [5]])
    for (const longest of [64, 4096]) {
      const together = exactly(rows, longest)
      for (const [name, { data }] of Object.entries(alone)) {
        const size = Math.max(...data.map(Math.abs))
        data.forEach((value, i) => {
          assert.closeTo(together[name]!.data[i]!, value, 1e-10 * size, `${name} ${i}`)
        })
      }
    }
    const blurred = exactly(rows)["loss"]!.data[0]!
    assert.isAbove(Math.abs(blurred - alone["loss"]!.data[0]!), 1e-3)
  })
})

layer(cpu)("a packed step", (it) => {
  it.effect("has loss, entropies, log-probabilities and gradients of the unpacked one, within 1e-5", () =>
    Effect.gen(function* () {
      const policy = yield* tinyPolicy(3)
      const sequences = someSequences(24)
      for (const aggregation of ["token-mean", "sequence-mean"] as const) {
        const alone = yield* stepOf(policy, sequences, {}, aggregation)
        const variants: ReadonlyArray<TrainingOptions> = [
          { rowLength: 64 },
          { rowLength: 64, microBatchTokens: 200 },
          { rowLength: 30 },
          { rowLength: 600 },
          { rowLength: 64, rematerialise: true }
        ]
        for (const options of variants) {
          const packed = yield* stepOf(policy, sequences, options, aggregation)
          assert.isBelow(differenceOf(packed, alone), 1e-5, JSON.stringify(options))
          assert.strictEqual(packed.tokens, alone.tokens)
          if (options.rowLength === 64) assert.isBelow(packed.padding, alone.padding)
        }
      }
      // it can fail: another batch is another step
      const other = yield* stepOf(policy, [...sequences.slice(1), sequences[0]!], { rowLength: 64 })
      const alone = yield* stepOf(policy, sequences, {})
      assert.isAbove(differenceOf(other, alone), 1e-3)
    })
  )

  it.effect("has an adapter's, dropout and all", () =>
    Effect.gen(function* () {
      const folder = yield* (yield* FileSystem).makeTempDirectoryScoped()
      yield* (yield* tinyPolicy(1)).save(folder)
      const policy = yield* load(folder, {
        lora: { rank: 4, alpha: 8, rslora: false, dropout: 0.2, targets: "all-linear", seed: 3 }
      })
      const sequences = someSequences(12)
      const alone = yield* stepOf(policy, sequences, { dropoutSeed: 5 })
      const packed = yield* stepOf(policy, sequences, { dropoutSeed: 5, rowLength: 64 })
      assert.isBelow(differenceOf(packed, alone), 1e-5)
      const otherwise = yield* stepOf(policy, sequences, { dropoutSeed: 6, rowLength: 64 })
      assert.isAbove(differenceOf(otherwise, alone), 1e-3)
    })
  )

  it.effect("a sequence longer than the rows has one to itself; the same batch gives the same bits", () =>
    Effect.gen(function* () {
      const policy = yield* tinyPolicy(2)
      const sequences = someSequences(9)
      const alone = yield* stepOf(policy, sequences, { microBatchTokens: 1 })
      const packed = yield* stepOf(policy, sequences, { rowLength: 1, microBatchTokens: 1 })
      assert.strictEqual(packed.microBatches, sequences.length)
      assert.strictEqual(Math.max(...sequences.map(sequenceLength)) > 1, true)
      assert.isBelow(differenceOf(packed, alone), 1e-5)
      const again = yield* stepOf(policy, sequences, { rowLength: 50 })
      assert.deepStrictEqual(again, yield* stepOf(policy, sequences, { rowLength: 50 }))
    })
  )

  it.effect("is refused for objectives with groups, or with a value for each row", () =>
    Effect.gen(function* () {
      const policy = yield* tinyPolicy(1)
      const weighted: TokenObjective = { ...sft(), name: "weighted", inputs: { weight: { per: "row", dtype: "f32" } } }
      for (const objective of [dpo(), weighted]) {
        const error = yield* Effect.flip(policy.trainer(objective, { learningRate: 0 }, { rowLength: 64 }))
        assert.match(error.message, /sequences cannot share rows where an objective has groups/)
        assert.throws(
          () => policyLoss(tinyConfig, parameterInputs(decoderParameters(tinyConfig)), objective, { rowLength: 64 }),
          RangeError
        )
      }
    })
  )
})
