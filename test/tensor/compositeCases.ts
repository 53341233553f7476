/** The rows of the table for composites. */
import { gelu, logSigmoid, softplus, swiglu } from "../../src/tensor/composites/activation.ts"
import { adamw } from "../../src/tensor/composites/adamw.ts"
import { attention } from "../../src/tensor/composites/attention.ts"
import { cachedAttention } from "../../src/tensor/composites/cachedAttention.ts"
import { crossEntropy } from "../../src/tensor/composites/crossEntropy.ts"
import { kthLargest } from "../../src/tensor/composites/kthLargest.ts"
import { linear } from "../../src/tensor/composites/linear.ts"
import { linearLogprobs } from "../../src/tensor/composites/linearLogprobs.ts"
import { lowRank } from "../../src/tensor/composites/lowRank.ts"
import { layerNorm, rmsNorm } from "../../src/tensor/composites/norm.ts"
import { overwrite } from "../../src/tensor/composites/overwrite.ts"
import { rematerialise } from "../../src/tensor/composites/rematerialise.ts"
import { rotary, rotaryFrequencies, rotaryTables } from "../../src/tensor/composites/rotary.ts"
import { sample } from "../../src/tensor/composites/sample.ts"
import { logSoftmax, softmax } from "../../src/tensor/composites/softmax.ts"
import { saveName, stopGradient } from "../../src/tensor/ops/control.ts"
import { dot } from "../../src/tensor/ops/dot.ts"
import { add, greater, mul, tanh } from "../../src/tensor/ops/elementwise.ts"
import { embedding } from "../../src/tensor/ops/indexing.ts"
import { constant, iota } from "../../src/tensor/ops/leaf.ts"
import type { Tensor } from "../../src/tensor/Tensor.ts"
import type { Case, Maker } from "./cases.ts"

const row = (
  name: string,
  build: (make: Maker) => Tensor | readonly Tensor[],
  options: Omit<Case, "name" | "build"> = {}
): Case => ({ name, build: (make) => [build(make)].flat(), ...options })

const loose = { tolerance: 1e-4 }

const attend = (
  { a, b, normal }: Maker,
  heads: number,
  kvHeads: number,
  options: Parameters<typeof attention>[3] = {},
  keys = b
) => {
  const { out, logSumExp } = attention(
    normal([a, b, heads, 4]),
    normal([a, keys, kvHeads, 4]),
    normal([a, keys, kvHeads, 4]),
    options
  )
  return [out, logSumExp]
}

const masked = (make: Maker, options: Parameters<typeof attention>[3] = {}) => {
  const { a, b, from } = make
  // every query sees the first key
  const mask = from([a, 1, 1, b], (i) => (i % make.size(b) === 0 || i % 3 !== 0 ? 1 : 0), "bool")
  return attend(make, 2, 1, { ...options, mask })
}

const head = (make: Maker, options: Parameters<typeof linearLogprobs>[3]) => {
  const { a, b, normal, ints } = make
  const { logprob, entropy } = linearLogprobs(normal([a, b]), normal([6, b]), ints([a], 0, 6), options)
  return [logprob, entropy]
}

const sampled = (make: Maker, options: Parameters<typeof sample>[2]) => {
  const { token, logprob, truncatedLogprob, mass } = sample(
    make.distinct([make.a, 9]),
    make.uniform([make.a], 0.05, 0.95),
    options
  )
  return [token, logprob, truncatedLogprob, mass]
}

const noGradient = { gradient: false }

