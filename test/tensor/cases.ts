/**
 * One table of operations for every backend: how to build each, with inputs from its domain. `checkBackend` runs the
 * table: forward against the float64 interpreter, derivatives against central differences (through the interpreter's
 * value of the derivative), with named and with fixed dimensions, over several random shapes.
 */
import { describe, expect, test } from "vitest"
import type { DimLike, ShapeLike } from "../../src/tensor/Dim.ts"
import { evaluateDim, toShape } from "../../src/tensor/Dim.ts"
import { pullback } from "../../src/tensor/gradient.ts"
import type { Feed } from "../../src/tensor/interpret.ts"
import { interpret } from "../../src/tensor/interpret.ts"
import { elements } from "../../src/tensor/NdArray.ts"
import type { Program } from "../../src/tensor/Program.ts"
import { program } from "../../src/tensor/Program.ts"
import type { Dtype, Tensor } from "../../src/tensor/Tensor.ts"
import { input, isFloat } from "../../src/tensor/Tensor.ts"
import { compositeCases } from "./compositeCases.ts"
import { primitiveCases } from "./primitiveCases.ts"

/** Makes inputs with random values; dimensions `a`..`d` have random sizes, named or fixed. */
export interface Maker {
  readonly a: DimLike
  readonly b: DimLike
  readonly c: DimLike
  readonly d: DimLike
  /** The size behind a dimension. */
  size(dim: DimLike): number
  /** An input with values from a function of the element's position. */
  from(shape: ShapeLike, value: (position: number, count: number) => number, dtype?: Dtype): Tensor
  /** About N(0, 1). */
  normal(shape: ShapeLike): Tensor
  /** In [low, high]. */
  uniform(shape: ShapeLike, low: number, high: number): Tensor
  /** All different, at least 0.1 apart. */
  distinct(shape: ShapeLike): Tensor
  /** Integers in [low, high). */
  ints(shape: ShapeLike, low: number, high: number, dtype?: Dtype): Tensor
  bools(shape: ShapeLike): Tensor
}

export interface Case {
  readonly name: string
  readonly build: (make: Maker) => readonly Tensor[]
  /** Whether derivatives are checked (default true). */
  readonly gradient?: boolean
  /** Relative to the largest value of each result in float32 (default 1e-5). */
  readonly tolerance?: number
}

export const cases: readonly Case[] = [...primitiveCases, ...compositeCases]

/** A small generator (mulberry32): uniform numbers in [0, 1). */
export const generator = (seed: number): (() => number) => {
  let state = seed | 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

export interface Built {
  readonly inputs: readonly Tensor[]
  readonly feeds: Readonly<Record<string, Feed>>
  readonly outputs: readonly Tensor[]
  readonly make: Maker
}

/** A case with random sizes and values. */
export const buildCase = ({ build }: Case, seed: number, named: boolean): Built => {
  const random = generator(seed * 7919 + 17)
  const pick = () => 2 + Math.floor(random() * 4)
  const sizes: Record<string, number> = { a: pick(), b: pick(), c: pick(), d: pick() }
  const dim = (name: string): DimLike => (named ? name : sizes[name]!)
  const inputs: Tensor[] = []
  const feeds: Record<string, Feed> = {}
  const from: Maker["from"] = (shape, value, dtype = "f32") => {
    const name = `x${inputs.length}`
    const x = input(name, dtype, shape)
    const numbers = toShape(shape).map((size) => evaluateDim(size, sizes))
    const count = elements(numbers)
    // values that float32 has, so that every backend reads the same numbers
    feeds[name] = { shape: numbers, data: Float64Array.from({ length: count }, (_, i) => Math.fround(value(i, count))) }
    inputs.push(x)
    return x
  }
  const normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random())
  const make: Maker = {
    a: dim("a"),
    b: dim("b"),
    c: dim("c"),
    d: dim("d"),
    size: (x) => evaluateDim(toShape([x])[0]!, sizes),
    from,
    normal: (shape) => from(shape, normal),
    uniform: (shape, low, high) => from(shape, () => low + (high - low) * random()),
    distinct: (shape) => {
      let order: number[] = []
      return from(shape, (i, count) => {
        if (i === 0) order = Array.from({ length: count }, (_, n) => n).sort(() => random() - 0.5)
        return order[i]! * 0.2 + 0.1 * random() - count * 0.1
      })
    },
    ints: (shape, low, high, dtype = "i32") => from(shape, () => low + Math.floor((high - low) * random()), dtype),
    bools: (shape) => from(shape, () => (random() < 0.5 ? 1 : 0), "bool")
  }
  return { outputs: build(make), inputs, feeds, make }
}

