/**
 * Padded programs in the reference interpreter: every row of the table of operations, over a range of sizes, fed with
 * rubbish beyond the true sizes, gives what the program for the true sizes gives.
 */
import { describe, expect, test } from "vitest"
import { bucketOf } from "../../../src/device/xla/buckets.ts"
import { fasterBy } from "../../../src/device/xla/faster.ts"
import { type PadOptions, padProgram } from "../../../src/device/xla/pad/padProgram.ts"
import { overwrite } from "../../../src/tensor/composites/overwrite.ts"
import { bindDims, type Feed, interpret } from "../../../src/tensor/interpret.ts"
import { elements, stridesOf } from "../../../src/tensor/NdArray.ts"
import { loop } from "../../../src/tensor/ops/control.ts"
import { add } from "../../../src/tensor/ops/elementwise.ts"
import { reduceSum } from "../../../src/tensor/ops/reduce.ts"
import { type Program, program, programDims } from "../../../src/tensor/Program.ts"
import { reach } from "../../../src/tensor/rewrite.ts"
import { type Dtype, input } from "../../../src/tensor/Tensor.ts"
import { casePrograms, cases, relativeError } from "../../tensor/cases.ts"

const rubbish: Readonly<Partial<Record<Dtype, number>>> = {
  f32: Number.NaN,
  f64: Number.NaN,
  i32: -987654,
  i64: 1e9,
  bool: 1
}

/** Calls `visit` with the offset of each element of a shape in a larger one. */
const corner = (
  shape: ReadonlyArray<number>,
  larger: ReadonlyArray<number>,
  visit: (at: number, place: number) => void
) => {
  const [own, other] = [stridesOf(shape), stridesOf(larger)]
  for (let n = 0; n < elements(shape); n++) {
    visit(
      n,
      shape.reduce((sum, size, i) => sum + (Math.floor(n / own[i]!) % size) * other[i]!, 0)
    )
  }
}

const check = (
  what: string,
  program: Program,
  feeds: Readonly<Record<string, Feed>>,
  below: number,
  above: number,
  options: PadOptions = {}
) => {
  const sizes = bindDims(program, feeds)
  const ranges = Object.fromEntries(
    programDims(program).map((name) => [name, { low: Math.max(1, sizes[name]! - below), high: sizes[name]! + above }])
  )
  const padded = padProgram(program, ranges, options)
  const scalars = padded.scalars(sizes)
  const all: Record<string, Feed> = {}
  for (const [name, { dtype, shape }] of padded.program.inputs) {
    if (scalars[name]) {
      all[name] = { shape: [], data: scalars[name] }
      continue
    }
    const places = shape.map((dim) => dim as number)
    const data = new Float64Array(elements(places)).fill(rubbish[dtype] ?? 0)
    corner(feeds[name]!.shape, places, (at, place) => {
      data[place] = feeds[name]!.data[at]!
    })
    all[name] = { shape: places, data }
  }
  const expected = interpret(program, feeds).outputs
  const actual = interpret(padded.program, all).outputs
  for (const [name, { data, shape }] of Object.entries(expected)) {
    const found = new Float64Array(data.length)
    corner(shape, actual[name]!.shape, (at, place) => {
      found[at] = actual[name]!.data[place]!
    })
    expect(relativeError(found, data), `${what}, ${name}`).toBeLessThanOrEqual(1e-9)
  }
}

describe("padded programs give what the true sizes give", () => {
  for (const item of cases)
    test(item.name, () => {
      for (const seed of [1, 2]) {
        const { backward, backwardFeeds, feeds, forward } = casePrograms(item, seed, true)
        for (const [below, above] of [
          [1, 2],
          [0, 3]
        ] as const) {
          check(`${item.name}, seed ${seed}`, forward, feeds, below, above)
          if (backward) check(`derivative of ${item.name}, seed ${seed}`, backward, backwardFeeds, below, above)
        }
      }
    })
})

const { keep } = fasterBy({ attention: true })

