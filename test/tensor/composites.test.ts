/** Composites against arithmetic done by hand, against each other, and at their edges. */
import { describe, expect, test } from "vitest"
import { gelu, logSigmoid, swiglu } from "../../src/tensor/composites/activation.ts"
import { adamw } from "../../src/tensor/composites/adamw.ts"
import { attention } from "../../src/tensor/composites/attention.ts"
import { cachedAttention } from "../../src/tensor/composites/cachedAttention.ts"
import { crossEntropy } from "../../src/tensor/composites/crossEntropy.ts"
import { linearLogprobs } from "../../src/tensor/composites/linearLogprobs.ts"
import { layerNorm, rmsNorm } from "../../src/tensor/composites/norm.ts"
import { rotary, rotaryFrequencies, rotaryTables } from "../../src/tensor/composites/rotary.ts"
import type { SampleOptions } from "../../src/tensor/composites/sample.ts"
import { greedy, sample } from "../../src/tensor/composites/sample.ts"
import { logSoftmax, softmax } from "../../src/tensor/composites/softmax.ts"
import { erf } from "../../src/tensor/erf.ts"
import { gradient } from "../../src/tensor/gradient.ts"
import type { Feed } from "../../src/tensor/interpret.ts"
import { interpret } from "../../src/tensor/interpret.ts"
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

const run = (outputs: Readonly<Record<string, Tensor>>, feeds: Readonly<Record<string, Feed>> = {}) =>
  Object.fromEntries(
    Object.entries(interpret(program("test", { outputs }), feeds).outputs).map(([name, { data }]) => [name, [...data]])
  )

const value = (x: Tensor, feeds: Readonly<Record<string, Feed>> = {}): number[] => run({ x }, feeds)["x"]!

const close = (actual: readonly number[], expected: readonly number[], digits = 12) => {
  expect(actual).toHaveLength(expected.length)
  expected.forEach((v, i) => {
    expect(actual[i], `element ${i}`).toBeCloseTo(v, digits)
  })
}

const literal = (values: readonly number[], ...shape: number[]) =>
  constant(values, "f32", shape.length > 0 ? shape : [values.length])

describe("activations and normalisation", () => {
  test("erf has its tabled values", () => {
    // Abramowitz and Stegun, table 7.1
    close(
      [erf(0), erf(0.5), erf(1), erf(2), erf(3.5), erf(-1)],
      [0, 0.5204998778, 0.8427007929, 0.995322265, 0.9999992569, -0.8427007929],
      9
    )
    expect([erf(10), erf(-10)]).toEqual([1, -1])
  })

  test("swiglu, gelu, logSigmoid", () => {
    // silu(0) = 0; silu(1) = 1 / (1 + 1/e) = 0.7310585786, times 2
    close(value(swiglu(literal([0, 1]), literal([5, 2]))), [0, 1.4621171573], 9)
    // x Phi(x): Phi(1) = 0.8413447461
    close(value(gelu(literal([0, 1, -1]))), [0, 0.8413447461, -0.1586552539], 9)
    close(value(logSigmoid(literal([0, 800, -800]))), [-Math.LN2, 0, -800])
    const x = input("x", "f32", [3])
    const [dx] = gradient(reduceSum(logSigmoid(x)), [x])
    close(value(dx!, { x: { shape: [3], data: [0, 800, -800] } }), [0.5, 0, 1])
  })

  test("rmsNorm and layerNorm", () => {
    // mean square of (3, 4) is 12.5; of deviations (-0.5, 0.5) it is 0.25
    close(value(rmsNorm(literal([3, 4], 1, 2), literal([1, 10]), 0)), [3 / Math.sqrt(12.5), 40 / Math.sqrt(12.5)])
    close(value(layerNorm(literal([3, 4], 1, 2), literal([2, 2]), literal([0, 1]), 0)), [-2, 3])
  })

  test("softmax sums to 1, does not overflow, and takes equal shifts", () => {
    const [a, b] = [value(softmax(literal([1000, 1001, 999]))), value(softmax(literal([0, 1, -1])))]
    close(a, b)
    expect(a.reduce((s, v) => s + v)).toBeCloseTo(1, 14)
    close(value(exp(logSoftmax(literal([5, 6, 4])))), b)
  })

  test("crossEntropy", () => {
    // log(e^0 + e^0) = log 2; log(1 + e) - 1
    const loss = crossEntropy(literal([0, 0, 0, 1], 2, 2), constant([1, 1], "i32"))
    close(value(loss), [Math.LN2, Math.log(1 + Math.E) - 1])
  })
})