/** The forward program of a case, and the program of the derivatives of its weighted outputs by its float inputs. */
export const casePrograms = (item: Case, seed: number, named: boolean) => {
  const { inputs, feeds, outputs } = buildCase(item, seed, named)
  const forward = program(item.name, {
    inputs,
    outputs: Object.fromEntries(outputs.map((x, i) => [`y${i}`, x]))
  })
  if (item.gradient === false) return { forward, feeds }
  const values = interpret(forward, feeds).outputs
  const random = generator(seed + 99)
  const all: Record<string, Feed> = { ...feeds }
  const weights = outputs.map((x, i) => {
    if (!isFloat(x.dtype)) return undefined
    const { shape } = values[`y${i}`]!
    all[`w${i}`] = { shape, data: Float64Array.from({ length: elements(shape) }, () => Math.fround(random() - 0.5)) }
    return input(`w${i}`, x.dtype, x.shape)
  })
  const floats = inputs.filter((x) => isFloat(x.dtype))
  const derivatives = pullback(outputs, weights, floats)
  const named_ = derivatives.flatMap((dx, i) => {
    const { op } = floats[i]!.node
    return dx === undefined || op.kind !== "input" ? [] : [[op.name, dx] as const]
  })
  const backward = program(`${item.name}.gradient`, {
    inputs: [...inputs, ...weights.filter((x) => x !== undefined)],
    outputs: Object.fromEntries(named_)
  })
  return { forward, feeds, backward, backwardFeeds: all }
}

/** The largest difference, relative to the largest reference value (or 1e-3, if all are smaller). */
export const relativeError = (actual: ArrayLike<number>, expected: ArrayLike<number>): number => {
  const scale = Array.from(expected).reduce((most, v) => Math.max(most, Math.abs(v)), 1e-3)
  return Array.from(expected).reduce((most, v, i) => {
    const error = Object.is(v, actual[i]) || v === actual[i] ? 0 : Math.abs(v - actual[i]!) / scale
    return Number.isNaN(error) ? Number.POSITIVE_INFINITY : Math.max(most, error)
  }, 0)
}

export type Run = (
  program: Program,
  feeds: Readonly<Record<string, Feed>>
) =>
  | Readonly<Record<string, { readonly shape: readonly number[]; readonly data: ArrayLike<number> }>>
  | Promise<Readonly<Record<string, { readonly shape: readonly number[]; readonly data: ArrayLike<number> }>>>

const compare = (
  actual: Awaited<ReturnType<Run>>,
  expected: Awaited<ReturnType<Run>>,
  tolerance: number,
  what: string
) => {
  expect(Object.keys(actual).sort(), what).toEqual(Object.keys(expected).sort())
  for (const [name, { shape, data }] of Object.entries(expected)) {
    expect(actual[name]!.shape, `${what}, shape of ${name}`).toEqual(shape)
    expect(relativeError(actual[name]!.data, data), `${what}, ${name}`).toBeLessThanOrEqual(tolerance)
  }
}

/**
 * Registers a test per row of the table: a backend's forward and derivative programs against the interpreter.
 * `named: false` for backends that need fixed shapes; `skip` says why a row cannot run.
 */
export const checkBackend = (
  backend: string,
  run: Run,
  {
    seeds = [1, 2, 3],
    named = true,
    skip = () => undefined
  }: {
    readonly seeds?: readonly number[]
    readonly named?: boolean
    readonly skip?: (item: Case) => string | undefined
  } = {}
): void => {
  describe(`the table of operations on ${backend}`, () => {
    for (const item of cases) {
      test.skipIf(skip(item) !== undefined)(item.name, async () => {
        for (const seed of seeds) {
          const parts = casePrograms(item, seed, named && seed % 2 === 1)
          const tolerance = item.tolerance ?? 1e-5
          const expected = interpret(parts.forward, parts.feeds).outputs
          compare(await run(parts.forward, parts.feeds), expected, tolerance, `${item.name}, seed ${seed}`)
          if (parts.backward === undefined) continue
          const derivatives = interpret(parts.backward, parts.backwardFeeds).outputs
          const actual = await run(parts.backward, parts.backwardFeeds)
          compare(actual, derivatives, tolerance, `derivative of ${item.name}, seed ${seed}`)
        }
      })
    }
  })
}
