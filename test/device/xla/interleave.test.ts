/** Programs over tensors in the order of shares: the same numbers, in that order, and no part is put in its own order on the way. */
import { describe, expect, it } from "vitest"
import { stream, uniforms } from "../../../src/device/random.ts"
import { interleaved } from "../../../src/device/xla/interleave.ts"
import { type Order, rowsInOrder } from "../../../src/device/xla/sharding.ts"
import { linear } from "../../../src/tensor/composites/linear.ts"
import { lowRank } from "../../../src/tensor/composites/lowRank.ts"
import { gradient } from "../../../src/tensor/gradient.ts"
import { interpret } from "../../../src/tensor/interpret.ts"
import { loop } from "../../../src/tensor/ops/control.ts"
import { add, exp, mul, tanh } from "../../../src/tensor/ops/elementwise.ts"
import { cumulativeSum, reduceSum } from "../../../src/tensor/ops/reduce.ts"
import { split, transpose } from "../../../src/tensor/ops/shape.ts"
import { countOps, type Program, program } from "../../../src/tensor/Program.ts"
import { input, type Tensor } from "../../../src/tensor/Tensor.ts"

const order: Order = { ways: 2, parts: [8, 4, 4] }
const columns = 3

const values = (name: string, shape: ReadonlyArray<number>) => ({
  dtype: "f32" as const,
  shape,
  data: Float32Array.from(
    uniforms(
      stream(3, name),
      shape.reduce((n, d) => n * d, 1)
    )
  )
})
type Values = ReturnType<typeof values>

const inOrder = ({ data, dtype, shape }: Values): Values => {
  const width = data.length / shape[0]!
  const moved = new Float32Array(data.length)
  rowsInOrder(order).forEach((row, place) => {
    moved.set(data.subarray(row * width, (row + 1) * width), place * width)
  })
  return { dtype, shape, data: moved }
}

/** Feeds of the program's own types, and the outputs of both programs for them. */
const both = (source: Program, stacked: ReadonlyArray<string>) => {
  const feeds = Object.fromEntries([...source.inputs].map(([name, x]) => [name, values(name, x.shape.map(Number))]))
  const shares = (names: Iterable<string>) =>
    new Map([...names].flatMap((name) => (stacked.includes(name) ? [[name, order] as const] : [])))
  const made = interleaved(source, shares(source.inputs.keys()), shares(source.outputs.keys()))
  const fed = Object.fromEntries(
    Object.entries(feeds).map(([name, x]) => [name, stacked.includes(name) ? inOrder(x) : x])
  )
  const [want, got] = [interpret(source, feeds).outputs, interpret(made, fed).outputs]
  for (const [name, x] of Object.entries(want)) {
    // row `places[i]` of the one is row i of the other
    const places = stacked.includes(name) ? rowsInOrder(order) : x.data.keys()
    const width = stacked.includes(name) ? x.data.length / x.shape[0]! : 1
    for (const [i, row] of [...places].entries()) {
      for (let k = 0; k < width; k++) {
        const [y, z] = [got[name]!.data[i * width + k]!, x.data[row * width + k]!]
        expect(Math.abs(y - z), `${name} ${i}, ${k}`).toBeLessThan(1e-12)
      }
    }
  }
  return made
}

const of = (name: string, ...shape: ReadonlyArray<number>): Tensor => input(name, "f32", shape)

describe("a program in shares", () => {
  it("projects, splits, and takes derivatives, moments and norms, without a part put in its own order", () => {
    const [x, w, b, m] = [of("x", 2, 5, columns), of("w", 16, columns), of("b", 16), of("m", 16, columns)]
    const [q, k, v] = split(linear(x, w, { bias: b }), -1, [8, 4, 4])
    const mixed = add(reduceSum(mul(tanh(q!), 2)), reduceSum(mul(exp(k!), v!)))
    const [dx, dw, db] = gradient(mixed, [x, w, b])
    const next = add(mul(m, 0.9), dw!)
    const made = both(
      program("step", {
        outputs: {
          q: q!,
          v: v!,
          loss: mixed,
          dx: dx!,
          w: add(w, mul(next, -0.1)),
          b: db!,
          m: next,
          norm: reduceSum(mul(dw!, dw!))
        },
        donate: { w: "w", m: "m" }
      }),
      ["w", "b", "m"]
    )
    expect(countOps(made.nodes)["concat"]).toBeUndefined()
    expect([...made.donate]).toEqual([
      ["w", "w"],
      ["m", "m"]
    ])
  })

  it("adds low-rank parts that are put side by side", () => {
    const [x, w, a] = [of("x", 4, columns), of("w", 16, columns), of("a", 4, columns)]
    const parts = [8, 4, 4].map((rows, i) => ({ rows, b: i === 1 ? undefined : of(`b${i}`, rows, 2) }))
    const y = add(linear(x, w), lowRank(x, a, parts, 0.5))
    const [, k, v] = split(y, -1, [8, 4, 4])
    const loss = reduceSum(mul(tanh(v!), k!))
    const [dw, da] = gradient(loss, [w, a])
    both(program("adapted", { outputs: { loss, w: dw!, da: da! } }), ["w"])
  })

  it("puts things in their own order where an operation needs it, and back for outputs", () => {
    const w = of("w", 16, columns)
    both(program("sums", { outputs: { w: cumulativeSum(w, 0), turned: transpose(w, [1, 0]) } }), ["w"])
    const plainly = both(program("other", { outputs: { w: of("u", 16, columns) } }), ["w"])
    expect(countOps(plainly.nodes)["concat"]).toBe(1)
    const [piece] = split(of("w", 16, columns), 0, [6, 10])
    both(program("piece", { outputs: { piece: piece! } }), ["w"])
  })

  it("stays in shares within a loop that reads it at each step", () => {
    const [x, w] = [of("x", 5, columns), of("w", 16, columns)]
    const { carried, stacked } = loop({ trips: 3, carried: [x] }, ({ carried: [h] }) => {
      const [q, k, v] = split(linear(h!, w), -1, [8, 4, 4])
      const next = add(h!, mul(reduceSum(mul(k!, v!), 1, { keepDims: true }), 0.01))
      return { carried: [next], stacked: [q!] }
    })
    const made = both(program("steps", { outputs: { h: carried[0]!, q: stacked[0]! } }), ["w"])
    expect(countOps(made.nodes)["concat"]).toBeUndefined()
  })

  it("is the program itself where nothing lies in shares", () => {
    const source = program("same", { outputs: { y: tanh(of("x", 4)) } })
    expect(interleaved(source, new Map(), new Map())).toBe(source)
  })
})
