/**
 * Derivatives of loops against the same trips written one after the other, in float64, for bodies drawn at random: loops within
 * loops, both directions, rematerialised, with stacked results, values that every trip reads, and two derivatives in one program.
 */
import * as fc from "fast-check"
import { describe, expect, test } from "vitest"
import { rematerialise } from "../../src/tensor/composites/rematerialise.ts"
import { gradient } from "../../src/tensor/gradient.ts"
import { interpret } from "../../src/tensor/interpret.ts"
import { type LoopOptions, type LoopState, type LoopStep, loop } from "../../src/tensor/ops/control.ts"
import { dot } from "../../src/tensor/ops/dot.ts"
import { add, cast, greater, mul, select, sin, sub, tanh } from "../../src/tensor/ops/elementwise.ts"
import { constant } from "../../src/tensor/ops/leaf.ts"
import { reduceSum } from "../../src/tensor/ops/reduce.ts"
import { concat, expandDims, reshape, slice, transpose } from "../../src/tensor/ops/shape.ts"
import { program } from "../../src/tensor/Program.ts"
import { input, type Tensor } from "../../src/tensor/Tensor.ts"

const SIZE = 3
type Looping = (options: LoopOptions & { readonly trips: number }, step: (state: LoopState) => LoopStep) => Tensor[][]

const looped: Looping = (options, step) => {
  const { carried, stacked } = loop(options, step)
  return [[...carried], [...stacked]]
}

/** What a loop is by definition. */
const unrolled: Looping = ({ carried = [], reverse = false, scanned = [], trips }, step) => {
  let state: readonly Tensor[] = carried
  const stacks: Tensor[][] = []
  for (let i = 0; i < trips; i++) {
    const at = reverse ? trips - 1 - i : i
    const pieces = scanned.map((x) => reshape(slice(x, 0, at, at + 1), x.shape.slice(1)))
    const next = step({ index: constant(at, "i32"), carried: state, scanned: pieces })
    state = next.carried ?? []
    next.stacked?.forEach((x, n) => {
      const stack = (stacks[n] ??= [])
      stack[at] = expandDims(x, 0)
    })
  }
  return [[...state], stacks.map((pieces) => concat(pieces, 0))]
}

/** One value more of a body: an operation on two of those that are there, by their numbers. */
type Grown = readonly [operation: number, left: number, right: number]
interface Drawn {
  readonly trips: number
  readonly reverse: boolean
  readonly grown: ReadonlyArray<Grown>
  readonly ends: readonly [number, number, number]
  readonly again: boolean
}

const operations: ReadonlyArray<
  (a: Tensor, b: Tensor, index: Tensor, inner: (a: Tensor, b: Tensor) => Tensor) => Tensor
> = [
  (a, b) => mul(tanh(a), b),
  (a, b) => sub(sin(a), mul(b, 0.5)),
  (a, b) => tanh(dot(a, transpose(b, [1, 0]))),
  (a, b, index) => select(greater(index, 0), a, b),
  (a, b) => add(slice(concat([a, b], 0), 0, 1, 1 + SIZE), a),
  (a, _, index) => mul(a, add(cast(index, "f32"), 1)),
  (a, b, _, inner) => inner(a, b)
]

const build = (looping: Looping, drawn: Drawn, inside: Drawn) => {
  const matrix = (name: string) => input(name, "f32", [SIZE, SIZE])
  const [x, y, shared] = [matrix("x"), matrix("y"), matrix("shared")]
  const pieces = (name: string, { trips }: Drawn) => input(name, "f32", [trips, SIZE, SIZE])
  const [w, v] = [pieces("w", drawn), pieces("v", inside)]
  const bodyOf = (
    { ends, grown }: Drawn,
    own: readonly Tensor[],
    index: Tensor,
    inner: (a: Tensor, b: Tensor) => Tensor
  ) => {
    const values = [...own]
    const at = (i: number) => values[i % values.length]!
    for (const [operation, left, right] of grown)
      values.push(operations[operation % operations.length]!(at(left), at(right), index, inner))
    // of the newest values too
    return ends.map((end) => values[values.length - 1 - (end % values.length)]!)
  }
  const run = (own: Drawn, scanned: Tensor, first: Tensor, second: Tensor, inner: (a: Tensor, b: Tensor) => Tensor) =>
    looping(
      { trips: own.trips, reverse: own.reverse, carried: [first, second], scanned: [scanned] },
      ({ carried, index, scanned: [piece] }) => {
        const layer = (...state: readonly Tensor[]) => bodyOf(own, [...state, piece!, shared], index, inner)
        const [a, b, c] = own.again ? rematerialise(carried, layer) : layer(...carried)
        return { carried: [tanh(a!), tanh(b!)], stacked: [c!] }
      }
    )
  const nested = (a: Tensor, b: Tensor) => run(inside, v, a, b, (c) => c)[0]![0]!
  const [carried, stacked] = run(drawn, w, x, y, nested)
  const loss = reduceSum(add(mul(carried![0]!, carried![1]!), reduceSum(tanh(stacked![0]!), [0])))
  const all = [x, y, shared, w, v]
  // by all at once, and by two of them in derivatives of their own
  const by = [...gradient(loss, all), ...gradient(loss, [w]), ...gradient(loss, [shared])]
  return program("p", { inputs: all, outputs: { loss, ...Object.fromEntries(by.map((d, i) => [`d${i}`, d])) } })
}

const number = fc.nat({ max: 11 })
const body: fc.Arbitrary<Drawn> = fc.record({
  trips: fc.integer({ min: 1, max: 4 }),
  reverse: fc.boolean(),
  grown: fc.array(fc.tuple(fc.nat({ max: operations.length - 1 }), number, number), { minLength: 1, maxLength: 5 }),
  ends: fc.tuple(number, number, number),
  again: fc.boolean()
})

describe("derivatives of loops", () => {
  test("are those of the trips one after the other", () => {
    fc.assert(
      fc.property(body, body, (drawn, inside) => {
        const programs = [looped, unrolled].map((looping) => build(looping, drawn, inside))
        const feeds = Object.fromEntries(
          [...programs[0]!.inputs].map(([name, { shape }], n) => {
            const sizes = shape.map(Number)
            const length = sizes.reduce((a, b) => a * b, 1)
            return [name, { shape: sizes, data: Float64Array.from({ length }, (_, i) => Math.sin(1 + n + 1.7 * i)) }]
          })
        )
        const [found, wanted] = programs.map((one) => interpret(one, feeds).outputs)
        for (const [name, { data }] of Object.entries(wanted!)) {
          const most = Math.max(1, ...data.map(Math.abs))
          data.forEach((value, i) => {
            expect(Math.abs(found![name]!.data[i]! - value), name).toBeLessThanOrEqual(1e-10 * most)
          })
        }
      }),
      { numRuns: 200, seed: 7 }
    )
  })
})
