/**
 * Padded programs in the reference interpreter: every row of the table of operations, over a range of sizes, fed with
 * rubbish beyond the true sizes, gives what the program for the true sizes gives.
 */
import { describe, expect, test } from "vitest"
import { bucketOf } from "../../../src/device/xla/buckets.ts"
import { type PadOptions, padProgram } from "../../../src/device/xla/pad/padProgram.ts"
import { bindDims, type Feed, interpret } from "../../../src/tensor/interpret.ts"
import { elements, stridesOf } from "../../../src/tensor/NdArray.ts"
import { type Program, programDims } from "../../../src/tensor/Program.ts"
import type { Dtype } from "../../../src/tensor/Tensor.ts"
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

describe("attention that is kept whole gives the same", () => {
  for (const item of cases.filter(({ name }) => name.startsWith("attention")))
    test(item.name, () => {
      for (const seed of [1, 2, 3]) {
        const { backward, backwardFeeds, feeds, forward } = casePrograms(item, seed, true)
        check(item.name, forward, feeds, 1, 2, { attention: true })
        if (backward) check(`derivative of ${item.name}`, backward, backwardFeeds, 1, 2, { attention: true })
      }
    })

  test("and really is kept where it is causal, or masked", () => {
    const kept = cases.filter(({ name }) => {
      if (!name.startsWith("attention")) return false
      const { forward } = casePrograms(cases.find((item) => item.name === name)!, 1, true)
      const padded = padProgram(
        forward,
        Object.fromEntries(programDims(forward).map((name) => [name, { low: 1, high: 8 }])),
        { attention: true }
      )
      return padded.program.nodes.some(({ op }) => op.kind === "composite")
    })
    const causal = ["attention, causal", "attention, grouped heads", "attention, output only"]
    expect(kept.map(({ name }) => name).toSorted()).toEqual([...causal, "attention, masked"].toSorted())
  })
})

test("buckets follow one another without gaps, and fill up at most a ninth, or a third where rows come and go", () => {
  for (const [name, most] of [
    ["tokens", 1 / 9],
    ["rows", 1 / 3]
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
