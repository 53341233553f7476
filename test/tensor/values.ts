/** Values of small graphs, for tests that compare them with arithmetic done by hand. */
import { expect } from "vitest"
import type { Feed } from "../../src/tensor/interpret.ts"
import { interpret } from "../../src/tensor/interpret.ts"
import { constant } from "../../src/tensor/ops/leaf.ts"
import { program } from "../../src/tensor/Program.ts"
import type { Tensor } from "../../src/tensor/Tensor.ts"

/** The values of tensors, by name. */
export const run = (outputs: Readonly<Record<string, Tensor>>, feeds: Readonly<Record<string, Feed>> = {}) =>
  Object.fromEntries(
    Object.entries(interpret(program("test", { outputs }), feeds).outputs).map(([name, { data }]) => [name, [...data]])
  )

/** The values of one tensor. */
export const value = (x: Tensor, feeds: Readonly<Record<string, Feed>> = {}): number[] => run({ x }, feeds)["x"]!

export const close = (actual: readonly number[], expected: readonly number[], digits = 12) => {
  expect(actual).toHaveLength(expected.length)
  expected.forEach((v, i) => {
    expect(actual[i], `element ${i}`).toBeCloseTo(v, digits)
  })
}

/** A constant of a shape (by default a vector). */
export const literal = (values: readonly number[], ...shape: number[]) =>
  constant(values, "f32", shape.length > 0 ? shape : [values.length])

/** Numbers in [-1, 1] from a generator. */
export const noise = (random: () => number, ...shape: number[]): Feed => ({
  shape,
  data: Float64Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => 2 * random() - 1)
})
