/** The rows of the table for primitives. */
import { addDims, multiplyDims, toShape } from "../../src/tensor/Dim.ts"
import { barrier, loop, saveName, shard, stopGradient } from "../../src/tensor/ops/control.ts"
import { dot } from "../../src/tensor/ops/dot.ts"
import * as e from "../../src/tensor/ops/elementwise.ts"
import { gather, putAlong, segmentSum, takeAlong } from "../../src/tensor/ops/indexing.ts"
import { constant, fill, iota, size } from "../../src/tensor/ops/leaf.ts"
import * as r from "../../src/tensor/ops/reduce.ts"
import * as s from "../../src/tensor/ops/shape.ts"
import type { Tensor, Unary } from "../../src/tensor/Tensor.ts"
import type { Case, Maker } from "./cases.ts"

type Build = (make: Maker) => Tensor | readonly Tensor[]

const row = (name: string, build: Build, options: Omit<Case, "name" | "build"> = {}): Case => ({
  name,
  build: (make) => [build(make)].flat(),
  ...options
})

const discrete = { gradient: false }

/** Where a unary function is smooth. */
const smooth: Readonly<Record<Exclude<Unary, "not">, readonly [fn: (x: Tensor) => Tensor, low: number, high: number]>> =
  {
    neg: [e.neg, -2, 2],
    abs: [e.abs, 0.2, 2],
    sign: [e.sign, 0.2, 2],
    exp: [e.exp, -2, 2],
    expm1: [e.expm1, -0.5, 2],
    log: [e.log, 0.2, 3],
    log1p: [e.log1p, -0.5, 2],
    sqrt: [e.sqrt, 0.2, 3],
    rsqrt: [e.rsqrt, 0.2, 3],
    reciprocal: [e.reciprocal, 0.3, 3],
    sin: [e.sin, -3, 3],
    cos: [e.cos, -3, 3],
    tanh: [e.tanh, -3, 3],
    sigmoid: [e.sigmoid, -5, 5],
    erf: [e.erf, -2.5, 2.5],
    floor: [e.floor, 0.1, 0.9],
    ceil: [e.ceil, 0.1, 0.9],
    round: [e.round, 0.6, 1.4],
    isFinite: [e.isFinite, -1, 1],
    isNan: [e.isNan, -1, 1]
  }

const unaryRows: readonly Case[] = [
  ...Object.entries(smooth).map(([name, [fn, low, high]]) =>
    row(name, ({ a, b, uniform }) => fn(uniform([a, b], low, high)))
  ),
  row("abs and sign of negatives", ({ a, uniform }) => {
    const x = uniform([a], -2, -0.2)
    return [e.abs(x), e.sign(x)]
  }),
  row("not", ({ a, b, bools }) => e.not(bools([a, b])), discrete),
  row(
    "floor, ceil, round at halves and below zero",
    ({ from }) => {
      const x = from([8], (i) => [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, -0.2, 3][i]!)
      return [e.floor(x), e.ceil(x), e.round(x)]
    },
    discrete
  ),
  row(
    "isFinite and isNan of what is not",
    ({ from }) => {
      const x = from([4], (i) => [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 1][i]!)
      return [e.isFinite(x), e.isNan(x)]
    },
    discrete
  ),
  row(
    "neg, abs, sign of integers",
    ({ a, ints }) => {
      const x = ints([a], -5, 5)
      return [e.neg(x), e.abs(x), e.sign(x)]
    },
    discrete
  )
]

