/**
 * The class bf16 on XLA's CPU plugin. A product of k terms of numbers rounded to 8 bits (unit 2^-9) is off by about
 * 2^-9 sqrt(k) of its terms' size, and a long program by a few such roundings one after the other.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, ManagedRuntime } from "effect"
import { afterAll, expect } from "vitest"
import { Device } from "../../../src/device/Device.ts"
import { f32 } from "../../../src/device/HostTensor.ts"
import { inBf16 } from "../../../src/device/xla/inBf16.ts"
import { writeProgram } from "../../../src/device/xla/writer.ts"
import { decoderParameters } from "../../../src/models/decoder.ts"
import { parameterInputs } from "../../../src/models/parameters.ts"
import { samplingDifference } from "../../../src/models/samplingDifference.ts"
import { policyLoss } from "../../../src/models/score.ts"
import { sft } from "../../../src/objectives/sft.ts"
import { linear } from "../../../src/tensor/composites/linear.ts"
import { gradient } from "../../../src/tensor/gradient.ts"
import { interpret } from "../../../src/tensor/interpret.ts"
import { loop } from "../../../src/tensor/ops/control.ts"
import { dot } from "../../../src/tensor/ops/dot.ts"
import { add } from "../../../src/tensor/ops/elementwise.ts"
import { gather } from "../../../src/tensor/ops/indexing.ts"
import { constant } from "../../../src/tensor/ops/leaf.ts"
import { program, specialise } from "../../../src/tensor/Program.ts"
import { input } from "../../../src/tensor/Tensor.ts"
import { tinyPolicy } from "../../models/tinyPolicy.ts"
import { casePrograms, cases, relativeError } from "../../tensor/cases.ts"
import { phrase } from "../agreement.ts"
import { runOnce } from "../support.ts"
import { absent, decoderOf, titled, xlaBf16, xlaCpu } from "./support.ts"

const rows = Array.from({ length: 8 }, (_, i) => [phrase(3 + (i % 4), i), phrase(5 + ((i * 5) % 7), i + 1)] as const)

/** Dtypes of the operands of every product of a module's text. */
const products = (text: string): ReadonlyArray<string> =>
  [...text.matchAll(/dot_general .* : \((tensor<[^>]*>), (tensor<[^>]*>)\) -> (tensor<[^>]*>)/g)].map(([, ...types]) =>
    types.map((type) => /x([a-z]+\d+)>$/.exec(type!)![1]).join(" ")
  )