describe("what is kept whole gives the same", () => {
  const kinds = /^(attention|cachedAttention|overwrite)/
  for (const item of cases.filter(({ name }) => kinds.test(name)))
    test(item.name, () => {
      for (const seed of [1, 2, 3]) {
        const { backward, backwardFeeds, feeds, forward } = casePrograms(item, seed, true)
        check(item.name, forward, feeds, 1, 2, { keep })
        if (backward) check(`derivative of ${item.name}`, backward, backwardFeeds, 1, 2, { keep })
      }
    })

  test("and really is kept: attention where it is causal, or masked; a write of one place", () => {
    const kept = cases.filter(({ name }) => {
      if (!kinds.test(name)) return false
      const { forward } = casePrograms(cases.find((item) => item.name === name)!, 1, true)
      const padded = padProgram(
        forward,
        Object.fromEntries(programDims(forward).map((name) => [name, { low: 1, high: 8 }])),
        { keep }
      )
      return padded.program.nodes.some(({ op }) => op.kind === "composite")
    })
    const causal = ["attention, causal", "attention, grouped heads", "attention, output only"]
    const masked = ["attention, masked", "attention, a mask for each query"]
    const writes = ["cachedAttention, one position", "overwrite", "overwrite, last axis, wide places"]
    expect(kept.map(({ name }) => name).toSorted()).toEqual([...causal, ...masked, ...writes].toSorted())
  })
})

test("a loop's state that keeps zeros where there is nothing is masked once, before the loop", () => {
  // sums over the padded axis need zeros there; each trip writes one place of it
  const build = (keepsZeros: boolean) => {
    const [table, rows] = [input("table", "f32", ["rows", "places", 2]), input("at", "i32", ["rows"])]
    const { carried } = loop({ trips: 3, carried: [table, reduceSum(table, 1)] }, ({ carried: [x, sums] }) => {
      const next = overwrite(x!, sums!, rows, 1)
      const own = keepsZeros ? next : add(next, 1)
      return { carried: [own, reduceSum(own, 1)] }
    })
    return program("loop", { outputs: { table: carried[0]!, sums: carried[1]! } })
  }
  const masks = (keepsZeros: boolean) => {
    const ranges = { rows: { low: 1, high: 4 }, places: { low: 1, high: 8 } }
    const padded = padProgram(build(keepsZeros), ranges, { keep }).program
    const body = padded.nodes.map(({ op }) => op).find(({ kind }) => kind === "loop")
    if (body?.kind !== "loop") throw new Error("there is no loop")
    return reach(body.body.results).filter(({ op, outputs }) => op.kind === "select" && outputs[0]!.shape.length === 3)
      .length
  }
  expect([masks(true), masks(false)]).toEqual([0, 1])
  for (const keepsZeros of [true, false]) {
    const feeds = {
      table: { shape: [3, 5, 2], data: Array.from({ length: 30 }, (_, i) => i) },
      at: { shape: [3], data: [4, 0, 7] }
    }
    check(`zeros kept: ${keepsZeros}`, build(keepsZeros), feeds, 1, 3, { keep })
  }
})

test("buckets follow one another without gaps, and fill up at most a ninth, a third in generation, and more only of few rows", () => {
  for (const [name, most] of [
    ["tokens", 1 / 9],
    ["places", 1 / 3],
    // 9 to 16
    ["rows", 7 / 16]
  ] as const) {
    let last = 0
    for (let size = 1; size <= 5000; size++) {
      const { high, low } = bucketOf(name, size)
      expect(size >= low && size <= high, `${size} in ${low}..${high}`).toBe(true)
      if (high !== last) expect(low, `the bucket after ${last}`).toBe(last + 1)
      expect((high - low) / high).toBeLessThanOrEqual(most)
      expect(bucketOf(name, high)).toEqual({ high, low })
      last = high
    }
  }
  expect(bucketOf("rows", 0)).toEqual({ low: 0, high: 0 })
})