const binaryRows: readonly Case[] = [
  ...Object.entries({ add: e.add, sub: e.sub, mul: e.mul }).map(([name, fn]) =>
    row(`${name}, broadcast`, ({ a, b, c, normal }) => fn(normal([a, b, c]), normal([b, 1])))
  ),
  row("add, of one tensor with itself", ({ a, normal }) => {
    const x = normal([a])
    return e.add(e.mul(x, x), x)
  }),
  row("add, with numbers", ({ a, normal }) => e.sub(1, e.add(normal([a]), 2.5))),
  row("div", ({ a, b, normal, uniform }) => e.div(normal([a, b]), uniform([b], 0.5, 2))),
  row("pow", ({ a, b, uniform }) => e.pow(uniform([a, b], 0.3, 2), uniform([a, 1], -2, 2))),
  row("max and min", ({ a, b, distinct, normal }) => {
    const x = distinct([a, b])
    const y = e.add(x, e.mul(e.sign(normal([a, b])), 0.05))
    return [e.max(x, y), e.min(x, y)]
  }),
  row("rem", ({ from }) =>
    e.rem(
      from([4], (i) => [5.3, -5.3, 1.1, -7.7][i]!),
      from([4], (i) => [2, 2, -3, -2.5][i]!)
    )
  ),
  row(
    "integer arithmetic",
    ({ from }) => {
      const x = from([6], (i) => [7, -7, 7, -7, 3, 0][i]!, "i32")
      const y = from([6], (i) => [2, 2, -2, -2, 5, 4][i]!, "i32")
      return [e.add(x, y), e.sub(x, y), e.mul(x, y), e.div(x, y), e.rem(x, y), e.max(x, y), e.min(x, y)]
    },
    discrete
  ),
  row(
    "integer arithmetic, i64",
    ({ a, ints }) => {
      const [x, y] = [ints([a], -50, 50, "i64"), ints([a], 1, 9, "i64")]
      return [e.add(x, y), e.mul(x, y), e.div(x, y), e.rem(x, y)]
    },
    discrete
  ),
  ...Object.entries({ and: e.and, or: e.or, xor: e.xor }).map(([name, fn]) =>
    row(name, ({ a, b, bools }) => fn(bools([a, b]), bools([b])), discrete)
  ),
  ...Object.entries({
    equal: e.equal,
    notEqual: e.notEqual,
    less: e.less,
    lessEqual: e.lessEqual,
    greater: e.greater,
    greaterEqual: e.greaterEqual
  }).flatMap(([name, fn]) => [
    row(`${name}, of integers`, ({ a, b, ints }) => fn(ints([a, b], 0, 3), ints([b], 0, 3)), discrete),
    row(`${name}, of floats`, ({ a, normal }) => fn(normal([a]), normal([a])), discrete)
  ]),
  row("equal, of booleans", ({ a, bools }) => e.equal(bools([a]), bools([a])), discrete),
  row("select", ({ a, b, bools, normal }) => e.select(bools([a, b]), normal([b]), normal([a, 1]))),
  row("clamp", ({ distinct, a }) => e.clamp(distinct([a]), -0.25, 0.25)),
  row("square", ({ a, normal }) => e.square(normal([a]))),
  row("cast of integers to floats", ({ a, ints, normal }) =>
    e.mul(e.cast(ints([a], -9, 9, "i64"), "f32"), normal([a]))
  ),
  row(
    "cast of floats",
    ({ from }) => {
      const x = from([6], (i) => [-1.7, -0.2, 0, 0.9, 2.5, 7][i]!)
      return [e.cast(x, "i32"), e.cast(x, "i64"), e.cast(x, "bool")]
    },
    discrete
  ),
  row(
    "cast of booleans",
    ({ a, bools }) => {
      const x = bools([a])
      return [e.cast(x, "f32"), e.cast(x, "i32")]
    },
    discrete
  ),
  row("cast to f64 and back", ({ a, normal }) => e.cast(e.exp(e.cast(normal([a]), "f64")), "f32"))
]

const leafRows: readonly Case[] = [
  row("constant", ({ normal }) => e.mul(constant([1, 2, 3, 4, 5, 6], "f32", [2, 3]), normal([2, 3]))),
  row("fill", ({ a, b, normal }) => e.mul(fill(2.5, [a, b]), normal([a, b]))),
  row(
    "iota",
    ({ a, b, ints }) => {
      const x = ints([a, b], 0, 9)
      return [e.add(x, iota([a, b], 1)), iota([a, b], 0, "i64"), iota([b], 0, "f32")]
    },
    discrete
  ),
  row("size", ({ a, b, normal }) => {
    const x = normal([a, b])
    return [e.mul(x, size(multiplyDims(a, addDims(b, 1)), "f32")), size(b)]
  })
]