test("adamw: the first step by hand", () => {
  // m = 0.1 * 0.5, v = 0.001 * 0.25, m / 0.1 = 0.5, v / 0.001 = 0.25:
  // p = 1 * (1 - 0.1 * 0.2) - 0.1 * 0.5 / (0.5 + 1e-8)
  const scalar = (v: number) => constant(v)
  const next = adamw(
    { param: literal([1]), grad: literal([0.5]), m: literal([0]), v: literal([0]) },
    { learningRate: scalar(0.1), correction1: scalar(0.1), correction2: scalar(0.001), weightDecay: 0.2 }
  )
  const { param, m, v } = run({ ...next })
  close(param!, [0.98 - 0.05 / (0.5 + 1e-8)])
  close(m!, [0.05])
  close(v!, [0.00025])
})

describe("rotary", () => {
  const x = literal([1, 2, 3, 4], 1, 1, 1, 4)
  const turned = (position: number) =>
    value(rotary(x, rotaryTables(constant([position], "i32"), rotaryFrequencies(4, 10_000))))

  test("turns the halves of a head: pairs (1, 3) by 1 and (2, 4) by 0.01", () => {
    const [c, s, c2, s2] = [Math.cos(1), Math.sin(1), Math.cos(0.01), Math.sin(0.01)]
    close(turned(1), [c - 3 * s, 2 * c2 - 4 * s2, 3 * c + s, 4 * c2 + 2 * s2])
    expect(turned(0)).toEqual([1, 2, 3, 4])
  })

  test("products depend on the distance only", () => {
    const score = (a: number, b: number) => turned(a).reduce((sum, v, i) => sum + v * turned(b)[i]!, 0)
    expect(score(3, 7)).toBeCloseTo(score(10, 14), 10)
  })
})

const random = generator(11)
const noise = (...shape: number[]): Feed => ({
  shape,
  data: Float64Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => 2 * random() - 1)
})

describe("attention", () => {
  test("one key gives its value, equal keys give the mean", () => {
    const one = attention(literal([5, 7], 1, 1, 1, 2), literal([1, 2], 1, 1, 1, 2), literal([3, 4], 1, 1, 1, 2))
    expect(value(one.out)).toEqual([3, 4])
    const two = attention(
      literal([0, 0], 1, 1, 1, 2),
      literal([1, 2, 3, 4], 1, 2, 1, 2),
      literal([2, 4, 4, 8], 1, 2, 1, 2)
    )
    close(value(two.out), [3, 6])
    close(value(two.logSumExp), [Math.LN2])
  })

  test("causal queries see nothing of later keys", () => {
    const make = () => input("kv", "f32", [1, 3, 1, 2])
    const kv = make()
    const { out } = attention(kv, kv, kv, { causal: true })
    const data = [1, 2, 3, 4, 5, 6]
    const [a, b] = [data, data.with(4, 50).with(5, -60)].map((d) =>
      value(out, { kv: { shape: [1, 3, 1, 2], data: d } })
    )
    expect(a!.slice(0, 4)).toEqual(b!.slice(0, 4))
    expect(a!.slice(0, 2)).toEqual([1, 2])
  })

  test("grouped heads equal repeated key/value heads", () => {
    const [q, k, v] = ["q", "k", "v"].map((name) => input(name, "f32", [2, 3, name === "q" ? 4 : 2, 2])) as [
      Tensor,
      Tensor,
      Tensor
    ]
    const feeds = { q: noise(2, 3, 4, 2), k: noise(2, 3, 2, 2), v: noise(2, 3, 2, 2) }
    const repeated = (feed: Feed): Feed => ({
      shape: [2, 3, 4, 2],
      data: Float64Array.from(
        { length: 48 },
        (_, i) => feed.data[(Math.floor(i / 8) * 2 + Math.floor((i % 8) / 4)) * 2 + (i % 2)]!
      )
    })
    const full = ["k", "v"].map((name) => input(name, "f32", [2, 3, 4, 2])) as [Tensor, Tensor]
    close(
      value(attention(q, k, v, { causal: true }).out, feeds),
      value(attention(q, ...full, { causal: true }).out, { q: feeds.q, k: repeated(feeds.k), v: repeated(feeds.v) })
    )
  })

  test("a row that sees no key stays finite", () => {
    const { out } = attention(literal([1, 2], 1, 1, 1, 2), literal([1, 2], 1, 1, 1, 2), literal([3, 4], 1, 1, 1, 2), {
      mask: constant([0], "bool", [1, 1, 1, 1])
    })
    expect(value(out).every(Number.isFinite)).toBe(true)
  })
})