describe("a program in bf16", () => {
  const config = decoderOf({
    vocabularySize: 40,
    hiddenSize: 16,
    intermediateSize: 24,
    layers: 2,
    heads: 4,
    keyValueHeads: 2,
    headSize: 4,
    maxPositions: 32
  })
  const sizes = { time: 8, groups: 3, tokens: 12 }

  const training = () => {
    const parameters = parameterInputs(decoderParameters(config))
    const { loss } = policyLoss(config, parameters, sft())
    const by = gradient(loss, parameters.all)
    return program("training", { outputs: Object.fromEntries([["loss", loss], ...by.map((x, i) => [`by${i}`, x])]) })
  }

  it("multiplies bf16 numbers only; gradients and logits keep their sums", () => {
    const plain = products(writeProgram(specialise(training(), sizes)).text)
    const found = products(writeProgram(specialise(inBf16(training()), sizes)).text)
    expect(new Set(plain)).toEqual(new Set(["f32 f32 f32"]))
    expect(new Set(found)).toEqual(new Set(["bf16 bf16 bf16", "bf16 bf16 f32"]))
    // of each of two layers' four projections: forward and by the states rounded, by the weight not
    expect(found.filter((types) => types === "bf16 bf16 bf16").length).toBeGreaterThanOrEqual(2 * 4 * 2)
    expect(found.filter((types) => types === "bf16 bf16 f32").length).toBeGreaterThanOrEqual(2 * 4)
  })

  it("keeps the names and dtypes of inputs and outputs, but for those that are stored in bf16", () => {
    const source = training()
    const made = inBf16(source)
    const types = ({ inputs, outputs }: typeof source) =>
      [...inputs, ...outputs].map(([name, { dtype }]) => [name, dtype] as const)
    expect(types(made)).toEqual(types(source))
    const frozen = new Set(["model.layers.0.mlp.down_proj.weight"])
    const other = inBf16(source, { stored: frozen })
    expect(types(other).filter(([name, dtype], i) => dtype !== types(source)[i]![1] || frozen.has(name))).toEqual([
      ["model.layers.0.mlp.down_proj.weight", "bf16"]
    ])
    // what is stored in bf16 is multiplied as it lies
    expect(writeProgram(specialise(other, sizes)).text).not.toMatch(
      /convert %a\d+ : \(tensor<16x24xbf16>\) -> tensor<16x24xf32>\n.*convert.*tensor<16x24xbf16>/
    )
  })

  it("widens rows of a stored table, not the table, in a loop as well", () => {
    const table = input("table", "f32", [300, 4])
    const [ids, start] = [input("ids", "i32", [5, 3]), input("start", "f32", [3, 4])]
    const { carried } = loop({ trips: 5, carried: [start], scanned: [ids] }, ({ carried: [x], scanned: [own] }) => ({
      carried: [add(x!, gather(table, own!))]
    }))
    const made = program("sums", { outputs: { sums: carried[0]!, first: gather(table, constant([7], "i32")) } })
    const stored = new Set(["table"])
    expect(writeProgram(made).text).toContain("tensor<300x4xf32>")
    const narrow = inBf16(made, { stored })
    expect(writeProgram(narrow).text).not.toContain("tensor<300x4xf32>")
    const feeds = {
      table: { shape: [300, 4], data: Array.from({ length: 1200 }, (_, i) => i / 4) },
      ids: { shape: [5, 3], data: Array.from({ length: 15 }, (_, i) => i * 20) },
      start: { shape: [3, 4], data: new Float64Array(12) }
    }
    expect(interpret(narrow, feeds).outputs).toEqual(interpret(made, feeds).outputs)
  })

  it("means the same where nothing is rounded: the whole table in the float64 interpreter", () => {
    for (const item of cases) {
      const { backward, backwardFeeds, feeds, forward } = casePrograms(item, 1, true)
      const check = (source: typeof forward, given: typeof feeds) => {
        const [a, b] = [interpret(source, given).outputs, interpret(inBf16(source), given).outputs]
        for (const [name, { data }] of Object.entries(a)) {
          expect(relativeError(b[name]!.data, data), `${item.name}, ${name}`).toBeLessThan(1e-9)
        }
      }
      check(forward, feeds)
      if (backward) check(backward, backwardFeeds)
    }
  })
})