const shapeRows: readonly Case[] = [
  row("reshape", ({ a, b, c, normal }) => s.reshape(normal([a, b, c]), [multiplyDims(a, b), c])),
  row("reshape, apart", ({ a, b, normal }) => s.reshape(normal([a, 6, b]), [a, 2, 3, -1])),
  row("transpose", ({ a, b, c, normal }) => s.transpose(normal([a, b, c]), [2, 0, 1])),
  row("swapAxes", ({ a, b, c, normal }) => s.swapAxes(normal([a, b, c]), -1, -2)),
  row("broadcast", ({ a, b, c, normal }) => e.mul(s.broadcast(normal([b, 1]), [a, b, c]), normal([a, 1, c]))),
  row("slice", ({ a, normal }) => s.slice(normal([a, 7]), 1, 2, 6)),
  row("slice, strided", ({ a, normal }) => [s.slice(normal([a, 7]), 1, 1, 6, 2), s.slice(normal([9, a]), 0, 0, 9, 3)]),
  row("slice, to a named limit", ({ a, b, normal }) => [
    s.slice(normal([addDims(a, b), 3]), 0, b, addDims(a, b)),
    normal([a]),
    normal([b])
  ]),
  row("split", ({ a, normal }) => s.split(normal([a, 5]), -1, [2, 3])),
  row("pad", ({ a, b, normal }) => s.pad(normal([a, b]), 1, 2, 1, 0.5)),
  row("pad, by named amounts", ({ a, b, normal }) => s.pad(normal([a, b]), 0, b, a)),
  row("concat", ({ a, b, c, normal }) => {
    const x = normal([a, b])
    return s.concat([x, normal([a, c]), x], 1)
  })
]

const indexRows: readonly Case[] = [
  row("gather, rows", ({ a, b, normal, ints }) => gather(normal([5, a]), ints([b, 2], 0, 5))),
  row("gather, along another axis", ({ a, b, c, normal, ints }) =>
    gather(normal([a, 4, b]), ints([c], 0, 4, "i64"), 1)
  ),
  row("gather, one", ({ a, normal, ints }) => gather(normal([4, a]), ints([], 0, 4))),
  row("takeAlong", ({ a, b, normal, ints }) => takeAlong(normal([a, 4]), ints([a, b], 0, 4), 1)),
  row("takeAlong, first axis", ({ a, b, normal, ints }) => takeAlong(normal([4, b]), ints([a, b], 0, 4, "i64"), 0)),
  row("putAlong", ({ a, b, normal, ints }) => putAlong(normal([a, b]), ints([a, b], 0, 3), 1, 3)),
  row("segmentSum", ({ a, b, normal, ints }) => segmentSum(normal([a, b]), ints([a], 0, 3), 3)),
  row("segmentSum, named segments", ({ a, b, normal, ints }) =>
    e.mul(segmentSum(normal([7, b]), ints([7], 0, 2), a), normal([a, 1]))
  ),
  row("segmentSum, many repeats", ({ normal, ints }) => segmentSum(normal([2048, 3]), ints([2048], 0, 8), 8), {
    gradient: false
  })
]

const transposed = (make: Maker, transposeLeft: boolean, transposeRight: boolean, shared: boolean) => {
  const { a, b, c, d, normal } = make
  const left = normal(transposeLeft ? [a, c, b] : [a, b, c])
  const matrix = transposeRight ? [d, c] : [c, d]
  return dot(left, normal(shared ? matrix : [a, ...matrix]), { transposeLeft, transposeRight })
}

const dotRows: readonly Case[] = [
  ...[false, true].flatMap((left) =>
    [false, true].flatMap((right) =>
      [false, true].map((shared) =>
        row(
          `dot${left ? ", left transposed" : ""}${right ? ", right transposed" : ""}${shared ? ", one matrix" : ""}`,
          (make) => transposed(make, left, right, shared)
        )
      )
    )
  ),
  row("dot, two matrices", ({ a, b, c, normal }) => dot(normal([a, b]), normal([b, c]))),
  row("dot, four axes", ({ a, b, c, d, normal }) => dot(normal([a, b, 3, c]), normal([a, b, c, d]))),
  row("dot, of 8-bit integers", ({ ints }) => dot(ints([3, 4], 0, 255, "u8"), ints([4, 5], -127, 127, "i8")), discrete)
]