describe("cachedAttention", () => {
  const [heads, kvHeads, width, maxLength] = [4, 2, 2, 7]
  const lengths = [3, 5]
  const total = 7
  const q = noise(2, total, heads, width)
  const k = noise(2, total, kvHeads, width)
  const v = noise(2, total, kvHeads, width)

  const cut = (feed: Feed, row: number, from: number, to: number): number[] => {
    const inner = feed.shape[2]! * feed.shape[3]!
    const start = row * feed.shape[1]! * inner
    return Array.from(feed.data).slice(start + from * inner, start + to * inner)
  }

  test("prefill of right-padded prompts, then decoding, equals attention over each row's own positions", () => {
    const step = (time: string | number) => {
      const tensor = (name: string, count: number) => input(name, "f32", ["batch", time, count, width])
      const cache = {
        k: input("cacheK", "f32", ["batch", kvHeads, maxLength, width]),
        v: input("cacheV", "f32", ["batch", kvHeads, maxLength, width])
      }
      const at = input("lengths", "i64", ["batch"])
      const result = cachedAttention(tensor("q", heads), tensor("k", kvHeads), tensor("v", kvHeads), cache, at)
      return program("step", { outputs: { out: result.out, cacheK: result.cache.k, cacheV: result.cache.v } })
    }
    const slice = (feed: Feed, at: readonly number[], count: number): Feed => ({
      shape: [2, count, ...feed.shape.slice(2)],
      data: at.flatMap((from, row) => cut(feed, row, from, from + count))
    })
    const empty: Feed = {
      shape: [2, kvHeads, maxLength, width],
      data: new Float64Array(2 * kvHeads * maxLength * width).fill(9)
    }
    // positions behind a row's true length hold the following tokens as padding
    const prompt = interpret(step("time"), {
      q: slice(q, [0, 0], 5),
      k: slice(k, [0, 0], 5),
      v: slice(v, [0, 0], 5),
      cacheK: empty,
      cacheV: empty,
      lengths: { shape: [2], data: [0, 0] }
    }).outputs
    const garbage = (feed: Feed): Feed => ({
      ...feed,
      data: Array.from(feed.data, (x, i) => (Math.floor((i / width) % maxLength) >= 5 ? 9 : x))
    })
    expect(garbage(prompt["cacheK"]!).data).toEqual([...prompt["cacheK"]!.data])
    let state = prompt
    const outs = [0, 1].map((row) => cut(prompt["out"]!, row, 0, lengths[row]!))
    for (let i = 0; i < 2; i++) {
      const at = lengths.map((n) => n + i)
      state = interpret(step(1), {
        q: slice(q, at, 1),
        k: slice(k, at, 1),
        v: slice(v, at, 1),
        cacheK: state["cacheK"]!,
        cacheV: state["cacheV"]!,
        lengths: { shape: [2], data: at }
      }).outputs
      for (const row of [0, 1]) outs[row]!.push(...cut(state["out"]!, row, 0, 1))
    }
    for (const row of [0, 1]) {
      const count = lengths[row]! + 2
      const own = (feed: Feed) => constant(cut(feed, row, 0, count), "f32", [1, count, ...feed.shape.slice(2)])
      close(outs[row]!, value(attention(own(q), own(k), own(v), { causal: true }).out), 10)
    }
  })

  test("drops what lies beyond the cache", () => {
    const one = (values: number[]) => constant(values, "f32", [1, values.length, 1, 1])
    const cache = () => constant([1, 2], "f32", [1, 1, 2, 1])
    const result = cachedAttention(
      one([0, 0]),
      one([7, 8]),
      one([7, 8]),
      { k: cache(), v: cache() },
      constant([1], "i32")
    )
    expect(value(result.cache.k)).toEqual([1, 7])
    close(value(result.out), [4, 4])
  })
})

describe("linearLogprobs", () => {
  const [tokens, width, vocabulary] = [11, 3, 6]
  const feeds = {
    hidden: noise(tokens, width),
    weight: noise(vocabulary, width),
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
