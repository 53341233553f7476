import { describe, expect, it } from "vitest"
import * as random from "../../src/device/random.ts"

const hex = (words: Uint32Array) => Array.from(words, (w) => w.toString(16).padStart(8, "0")).join(" ")

describe("philox4x32-10", () => {
  // Random123's kat_vectors, lines `philox4x32 10`.
  it.each([
    [[0, 0, 0, 0], [0, 0], "6627e8d5 e169c58d bc57ac4c 9b00dbd8"],
    [[0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff], [0xffffffff, 0xffffffff], "408f276d 41c83b0e a20bc7c6 6d5451fd"],
    [[0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0], "d16cfe09 94fdcceb 5001e420 24126ea1"]
  ])("counter %j key %j", (counter, key, expected) => {
    expect(hex(random.philox(counter, key, new Uint32Array(4)))).toBe(expected)
  })
})

describe("streams", () => {
  const s = random.stream(1, "grpo", "sample", "p7", 3)

  it("are functions of their name: another seed, order, type or part is another stream", () => {
    const names = [
      random.stream(1, "grpo", "sample", "p7", 3),
      random.stream(2, "grpo", "sample", "p7", 3),
      random.stream(1, "sample", "grpo", "p7", 3),
      random.stream(1, "grpo", "sample", "p7", "3"),
      random.stream(1, "grpo", "sample", "p7"),
      random.stream(1, "grpo", "samplep7", 3)
    ]
    expect(new Set(names.map((x) => random.uniformAt(x, 0))).size).toBe(names.length)
    expect(random.stream(1, "grpo", "sample", "p7", 3)).toEqual(s)
  })

  it("do not depend on batch layout: any window of draws is the draws one by one", () => {
    const all = random.uniforms(s, 101)
    expect(Array.from(random.uniforms(s, 10, 37))).toEqual(Array.from(all.subarray(37, 47)))
    for (const i of [0, 1, 5, 64, 100]) expect(random.uniformAt(s, i)).toBe(all[i])
  })

  it("reach counters beyond 2^32 blocks", () => {
    const far = 4 * 2 ** 32 + 1
    expect(random.uniformAt(s, far)).not.toBe(random.uniformAt(s, 1))
    expect(random.uniformAt(s, far)).toBe(random.uniformAt(s, far))
  })

  it("give uniforms that float32 holds exactly, below 1, with the right moments", () => {
    const n = 200_000
    const u = random.uniforms(s, n)
    let sum = 0
    let squares = 0
    let lagged = 0
    for (let i = 0; i < n; i++) {
      if (!(u[i]! * 2 ** 24 === Math.floor(u[i]! * 2 ** 24) && u[i]! < 1 && u[i]! >= 0))
        expect.fail(`draw ${i}: ${u[i]}`)
      sum += u[i]!
      squares += u[i]! ** 2
      if (i > 0) lagged += (u[i]! - 0.5) * (u[i - 1]! - 0.5)
    }
    // Standard errors: mean 0.29 / sqrt(n) = 6.5e-4; second moment 6.7e-4; lagged product (1/12) / sqrt(n) = 1.9e-4.
    expect(Math.abs(sum / n - 1 / 2)).toBeLessThan(4 * 6.5e-4)
    expect(Math.abs(squares / n - 1 / 3)).toBeLessThan(4 * 6.7e-4)
    expect(Math.abs(lagged / n)).toBeLessThan(4 * 1.9e-4)
  })

  it("give normals with mean 0, variance 1 and kurtosis 3", () => {
    const n = 100_001
    const z = random.normals(s, n)
    const moment = (k: number) => z.reduce((sum, x) => sum + x ** k, 0) / n
    expect(z.every(Number.isFinite)).toBe(true)
    expect(Math.abs(moment(1))).toBeLessThan(4 / Math.sqrt(n))
    expect(Math.abs(moment(2) - 1)).toBeLessThan(4 * Math.sqrt(2 / n))
    expect(Math.abs(moment(4) - 3)).toBeLessThan(4 * Math.sqrt(96 / n))
  })

  it("give integers in range, each about equally often", () => {
    const counts = new Array<number>(7).fill(0)
    for (const x of random.integers(s, 70_000, 10, 17)) counts[x - 10]!++
    for (const c of counts) expect(Math.abs(c - 10_000)).toBeLessThan(4 * Math.sqrt(10_000))
    expect(() => random.integerAt(s, 0, 0)).toThrow(RangeError)
  })

  it("permute: every element once, every order of three about equally often", () => {
    expect([...random.permutation(s, 50)].sort((a, b) => a - b)).toEqual(Array.from({ length: 50 }, (_, i) => i))
    expect(random.permutation(s, 0)).toHaveLength(0)
    const orders = new Map<string, number>()
    for (let i = 0; i < 6_000; i++) {
      const order = random.permutation(random.stream(i, "order"), 3).join()
      orders.set(order, (orders.get(order) ?? 0) + 1)
    }
    expect(orders.size).toBe(6)
    for (const count of orders.values()) expect(Math.abs(count - 1_000)).toBeLessThan(4 * Math.sqrt(1_000))
  })

  it("choose by weight, never an item of weight 0", () => {
    const counts = { a: 0, b: 0, c: 0 }
    for (let i = 0; i < 40_000; i++) counts[random.choice(s, i, ["a", "b", "c"] as const, [1, 0, 3])]++
    expect(counts.b).toBe(0)
    expect(Math.abs(counts.a - 10_000)).toBeLessThan(4 * Math.sqrt(7_500))
    expect(() => random.choice(s, 0, [])).toThrow(RangeError)
    expect(() => random.choice(s, 0, ["a"], [0])).toThrow(RangeError)
    expect(new Set(random.sampleWithout(s, ["a", "b", "c", "d"], 3)).size).toBe(3)
    expect(() => random.sampleWithout(s, ["a"], 2)).toThrow(RangeError)
  })

  it("refuse a name that is not finite", () => {
    expect(() => random.stream(Number.NaN, "x")).toThrow(RangeError)
  })
})