const reduceRows: readonly Case[] = [
  row("reduceSum", ({ a, b, c, normal }) => {
    const x = normal([a, b, c])
    return [r.reduceSum(x), r.reduceSum(x, [0, 2]), r.reduceSum(x, 1, { keepDims: true })]
  }),
  row("reduceMax", ({ a, b, c, distinct }) => {
    const x = distinct([a, b, c])
    return [r.reduceMax(x, -1), r.reduceMax(x, [0, 1], { keepDims: true })]
  }),
  row("reduceMin", ({ a, b, distinct }) => r.reduceMin(distinct([a, b]), 0)),
  row("reduceMean", ({ a, b, normal }) => {
    const x = normal([a, b, 3])
    return [r.reduceMean(x, -1), r.reduceMean(x, [0, 1])]
  }),
  row("sumTo", ({ a, b, c, normal }) => [
    r.sumTo(normal([a, b, c]), [1, 1]),
    r.sumTo(normal([a, b, c]), toShape([b, 1]))
  ]),
  row("reduceSum of integers", ({ a, b, ints }) => r.reduceSum(ints([a, b], -5, 5), 1), discrete),
  row(
    "argMax",
    ({ a, b, c, distinct }) => {
      const x = distinct([a, b, c])
      return [r.argMax(x, -1), r.argMax(x, 0)]
    },
    discrete
  ),
  row(
    "argMax, ties",
    ({ from }) =>
      r.argMax(
        from([2, 4], (i) => [1, 3, 3, 0, 5, 5, 2, 5][i]!),
        1
      ),
    discrete
  ),
  ...[false, true].flatMap((exclusive) =>
    [false, true].map((reverse) =>
      row(`cumulativeSum${exclusive ? ", exclusive" : ""}${reverse ? ", reverse" : ""}`, ({ a, b, c, normal }) =>
        r.cumulativeSum(normal([a, b, c]), 1, { exclusive, reverse })
      )
    )
  ),
  row("topK", ({ a, distinct }) => {
    const { values, indices } = r.topK(distinct([a, 6]), 3)
    return [values, indices]
  })
]

const controlRows: readonly Case[] = [
  row("loop, carried and stacked", ({ a, b, normal }) => {
    const { carried, stacked } = loop(
      { trips: a, carried: [normal([b])], scanned: [normal([a, b])] },
      ({ carried: [h], scanned: [x] }) => {
        const next = e.tanh(e.add(e.mul(h!, 0.5), x!))
        return { carried: [next], stacked: [e.mul(next, x!)] }
      }
    )
    return [...carried, ...stacked]
  }),
  row("loop, in reverse, with outer tensors", ({ a, b, normal }) => {
    const w = normal([b, b])
    const u = e.exp(e.mul(w, 0.1))
    const { carried, stacked } = loop(
      { trips: a, carried: [normal([2, b])], scanned: [normal([a, 2, b])], reverse: true },
      ({ index, carried: [h], scanned: [x] }) => {
        const next = e.sin(e.add(dot(h!, w), e.mul(x!, e.cast(index, "f32"))))
        return { carried: [next], stacked: [dot(next, u)] }
      }
    )
    return [...carried, ...stacked]
  }),
  row("loop, fixed trips, nothing scanned", ({ b, normal }) => {
    const w = normal([b])
    return loop({ trips: 4, carried: [normal([b])] }, ({ index, carried: [h] }) => ({
      carried: [e.add(e.mul(h!, w), e.cast(index, "f32"))]
    })).carried
  }),
  row(
    "stopGradient",
    ({ a, normal }) => {
      const x = normal([a])
      // a derivative of x only, by the first factor
      return e.mul(x, stopGradient(e.add(normal([a]), 1)))
    },
    { gradient: false }
  ),
  row("barrier", ({ a, b, normal }) => barrier([normal([a]), normal([b])])),
  row("saveName", ({ a, normal }) => e.exp(saveName(normal([a]), "kept"))),
  row("shard", ({ a, b, normal }) => e.exp(shard(normal([a, b]), ["data", null])))
]

export const primitiveCases: readonly Case[] = [
  ...unaryRows,
  ...binaryRows,
  ...leafRows,
  ...shapeRows,
  ...indexRows,
  ...dotRows,
  ...reduceRows,
  ...controlRows
]
