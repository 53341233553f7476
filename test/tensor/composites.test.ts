/** Composites against arithmetic done by hand, against each other, and at their edges. */
import { describe, expect, test } from "vitest"
import { gelu, logSigmoid, swiglu } from "../../src/tensor/composites/activation.ts"
import { adamw } from "../../src/tensor/composites/adamw.ts"
import { crossEntropy } from "../../src/tensor/composites/crossEntropy.ts"
import { layerNorm, rmsNorm } from "../../src/tensor/composites/norm.ts"
import { rotary, rotaryFrequencies, rotaryTables } from "../../src/tensor/composites/rotary.ts"
import { logSoftmax, softmax } from "../../src/tensor/composites/softmax.ts"
import { erf } from "../../src/tensor/erf.ts"
import { gradient } from "../../src/tensor/gradient.ts"
import { exp } from "../../src/tensor/ops/elementwise.ts"
import { constant } from "../../src/tensor/ops/leaf.ts"
import { reduceSum } from "../../src/tensor/ops/reduce.ts"
import { input } from "../../src/tensor/Tensor.ts"

import { close, literal, run, value } from "./values.ts"

describe("activations and normalisation", () => {
  test("erf has its tabled values", () => {
    // Abramowitz and Stegun, table 7.1
    close(
      [erf(0), erf(0.5), erf(1), erf(2), erf(3.5), erf(-1)],
      [0, 0.5204998778, 0.8427007929, 0.995322265, 0.9999992569, -0.8427007929],
      9
    )
    expect([erf(10), erf(-10)]).toEqual([1, -1])
  })

  test("swiglu, gelu, logSigmoid", () => {
    // silu(0) = 0; silu(1) = 1 / (1 + 1/e) = 0.7310585786, times 2
    close(value(swiglu(literal([0, 1]), literal([5, 2]))), [0, 1.4621171573], 9)
    // x Phi(x): Phi(1) = 0.8413447461
    close(value(gelu(literal([0, 1, -1]))), [0, 0.8413447461, -0.1586552539], 9)
    close(value(logSigmoid(literal([0, 800, -800]))), [-Math.LN2, 0, -800])
    const x = input("x", "f32", [3])
    const [dx] = gradient(reduceSum(logSigmoid(x)), [x])
    close(value(dx!, { x: { shape: [3], data: [0, 800, -800] } }), [0.5, 0, 1])
  })

  test("rmsNorm and layerNorm", () => {
    // mean square of (3, 4) is 12.5; of deviations (-0.5, 0.5) it is 0.25
    close(value(rmsNorm(literal([3, 4], 1, 2), literal([1, 10]), 0)), [3 / Math.sqrt(12.5), 40 / Math.sqrt(12.5)])
    close(value(layerNorm(literal([3, 4], 1, 2), literal([2, 2]), literal([0, 1]), 0)), [-2, 3])
  })

  test("softmax sums to 1, does not overflow, and takes equal shifts", () => {
    const [a, b] = [value(softmax(literal([1000, 1001, 999]))), value(softmax(literal([0, 1, -1])))]
    close(a, b)
    expect(a.reduce((s, v) => s + v)).toBeCloseTo(1, 14)
    close(value(exp(logSoftmax(literal([5, 6, 4])))), b)
  })

  test("crossEntropy", () => {
    // log(e^0 + e^0) = log 2; log(1 + e) - 1
    const loss = crossEntropy(literal([0, 0, 0, 1], 2, 2), constant([1, 1], "i32"))
    close(value(loss), [Math.LN2, Math.log(1 + Math.E) - 1])
  })
})

test("adamw: the first step by hand", () => {
  // m = 0.1 * 0.5, v = 0.001 * 0.25, m / 0.1 = 0.5, v / 0.001 = 0.25:
  // p = 1 * (1 - 0.1 * 0.2) - 0.1 * 0.5 / (0.5 + 1e-8)
  const scalar = (v: number) => constant(v)
  const next = adamw(
    { param: literal([1]), grad: literal([0.5]), m: literal([0]), v: literal([0]) },
    { learningRate: scalar(0.1), correction1: scalar(0.1), correction2: scalar(0.001), weightDecay: 0.2 }
  )
  const { param, m, v } = run({ ...next })
  close(param!, [0.98 - 0.05 / (0.5 + 1e-8)])
  close(m!, [0.05])
  close(v!, [0.00025])
})

describe("rotary", () => {
  const x = literal([1, 2, 3, 4], 1, 1, 1, 4)
  const turned = (position: number) =>
    value(rotary(x, rotaryTables(constant([position], "i32"), rotaryFrequencies(4, 10_000))))

  test("turns the halves of a head: pairs (1, 3) by 1 and (2, 4) by 0.01", () => {
    const [c, s, c2, s2] = [Math.cos(1), Math.sin(1), Math.cos(0.01), Math.sin(0.01)]
    close(turned(1), [c - 3 * s, 2 * c2 - 4 * s2, 3 * c + s, 4 * c2 + 2 * s2])
    expect(turned(0)).toEqual([1, 2, 3, 4])
  })

  test("products depend on the distance only", () => {
    const score = (a: number, b: number) => turned(a).reduce((sum, v, i) => sum + v * turned(b)[i]!, 0)
    expect(score(3, 7)).toBeCloseTo(score(10, 14), 10)
  })
})
