/** Attention against its definition, and decoding over a cache against attention over whole rows. */
import { describe, expect, test } from "vitest"
import { attention } from "../../src/tensor/composites/attention.ts"
import { cachedAttention } from "../../src/tensor/composites/cachedAttention.ts"
import type { Feed } from "../../src/tensor/interpret.ts"
import { interpret } from "../../src/tensor/interpret.ts"
import { constant } from "../../src/tensor/ops/leaf.ts"
import { program } from "../../src/tensor/Program.ts"
import type { Tensor } from "../../src/tensor/Tensor.ts"
import { input } from "../../src/tensor/Tensor.ts"
import { generator } from "./cases.ts"

import { close, literal, noise, value } from "./values.ts"

const random = generator(11)

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
    const feeds = { q: noise(random, 2, 3, 4, 2), k: noise(random, 2, 3, 2, 2), v: noise(random, 2, 3, 2, 2) }
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
  const q = noise(random, 2, total, heads, width)
  const k = noise(random, 2, total, kvHeads, width)
  const v = noise(random, 2, total, kvHeads, width)

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