export const compositeCases: readonly Case[] = [
  row("softmax", ({ a, b, normal }) => softmax(normal([a, b]))),
  row("logSoftmax", ({ a, b, normal }) => logSoftmax(normal([a, b]))),
  row("swiglu", ({ a, b, normal }) => swiglu(normal([a, b]), normal([a, b]))),
  row("gelu", ({ a, b, normal }) => gelu(normal([a, b]))),
  row("logSigmoid", ({ a, normal }) => [logSigmoid(normal([a])), softplus(normal([a]))]),
  row("logSigmoid, at 0", ({ from }) => logSigmoid(from([2], () => 0)), { gradient: false }),
  row("rmsNorm", ({ a, b, c, normal }) => rmsNorm(normal([a, b, c]), normal([c]), 1e-5)),
  row("layerNorm", ({ a, b, c, normal }) => layerNorm(normal([a, b, c]), normal([c]), normal([c]), 1e-2), loose),
  row("linear", ({ a, b, c, d, normal }) => linear(normal([a, b, c]), normal([d, c]))),
  row("linear, with bias", ({ a, b, c, normal }) => linear(normal([a, b]), normal([c, b]), { bias: normal([c]) })),
  row("linear, with bias", ({ a, b, c, d, normal }) =>
    linear(normal([a, b, c]), normal([d, c]), { bias: normal([d]) })
  ),
  row("lowRank", ({ a, b, c, d, normal }) =>
    lowRank(
      normal([a, b, c]),
      normal([5, c]),
      [{ rows: d, b: normal([d, 2]) }, { rows: 2 }, { rows: c, b: normal([c, 3]) }],
      0.5
    )
  ),
  row("lowRank, masked", ({ a, b, c, d, normal }) =>
    lowRank(
      normal([a, b, c]),
      normal([3, c]),
      [
        { rows: d, b: normal([d, 1]), mask: normal([a, b, c]) },
        { rows: 4, b: normal([4, 2]) }
      ],
      2
    )
  ),
  row("embedding", ({ a, b, c, normal, ints }) => embedding(normal([5, c]), ints([a, b], 0, 5))),
  row("rotary", ({ a, b, normal }) => {
    const tables = rotaryTables(iota([b]), rotaryFrequencies(6))
    return rotary(normal([a, b, 2, 6]), tables)
  }),
  row("rotary, positions of each row", ({ a, b, normal, ints }) => {
    const tables = rotaryTables(ints([a, b], 0, 9), rotaryFrequencies(4, 100))
    return rotary(normal([a, b, 3, 4]), tables)
  }),
  row("attention", (make) => attend(make, 2, 2)),
  row("attention, causal", (make) => attend(make, 2, 2, { causal: true })),
  row("attention, grouped heads", (make) => attend(make, 6, 2, { causal: true, scale: 0.3 })),
  row("attention, saved probabilities", (make) => attend(make, 4, 2, { causal: true, saved: "probabilities" })),
  row("attention, masked", (make) => masked(make)),
  row("attention, a mask for each query", (make) => {
    const { a, b, from } = make
    // rows of two sequences that do not see each other: two places, and the rest
    const border = (place: number) => (place < 2 ? 0 : 2)
    const mask = from(
      [a, 1, b, b],
      (i) => {
        const [query, key] = [Math.floor(i / make.size(b)) % make.size(b), i % make.size(b)]
        return border(query) <= key && key <= query ? 1 : 0
      },
      "bool"
    )
    return attend(make, 2, 1, { mask })
  }),
  row("attention, masked and causal", (make) => masked(make, { causal: true, saved: "probabilities" })),
  row("attention, output only", (make) => attend(make, 2, 1, { causal: true }).slice(0, 1)),
  row("attention, one query", ({ a, c, normal }) => {
    const { out } = attention(normal([a, 1, 2, 4]), normal([a, c, 1, 4]), normal([a, c, 1, 4]), { causal: true })
    return out
  }),
  row(
    "cachedAttention, one position",
    ({ a, normal, ints }) => {
      const cache = { k: normal([a, 2, 6, 4]), v: normal([a, 2, 6, 4]) }
      const result = cachedAttention(
        normal([a, 1, 4, 4]),
        normal([a, 1, 2, 4]),
        normal([a, 1, 2, 4]),
        cache,
        ints([a], 0, 6)
      )
      return [result.out, result.cache.k, result.cache.v]
    },
    noGradient
  ),
  row(
    "cachedAttention, several positions",
    ({ a, b, normal, ints }) => {
      const cache = { k: normal([a, 1, 8, 4]), v: normal([a, 1, 8, 4]) }
      const result = cachedAttention(
        normal([a, b, 2, 4]),
        normal([a, b, 1, 4]),
        normal([a, b, 1, 4]),
        cache,
        ints([a], 0, 4)
      )
      return [result.out, result.cache.k, result.cache.v]
    },
    noGradient
  ),
  // places beyond the axis, on either side, among them
  row("overwrite", ({ a, b, normal, ints }) => overwrite(normal([a, 2, b, 3]), normal([a, 2, 3]), ints([a], -1, 5), 2)),
  row("overwrite, last axis, wide places", ({ a, b, normal, ints }) =>
    overwrite(normal([a, b]), normal([a]), ints([a], 0, 3, "i64"), 1)
  ),
  row("crossEntropy", ({ a, normal, ints }) => crossEntropy(normal([a, 4]), ints([a], 0, 4))),
  row("linearLogprobs, one chunk", (make) => head(make, {}), loose),
  row("linearLogprobs, chunks", (make) => head(make, { chunk: 2 }), loose),
  row("linearLogprobs, without entropy", (make) => head(make, { chunk: 2 }).slice(0, 1), loose),
  row("linearLogprobs, entropy only", (make) => head(make, { chunk: 2 }).slice(1), loose),
  row("linearLogprobs, temperature", (make) => head(make, { chunk: 3, temperature: 0.7 }), loose),
  row(
    "linearLogprobs, masked",
    ({ a, b, normal, ints, from }) => {
      const logitMask = from([6], (i) => (i % 3 === 1 ? 0 : 1), "bool")
      const targets = mul(ints([a], 0, 2), 3)
      const { logprob, entropy } = linearLogprobs(normal([a, b]), normal([6, b]), targets, { chunk: 2, logitMask })
      return [logprob, entropy]
    },
    loose
  ),
  row(
    "linearLogprobs, a mask per token",
    ({ a, b, normal, ints, from }) => {
      const masks = from([2, 6], (i) => (i % 4 === 1 ? 0 : 1), "bool")
      const logitMask = { masks, index: ints([a], 0, 2) }
      const targets = mul(ints([a], 0, 3), 2)
      const { logprob, entropy } = linearLogprobs(normal([a, b]), normal([6, b]), targets, { chunk: 2, logitMask })
      return [logprob, entropy]
    },
    loose
  ),
  row(
    "linearLogprobs, frozen head",
    ({ a, b, normal, ints }) => {
      const frozen = stopGradient(constant([0.5, -1, 0.25, 1, 0.125, -0.5], "f32", [3, 2]))
      return linearLogprobs(dot(normal([a, b]), normal([b, 2])), frozen, ints([a], 0, 3), { chunk: 2 }).logprob
    },
    loose
  ),
  row("kthLargest", (make) => kthLargest(make.distinct([make.a, 9]), 4), noGradient),
  row(
    "kthLargest, among equals, of one and of all",
    ({ a, from }) => {
      const x = from([a, 8], (i) => -((i * 3) % 5))
      return [1, 3, 8].map((k) => kthLargest(x, k))
    },
    noGradient
  ),
  row("sample", (make) => sampled(make, {}), noGradient),
  row(
    "sample, temperature per row",
    (make) => sampled(make, { temperature: make.uniform([make.a], 0.5, 2) }),
    noGradient
  ),
  row("sample, top-k", (make) => sampled(make, { topK: 3, temperature: 0.8 }), noGradient),
  row("sample, top-p", (make) => sampled(make, { topP: 0.71 }), noGradient),
  row(
    "sample, min-p and a mask",
    (make) => {
      const mask = greater(make.distinct([make.a, 9]), 0)
      return sampled(make, { minP: 0.11, mask })
    },
    noGradient
  ),
  row("sample, all of it", (make) => sampled(make, { topK: 5, topP: 0.83, minP: 0.017, temperature: 0.9 }), noGradient),
  row(
    "adamw",
    ({ a, b, normal, uniform, from }) => {
      const scalar = (value: number) => from([], () => value)
      const [param, grad, m, v] = [normal([a, b]), normal([a, b]), normal([a, b]), uniform([a, b], 0.1, 1)]
      const next = adamw(
        { param, grad, m, v },
        { learningRate: scalar(0.01), correction1: scalar(0.19), correction2: scalar(0.002), weightDecay: 0.1 }
      )
      return [next.param, next.m, next.v]
    },
    noGradient
  ),
  row("rematerialise", ({ a, b, normal }) => {
    const w = normal([b, b])
    const layer = (x: Tensor) =>
      rematerialise([x], (h) => {
        const inner = saveName(tanh(dot(h!, w)), "inner")
        return [add(h!, dot(tanh(inner), mul(w, 0.5)))]
      })[0]!
    return layer(layer(normal([a, b])))
  })
]
