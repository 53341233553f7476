/** Sums in place are added up as soon as they can be: the order is another, no value is. */
import { describe, expect, it } from "vitest"
import { inOrder } from "../../../src/device/xla/inOrder.ts"
import { linear } from "../../../src/tensor/composites/linear.ts"
import { rematerialise } from "../../../src/tensor/composites/rematerialise.ts"
import { gradient } from "../../../src/tensor/gradient.ts"
import { interpret } from "../../../src/tensor/interpret.ts"
import { add, square, tanh } from "../../../src/tensor/ops/elementwise.ts"
import { reduceSum } from "../../../src/tensor/ops/reduce.ts"
import { program } from "../../../src/tensor/Program.ts"
import { reach } from "../../../src/tensor/rewrite.ts"
import { input, type Tensor } from "../../../src/tensor/Tensor.ts"

const layers = 4

/** The squared length of tanh(W tanh(W ... (x + e))), and its derivatives added to what is there. */
const training = (recompute: boolean) => {
  const weights = Array.from({ length: layers }, (_, i) => input(`w${i}`, "f32", [3, 3]))
  const e = input("e", "f32", [3])
  const layer = (x: Tensor, w: Tensor) => tanh(linear(x, w))
  const x = weights.reduce<Tensor>(
    (y, w) => (recompute ? rematerialise([y], (z) => [layer(z!, w)])[0]! : layer(y, w)),
    add(input("x", "f32", ["rows", 3]), e)
  )
  const loss = reduceSum(square(x))
  const sums = gradient(loss, [...weights, e]).map(
    (by, i) => [`g${i}`, add(input(`g${i}`, "f32", i < layers ? [3, 3] : [3]), by)] as const
  )
  const names = Object.fromEntries(sums.map(([name]) => [name, name]))
  return program("training", { outputs: { loss, ...Object.fromEntries(sums) }, donate: names })
}

const values = (count: number, from: number) => Float64Array.from({ length: count }, (_, i) => Math.sin(from + 1.7 * i))
const feeds = Object.fromEntries([
  ["x", { shape: [5, 3], data: values(15, 0) }],
  ["e", { shape: [3], data: values(3, 5) }],
  [`g${layers}`, { shape: [3], data: values(3, 6) }],
  ...Array.from({ length: layers }, (_, i) => [`w${i}`, { shape: [3, 3], data: values(9, i) }] as const),
  ...Array.from({ length: layers }, (_, i) => [`g${i}`, { shape: [3, 3], data: values(9, 10 * i) }] as const)
])

describe.each([false, true])("rematerialised: %s", (recompute) => {
  const source = training(recompute)
  const ordered = inOrder(source)

  it("the values are those of the program as it was", () => {
    const [a, b] = [interpret(source, feeds).outputs, interpret(ordered, feeds).outputs]
    expect(Object.keys(b)).toEqual(Object.keys(a))
    for (const [name, { data }] of Object.entries(a)) expect([...b[name]!.data], name).toEqual([...data])
    expect([[...ordered.inputs.keys()], [...ordered.donate]]).toEqual([[...source.inputs.keys()], [...source.donate]])
  })

  it("the derivative by an earlier layer waits for the sums of the later ones", () => {
    const first = new Set(reach([ordered.outputs.get("g0")!]))
    for (let i = 1; i < layers; i++) {
      const own = ordered.outputs.get(`g${i}`)!.node
      expect([first.has(own), reach([source.outputs.get("g0")!]).includes(source.outputs.get(`g${i}`)!.node)]).toEqual([
        true,
        false
      ])
    }
    // and none waits for the first, which ends the pass
    const last = ordered.outputs.get("g0")!.node
    for (let i = 1; i < layers; i++) expect(reach([ordered.outputs.get(`g${i}`)!])).not.toContain(last)
  })
})

it("a program with nothing to add up in place stays as it is", () => {
  const plain = program("plain", { outputs: { y: tanh(input("x", "f32", [2])) } })
  expect(inOrder(plain)).toBe(plain)
})
