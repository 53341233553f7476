/** The vocabulary head: log-probabilities in chunks, and sampling. */
import { describe, expect, test } from "vitest"
import { linearLogprobs } from "../../src/tensor/composites/linearLogprobs.ts"
import type { SampleOptions } from "../../src/tensor/composites/sample.ts"
import { greedy, sample } from "../../src/tensor/composites/sample.ts"
import { logSoftmax } from "../../src/tensor/composites/softmax.ts"
import { gradient } from "../../src/tensor/gradient.ts"
import { dot } from "../../src/tensor/ops/dot.ts"
import { exp, mul, neg } from "../../src/tensor/ops/elementwise.ts"
import { takeAlong } from "../../src/tensor/ops/indexing.ts"
import { constant } from "../../src/tensor/ops/leaf.ts"
import { reduceSum } from "../../src/tensor/ops/reduce.ts"
import { expandDims, reshape } from "../../src/tensor/ops/shape.ts"
import { countOps, expand, program, programDims } from "../../src/tensor/Program.ts"
import type { Tensor } from "../../src/tensor/Tensor.ts"
import { input } from "../../src/tensor/Tensor.ts"
import { generator } from "./cases.ts"

import { close, literal, noise, run, value } from "./values.ts"

const random = generator(11)

describe("linearLogprobs", () => {
  const [tokens, width, vocabulary] = [11, 3, 6]
  const feeds = {
    hidden: noise(random, tokens, width),
    weight: noise(random, vocabulary, width),
    targets: { shape: [tokens], data: Float64Array.from({ length: tokens }, (_, i) => (i * 5) % vocabulary) }
  }
  const parts = () => ({
    hidden: input("hidden", "f32", ["tokens", width]),
    weight: input("weight", "f32", [vocabulary, width]),
    targets: input("targets", "i32", ["tokens"])
  })
  const direct = (temperature: number) => {
    const { hidden, weight, targets } = parts()
    const logprobs = logSoftmax(mul(dot(hidden, weight, { transposeRight: true }), 1 / temperature))
    return {
      logprob: reshape(takeAlong(logprobs, expandDims(targets, 1), 1), ["tokens"]),
      entropy: neg(reduceSum(mul(exp(logprobs), logprobs), 1)),
      hidden,
      weight
    }
  }
  const all = ({ logprob, entropy, hidden, weight }: ReturnType<typeof direct>) => {
    const loss = reduceSum(mul(logprob, mul(entropy, entropy)))
    const [dHidden, dWeight] = gradient(loss, [hidden, weight])
    return run({ logprob, entropy, dHidden: dHidden!, dWeight: dWeight! }, feeds)
  }

  test.each([1, 4, 5, 11, 2048])("in chunks of %i equals the direct computation, with its derivatives", (chunk) => {
    const { hidden, weight, targets } = parts()
    const chunked = all({ ...linearLogprobs(hidden, weight, targets, { chunk, temperature: 0.7 }), hidden, weight })
    const expected = all(direct(0.7))
    for (const [name, values] of Object.entries(expected)) close(chunked[name]!, values, 10)
  })

  test("a uniform distribution has log-probability -log V and entropy log V", () => {
    const { logprob, entropy } = linearLogprobs(
      literal([0, 0], 1, 2),
      literal([1, 2, 3, 4, 5, 6], 3, 2),
      constant([2], "i32")
    )
    close(value(logprob), [-Math.log(3)])
    close(value(entropy), [Math.log(3)])
  })

  test("temperature per token", () => {
    const { hidden, weight, targets } = parts()
    const temperature = constant(
      Array.from({ length: tokens }, () => 0.7),
      "f32",
      [tokens, 1]
    )
    const fixed = { hidden: input("hidden", "f32", [tokens, width]), targets: input("targets", "i32", [tokens]) }
    const { logprob } = linearLogprobs(fixed.hidden, weight, fixed.targets, { temperature })
    close(value(logprob, feeds), value(linearLogprobs(hidden, weight, targets, { temperature: 0.7 }).logprob, feeds))
  })

  test("the derivative is three products a chunk; without entropy the forward pass computes none", () => {
    const { hidden, weight, targets } = parts()
    const { logprob } = linearLogprobs(hidden, weight, targets, { chunk: 4 })
    const loss = reduceSum(logprob)
    const forward = expand(program("forward", { outputs: { loss } }))
    expect(countOps(forward.nodes)["dot"]).toBe(1)
    expect(countOps(forward.nodes)["mul"]).toBeUndefined()
    const [dHidden, dWeight] = gradient(loss, [hidden, weight])
    const count = (outputs: Record<string, Tensor>) => countOps(expand(program("p", { outputs })).nodes)
    // forward and: logits, dHidden, dWeight
    expect(count({ loss, dHidden: dHidden!, dWeight: dWeight! })["dot"]).toBe(1 + 3)
    const [onlyHidden] = gradient(loss, [hidden])
    expect(count({ loss, onlyHidden: onlyHidden! })["dot"]).toBe(1 + 2)
  })

  test("never makes [tokens, vocabulary]", () => {
    const { hidden, weight, targets } = parts()
    const { logprob, entropy } = linearLogprobs(hidden, weight, targets, { chunk: 4 })
    const grads = gradient(reduceSum(mul(logprob, entropy)), [hidden, weight])
    const p = expand(program("p", { outputs: { dHidden: grads[0]!, dWeight: grads[1]! } }))
    expect(programDims(p)).toEqual(["tokens"])
    const large = p.nodes.flatMap((node) => node.outputs).filter(({ shape }) => shape.at(-1) === vocabulary)
    expect(large.every(({ shape }) => shape.length < 2)).toBe(true)
  })
})