describe.skipIf(absent !== undefined)(titled("XLA in bf16"), () => {
  const runtime = ManagedRuntime.make(xlaBf16)
  afterAll(() => runtime.dispose())

  it("adds up in float32: 4096 ones are 4096, where bf16 sums would stay at 256", async () => {
    const [x, w] = [input("x", "f32", [1, 4096]), input("w", "f32", [4096, 1])]
    const ones = f32([1, 4096], new Float32Array(4096).fill(1))
    const { y } = await runtime.runPromise(
      Effect.gen(function* () {
        const device = yield* Device
        const loaded = yield* device.load(program("sum", { outputs: { y: dot(x, w) } }))
        return yield* device.run(loaded, { x: ones, w: f32([4096, 1], ones.data) })
      }).pipe(Effect.scoped)
    )
    assert.strictEqual(y!.data[0], 4096)
  })

  it("rounds what it multiplies to bf16, to even", async () => {
    // 1 + 2^-8 lies half way between 1 and 1 + 2^-7: to even, 1; and 1 + 3 * 2^-8 to 1 + 2^-6
    const [x, w] = [input("x", "f32", [1, 2, 1]), input("w", "f32", [1, 1])]
    const { y } = await runtime.runPromise(
      Effect.gen(function* () {
        const device = yield* Device
        const loaded = yield* device.load(program("round", { outputs: { y: linear(x, w) } }))
        return yield* device.run(loaded, {
          x: f32([1, 2, 1], [1 + 2 ** -8, 1 + 3 * 2 ** -8]),
          w: f32([1, 1], [1])
        })
      }).pipe(Effect.scoped)
    )
    assert.deepStrictEqual([...y!.data].map(Number), [1, 1 + 2 ** -6])
  })

  // rows without a product are the same programs in both classes; the others are off by a few roundings of 2^-8, of the largest result
  const multiplies = (item: (typeof cases)[number]) => {
    const { backward, forward } = casePrograms(item, 1, false)
    return [forward, backward].some(
      (source) => source !== undefined && products(writeProgram(inBf16(source)).text).length > 0
    )
  }
  for (const item of cases.filter(multiplies)) {
    it(`the table of operations: ${item.name}`, async () => {
      const { backward, backwardFeeds, feeds, forward } = casePrograms(item, 1, true)
      const check = async (source: typeof forward, given: typeof feeds) => {
        const expected = interpret(source, given).outputs
        const actual = await runtime.runPromise(runOnce(source, given))
        for (const [name, { data, shape }] of Object.entries(expected)) {
          expect(actual[name]!.shape, name).toEqual(shape)
          expect(relativeError(actual[name]!.data, data), name).toBeLessThan(0.02)
        }
      }
      await check(forward, feeds)
      if (backward) await check(backward, backwardFeeds)
    })
  }

  it.live("trains a tiny policy as float32 does, and samples what it scores", () =>
    Effect.gen(function* () {
      const train = Effect.gen(function* () {
        const policy = yield* tinyPolicy(2)
        const sequences = yield* Effect.forEach(rows, ([prompt, answer]) => policy.sequence(prompt, answer))
        const trainer = yield* policy.trainer(sft(), { learningRate: 5e-3 }, { microBatchTokens: 512 })
        const losses: Array<number> = []
        for (let i = 0; i < 20; i++) losses.push((yield* trainer.update({ sequences })).metrics["loss"]!)
        const prompts = rows.map(([prompt], i) => ({ promptId: `p${i}`, prompt }))
        const found = yield* policy.generate(prompts, { seed: 0, purpose: "test", maxNewTokens: 16, samples: 2 })
        const scores = yield* policy.logprobs(found.map(({ ids, prompt }) => ({ prompt, completion: ids })))
        const difference = samplingDifference(
          found.map(({ logprobs }) => logprobs),
          scores.map(({ logprobs }) => logprobs)
        )
        return { losses, difference, dtype: (yield* Device).info.numericClass.dtype }
      }).pipe(Effect.scoped)
      const [exact, coarse] = yield* Effect.forEach([xlaCpu, xlaBf16], (device) =>
        train.pipe(Effect.provide(Layer.mergeAll(device, NodeServices.layer)))
      )
      assert.deepStrictEqual([exact!.dtype, coarse!.dtype], ["f32", "bf16"])
      assert.isBelow(exact!.losses.at(-1)!, exact!.losses[0]! - 1)
      exact!.losses.forEach((loss, i) => {
        assert.isAtMost(Math.abs(coarse!.losses[i]! - loss), 0.02 * exact!.losses[0]!, `loss ${i}`)
      })
      assert.isAtMost(coarse!.difference.mean, 0.01)
      assert.isAtMost(coarse!.difference.p99, 0.08)
      // it really is another arithmetic
      assert.notStrictEqual(coarse!.losses[0], exact!.losses[0])
    })
  )
})