describe("sample", () => {
  const logits = [0.5, 0.3, 0.2].map(Math.log)
  const draw = (uniforms: readonly number[], options: SampleOptions = {}, row: readonly number[] = logits) => {
    const rows = uniforms.length
    const repeated = constant(
      uniforms.flatMap(() => row),
      "f32",
      [rows, row.length]
    )
    const { token, logprob, truncatedLogprob, mass } = sample(repeated, constant(uniforms, "f32", [rows]), options)
    return run({ token, logprob, truncatedLogprob, mass }) as Record<
      "token" | "logprob" | "truncatedLogprob" | "mass",
      number[]
    >
  }

  test("inverts the distribution function", () => {
    const { token, logprob, truncatedLogprob, mass } = draw([0, 0.1, 0.49, 0.51, 0.79, 0.81, 0.999999])
    expect(token).toEqual([0, 0, 0, 1, 1, 2, 2])
    close(logprob.slice(2, 4), [Math.log(0.5), Math.log(0.3)])
    expect(truncatedLogprob).toEqual(logprob)
    expect(mass).toEqual(mass.map(() => 1))
  })

  test("gives frequencies in proportion", () => {
    const { token } = draw(Array.from({ length: 1000 }, (_, i) => (i + 0.5) / 1000))
    const counts = [0, 1, 2].map((t) => token.filter((x) => x === t).length)
    expect(counts).toEqual([500, 300, 200])
  })

  test("temperature 2 takes square roots", () => {
    const roots = [0.5, 0.3, 0.2].map(Math.sqrt)
    const sum = roots.reduce((a, b) => a + b)
    close(draw([0, 0.99], { temperature: 2 }).logprob, [Math.log(roots[0]! / sum), Math.log(roots[2]! / sum)])
    expect(() => draw([0.5], { temperature: 0 })).toThrow("argMax")
  })

  test("top-k 2 leaves 0.8: 0.7 of it lies in the second token", () => {
    const { token, logprob, truncatedLogprob, mass } = draw([0.7, 0.9999], { topK: 2 })
    expect(token).toEqual([1, 1])
    close(logprob, [Math.log(0.3), Math.log(0.3)])
    close(truncatedLogprob, [Math.log(0.3 / 0.8), Math.log(0.3 / 0.8)])
    close(mass, [0.8, 0.8])
  })

  test("top-p keeps the smallest set with its share, after top-k", () => {
    close(draw([0.9], { topP: 0.45 }).mass, [0.5])
    close(draw([0.9], { topP: 0.55 }).mass, [0.8])
    close(draw([0.9], { topP: 0.85 }).mass, [1])
    // of the 0.8 that top-k leaves the first has 0.625
    close(draw([0.9], { topP: 0.6, topK: 2 }).mass, [0.5])
    close(draw([0.9], { topP: 0.65, topK: 2 }).mass, [0.8])
    expect(draw([0.999], { topP: 1e-9 }).token).toEqual([0])
  })

  test("min-p keeps what has its share of the best", () => {
    close(draw([0.9], { minP: 0.59 }).mass, [0.8])
    close(draw([0.9], { minP: 0.61 }).mass, [0.5])
    close(draw([0.9], { minP: 0 }).mass, [1])
  })

  test("ties at a threshold stay together", () => {
    const tied = [0.4, 0.25, 0.25, 0.1].map(Math.log)
    close(draw([0.5], { topK: 2 }, tied).mass, [0.9])
    close(draw([0.5], { topP: 0.5 }, tied).mass, [0.9])
  })

  test("a mask forbids tokens; the log-probability stays that of the full softmax", () => {
    const mask = constant([0, 1, 1], "bool")
    const { token, logprob, truncatedLogprob, mass } = draw([0, 0.59, 0.61, 0.9999999], { mask })
    expect(token).toEqual([1, 1, 2, 2])
    close(logprob.slice(1, 3), [Math.log(0.3), Math.log(0.2)])
    close(truncatedLogprob.slice(1, 3), [Math.log(0.6), Math.log(0.4)])
    close(mass, [0.5, 0.5, 0.5, 0.5])
    expect(draw([0.9999999], { mask: constant([1, 0, 0], "bool") }).token).toEqual([0])
  })

  test("a row depends on nothing but itself", () => {
    const rows = Array.from({ length: 6 }, () => Array.from({ length: 40 }, () => 6 * random()))
    const uniforms = rows.map(() => random())
    const options = { topP: 0.8, topK: 30, minP: 0.01, temperature: 0.9 }
    const together = sample(constant(rows.flat(), "f32", [6, 40]), constant(uniforms), options)
    const apart = rows.map((row, i) => draw([uniforms[i]!], options, row))
    expect(value(together.token)).toEqual(apart.map(({ token }) => token[0]))
    expect(value(together.truncatedLogprob)).toEqual(apart.map(({ truncatedLogprob }) => truncatedLogprob[0]))
  })

  test("top-p agrees with sorting, on random rows", () => {
    for (let trial = 0; trial < 20; trial++) {
      const row = Array.from({ length: 200 }, () => 8 * random())
      const share = 0.05 + 0.9 * random()
      const sum = row.reduce((s, z) => s + Math.exp(z), 0)
      const p = row.map((z) => Math.exp(z) / sum).sort((a, b) => b - a)
      let mass = 0
      for (let i = 0; mass < share; i++) mass += p[i]!
      close(draw([0.5], { topP: share }, row).mass, [mass], 6)
    }
  })

  test("greedy takes the best allowed token", () => {
    const twice = constant([...logits, ...logits], "f32", [2, 3])
    const { token, logprob } = greedy(twice, constant([1, 1, 1, 0, 1, 1], "bool", [2, 3]))
    expect(value(token)).toEqual([0, 1])
    close(value(logprob), [Math.log(0.5), Math.log(0.3)])
  })
})
