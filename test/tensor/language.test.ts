/** What the language refuses, what derivatives leave out, what programs hold and how they print. */
import { describe, expect, test } from "vitest"
import { gelu, swiglu } from "../../src/tensor/composites/activation.ts"
import { attention } from "../../src/tensor/composites/attention.ts"
import { linear } from "../../src/tensor/composites/linear.ts"
import { linearLogprobs } from "../../src/tensor/composites/linearLogprobs.ts"
import { layerNorm, rmsNorm } from "../../src/tensor/composites/norm.ts"
import { rotary, rotaryFrequencies, rotaryTables } from "../../src/tensor/composites/rotary.ts"
import { logSoftmax } from "../../src/tensor/composites/softmax.ts"
import { multiplyDims } from "../../src/tensor/Dim.ts"
import { gradient } from "../../src/tensor/gradient.ts"
import { interpret } from "../../src/tensor/interpret.ts"
import { loop, stopGradient } from "../../src/tensor/ops/control.ts"
import { dot } from "../../src/tensor/ops/dot.ts"
import { add, cast, exp, mul, neg, not, select, sub, tanh } from "../../src/tensor/ops/elementwise.ts"
import { gather, segmentSum, takeAlong } from "../../src/tensor/ops/indexing.ts"
import { constant, iota } from "../../src/tensor/ops/leaf.ts"
import { reduceMax, reduceMean, reduceSum, topK } from "../../src/tensor/ops/reduce.ts"
import { asRows, concat, flatten, reshape, slice, transpose } from "../../src/tensor/ops/shape.ts"
import { countOps, expand, program, specialise } from "../../src/tensor/Program.ts"
import { print } from "../../src/tensor/print.ts"
import type { Tensor } from "../../src/tensor/Tensor.ts"
import { apply, input } from "../../src/tensor/Tensor.ts"

const x = input("x", "f32", ["batch", 3])
const y = input("y", "f32", ["time", 3])
const ids = input("ids", "i32", ["batch"])
const flags = input("flags", "bool", ["batch"])

const wrong: Readonly<Record<string, readonly [() => unknown, string]>> = {
  "binary operands that do not broadcast": [() => add(x, y), "f32[batch, 3] and f32[time, 3]"],
  "operands of two dtypes": [() => add(x, cast(x, "f64")), "f32[batch, 3] and f64[batch, 3]"],
  "a function of integers": [() => exp(ids), "i32[batch]"],
  "arithmetic on booleans": [() => add(flags, flags), "not defined for booleans"],
  "logic on numbers": [() => not(ids), "i32[batch]"],
  "a condition that is no boolean": [() => select(ids, x, x), "the condition must be bool"],
  "matrices that do not multiply": [() => dot(x, y), "f32[batch, 3] and f32[time, 3]: the shapes do not multiply"],
  "a product with a vector": [() => dot(x, input("v", "f32", [3])), "f32[batch, 3] and f32[3]"],
  "a reshape to another size": [() => reshape(x, ["batch", 4]), "f32[batch, 3] and f32[batch, 4]"],
  "a reshape that cannot be completed": [() => reshape(x, [-1, 2]), "2 does not divide 3*batch"],
  "a permutation that is none": [() => transpose(x, [0, 0]), "[0, 0]"],
  "an axis that is not there": [() => reduceSum(x, 2), "f32[batch, 3] has no axis 2"],
  "a slice past the end": [() => slice(x, 1, 1, 4), "1..4"],
  "a concatenation of unlike tensors": [() => concat([x, y], 1), "f32[batch, 3] and f32[time, 3]"],
  "indices that are no integers": [() => gather(x, x), "indices must be integers"],
  "indices of another rank": [() => takeAlong(x, ids, 1), "f32[batch, 3] and i32[batch]"],
  "rows without an id each": [() => segmentSum(y, ids, 4), "f32[time, 3] and i32[batch]"],
  "more of the largest than there are": [() => topK(x, 4), "f32[batch, 3]"],
  "a carried tensor that changes": [
    () => loop({ trips: 3, carried: [x] }, ({ carried: [h] }) => ({ carried: [reduceSum(h!, 1)] })),
    "f32[batch, 3] and f32[batch]"
  ],
  "a scanned tensor of another length": [
    () => loop({ trips: "time", scanned: [x] }, () => ({})),
    "f32[batch, 3] and i32[time]"
  ],
  "a literal that does not fill its shape": [() => constant([1, 2, 3], "f32", [2, 2]), "[2, 2]"],
  "the derivative of something else than a scalar": [() => gradient(x, [x]), "f32[batch, 3]"],
  "the parts of swiglu": [() => swiglu(x, y), "f32[time, 3] should be f32[batch, 3]"],
  "a norm's weight that would broadcast": [
    () => rmsNorm(x, input("w", "f32", [1])),
    "rmsNorm: the weight: f32[1] should be f32[3]"
  ],
  "a linear layer of another width": [
    () => linear(x, input("w", "f32", [5, 4])),
    "f32[batch, 3] and f32[5, 4]: the shapes do not multiply (right transposed)"
  ]
}

describe("errors name both shapes", () => {
  for (const [name, [build, message]] of Object.entries(wrong))
    test(name, () => {
      expect(build).toThrow(RangeError)
      expect(build).toThrow(message)
    })
})

describe("gradient", () => {
  const w = input("w", "f32", [3])

  test("is zero through stopGradient and integers, and where there is no path", () => {
    const loss = reduceSum(mul(stopGradient(mul(x, w)), cast(cast(w, "i32"), "f32")))
    const [dw, dy] = gradient(add(loss, reduceSum(w)), [w, y])
    const { outputs } = interpret(program("g", { outputs: { dw: dw!, dy: dy! }, inputs: [x, w, y] }), {
      x: { shape: [1, 3], data: [1, 2, 3] },
      w: { shape: [3], data: [4, 5, 6] },
      y: { shape: [1, 3], data: [0, 0, 0] }
    })
    expect([...outputs["dw"]!.data]).toEqual([1, 1, 1])
    expect([...outputs["dy"]!.data]).toEqual([0, 0, 0])
  })

  test("shares a tie of the maximum evenly", () => {
    const [dw] = gradient(reduceMax(w), [w])
    const { outputs } = interpret(program("g", { outputs: { dw: dw! } }), { w: { shape: [3], data: [2, 2, 1] } })
    expect([...outputs["dw"]!.data]).toEqual([0.5, 0.5, 0])
  })

  test("by a tensor inside the graph takes all its uses", () => {
    // d/dh sum(h^2 + 3 h) = 2 h + 3, and by w through h = 2 w: 2 (2 h + 3)
    const h = mul(w, 2)
    const [dh, dw] = gradient(reduceSum(add(mul(h, h), mul(h, 3))), [h, w])
    const { outputs } = interpret(program("g", { outputs: { dh: dh!, dw: dw! } }), {
      w: { shape: [3], data: [1, 2, 3] }
    })
    expect([...outputs["dh"]!.data]).toEqual([7, 11, 15])
    expect([...outputs["dw"]!.data]).toEqual([14, 22, 30])
  })

  test("makes nothing for frozen weights", () => {
    const [a, b] = [input("a", "f32", [3, 3]), input("b", "f32", [3, 3])]
    const loss = reduceSum(tanh(linear(tanh(linear(x, a)), b)))
    const dots = (wrt: readonly Tensor[]) =>
      countOps(
        expand(program("g", { outputs: Object.fromEntries(gradient(loss, wrt).map((d, i) => [`d${i}`, d])) })).nodes
      )["dot"]
    // forward 2; by b: 1 more; by a: through b and then a: 2 more
    expect([dots([b]), dots([a]), dots([a, b])]).toEqual([3, 4, 5])
  })
})

describe("program", () => {
  test("holds only what its outputs need, literals once, and no spent identities", () => {
    exp(x) // dead
    const p = program("p", { outputs: { z: mul(add(stopGradient(x), 2), 2) } })
    expect(countOps(p.nodes)).toEqual({ input: 1, constant: 1, add: 1, mul: 1 })
  })

  test("checks names, inputs and donations", () => {
    const twin = input("x", "f32", [3])
    expect(() => program("p", { outputs: { z: add(x, twin) } })).toThrow('two inputs are named "x"')
    expect(() => program("p", { inputs: [y], outputs: { z: x } })).toThrow('need the input "x"')
    expect(() => program("p", { inputs: [exp(x)], outputs: { z: x } })).toThrow("is no input")
    expect(() => program("p", { outputs: { z: reduceSum(x) }, donate: { z: "x" } })).toThrow("f32[batch, 3] and f32[]")
    expect(() => program("p", { outputs: { z: x }, donate: { z: "w" } })).toThrow("no such input or output")
    expect(() => program("p", { outputs: { a: x, b: x }, donate: { a: "x", b: "x" } })).toThrow("donated twice")
    expect(() => program("p", { outputs: { z: add(reduceSum(y), iota(["other"], 0, "f32")) } })).toThrow(
      "dimension other"
    )
    const leaked: Tensor[] = []
    loop({ trips: 2, carried: [x] }, ({ carried }) => {
      leaked.push(carried[0]!)
      return { carried }
    })
    expect(() => program("p", { outputs: { z: leaked[0]! } })).toThrow("outside the loop")
  })

  test("feeds are checked against named dimensions", () => {
    const p = program("p", { outputs: { z: add(x, cast(reshape(ids, ["batch", 1]), "f32")) } })
    const feed = (...shape: number[]) => ({ shape, data: new Float64Array(shape.reduce((a, b) => a * b, 1)) })
    expect(interpret(p, { x: feed(2, 3), ids: feed(2) }).outputs["z"]!.shape).toEqual([2, 3])
    expect(() => interpret(p, { x: feed(2, 3), ids: feed(3) })).toThrow('input "ids": [3] does not fit i32[batch]')
    expect(() => interpret(p, { x: feed(2, 4), ids: feed(2) })).toThrow("f32[batch, 3]")
    expect(() => interpret(p, { x: feed(2, 3) })).toThrow('input "ids"')
  })

  const train = () => {
    const features = input("features", "f32", ["batch", 4])
    const weight = input("weight", "f32", [2, 4])
    const target = input("target", "f32", ["batch", 2])
    const error = sub(linear(features, weight), target)
    const loss = reduceMean(mul(error, error))
    const [by] = gradient(loss, [weight])
    return program("train", { outputs: { loss, weight: sub(weight, mul(by!, 0.1)) }, donate: { weight: "weight" } })
  }

  test("prints readably, and the same for the same construction", () => {
    expect(print(train())).toMatchInlineSnapshot(`
      "program train {
        %0: f32[batch, 4] = input() {name="features"}
        %1: f32[2, 4] = input() {name="weight"}
        %2: f32[batch, 2] = input() {name="target"}
        %3: f32[batch, 2] = linear(%0, %1) {bias=false}
        %4: f32[batch, 2] = sub(%3, %2)
        %5: f32[batch, 2] = mul(%4, %4)
        %6: f32[] = reduce.sum(%5) {axes=[0, 1]}
        %7: f32[] = size() {dim=2*batch}
        %8: f32[] = div(%6, %7)
        %9: f32[] = fill() {value=1}
        %10: f32[] = div(%9, %7)
        %11: f32[1, 1] = reshape(%10)
        %12: f32[] = constant() {values=[2]}
        %13: f32[batch, 2] = mul(%4, %12)
        %14: f32[batch, 2] = mul(%11, %13)
        %15: f32[2, 4] = dot(%14, %0) {transposeLeft=true, accumulate=f32}
        %16: f32[] = constant() {values=[0.1]}
        %17: f32[2, 4] = mul(%15, %16)
        %18: f32[2, 4] = sub(%1, %17)
        return loss=%8[], weight=%18[2, 4]
        donate weight<-weight
      }
      "
    `)
    exp(x)
    expect(print(train())).toBe(print(train()))
  })

  const sums = () => {
    const rows = input("rows", "f32", ["n", 3])
    const { carried, stacked } = loop({ trips: "n", carried: [constant([0, 0, 0])], scanned: [rows] }, (state) => {
      const sum = add(state.carried[0]!, state.scanned[0]!)
      return { carried: [sum], stacked: [sum, exp(sum)] }
    })
    return { last: carried[0]!, sums: stacked[0]!, unused: stacked[1]! }
  }

  test("prints loops with their bodies", () => {
    const { last } = sums()
    expect(print(program("sum", { outputs: { last } }))).toMatchInlineSnapshot(`
      "program sum {
        %0: f32[n, 3] = input() {name="rows"}
        %1: f32[3] = constant() {values=[0, 0, 0]}
        %2: f32[3] = loop(%1, %0) {trips=n, carried=1, scanned=1} (%3: i32[], %4: f32[3], %5: f32[3]) {
          %6: f32[3] = add(%4, %5)
          return %6
        }
        return last=%2[3]
      }
      "
    `)
  })

  test("drops what a loop computes for nobody", () => {
    const { sums: all, last, unused } = sums()
    expect(countOps(program("p", { outputs: { all, last } }).nodes)["exp"]).toBeUndefined()
    expect(countOps(program("p", { outputs: { unused } }).nodes)["exp"]).toBe(1)
    const feed = { rows: { shape: [2, 3], data: [1, 2, 3, 4, 5, 6] } }
    const { outputs } = interpret(program("p", { outputs: { all, last } }), feed)
    expect([...outputs["all"]!.data]).toEqual([1, 2, 3, 5, 7, 9])
    expect([...outputs["last"]!.data]).toEqual([5, 7, 9])
  })

  test("drops a carried value that only feeds itself", () => {
    const { carried } = loop({ trips: "batch", carried: [constant(0), reduceSum(x)] }, ({ carried: [a, b] }) => ({
      carried: [add(a!, 1), exp(b!)]
    }))
    const p = program("p", { inputs: [x], outputs: { a: carried[0]! } })
    expect(countOps(p.nodes)).toEqual({ input: 1, constant: 2, loop: 1, parameter: 1, add: 1 })
  })
})

describe("specialise", () => {
  const hidden = input("hidden", "f32", ["batch", "time", 4])
  const weight = input("weight", "f32", [7, 4])
  const targets = input("targets", "i32", ["batch", "time"])
  const rows = multiplyDims("batch", "time")
  const { logprob } = linearLogprobs(reshape(hidden, [rows, 4]), weight, reshape(targets, [rows]), { chunk: 4 })
  const p = program("score", { outputs: { logprob, sum: neg(reduceMean(logprob)) } })
  const feeds = (batch: number, time: number) => ({
    hidden: { shape: [batch, time, 4], data: Float64Array.from({ length: batch * time * 4 }, (_, i) => Math.sin(i)) },
    weight: { shape: [7, 4], data: Float64Array.from({ length: 28 }, (_, i) => Math.cos(i)) },
    targets: { shape: [batch, time], data: Float64Array.from({ length: batch * time }, (_, i) => i % 7) }
  })

  test("fixes some or all dimensions and changes no value", () => {
    const expected = interpret(p, feeds(3, 5)).outputs
    const partly = specialise(p, { time: 5 })
    const fully = specialise(p, { batch: 3, time: 5 })
    expect(print(partly)).toContain("hidden")
    expect(print(partly)).toContain("f32[5*batch]")
    expect(print(fully)).not.toContain("batch")
    for (const special of [partly, fully]) expect(interpret(special, feeds(3, 5)).outputs).toEqual(expected)
    expect(interpret(expand(fully), feeds(3, 5)).outputs).toEqual(expected)
  })

  test("a loop of one trip becomes its body, before and after expansion", () => {
    const small = { batch: 2, time: 2 }
    const expected = interpret(p, feeds(2, 2)).outputs
    for (const special of [expand(specialise(p, small)), specialise(expand(p), small)]) {
      expect(countOps(special.nodes)["loop"]).toBeUndefined()
      expect(interpret(special, feeds(2, 2)).outputs).toEqual(expected)
    }
    expect(countOps(expand(specialise(p, { batch: 3, time: 5 })).nodes)["loop"]).toBe(1)
  })

  test("a dimension may be renamed", () => {
    expect(print(specialise(p, { batch: "rows" }))).toContain("f32[rows, time, 4]")
  })
})

test("expand keeps the composites that a writer knows", () => {
  const p = program("p", { outputs: { z: logSoftmax(linear(x, input("w", "f32", [5, 3]))) } })
  const kept = expand(p, ({ name }) => name === "logSoftmax")
  expect(countOps(kept.nodes)).toEqual({ input: 2, dot: 1, logSoftmax: 1 })
  expect(countOps(expand(p).nodes)["logSoftmax"]).toBeUndefined()
})

test("a mis-shaped loop body is refused", () => {
  const good = program("p", {
    outputs: { z: loop({ trips: 2, carried: [x] }, ({ carried }) => ({ carried: carried.map(exp) })).carried[0]! }
  })
  const { op } = good.nodes.find((node) => node.op.kind === "loop")!
  if (op.kind !== "loop") throw new Error("no loop")
  expect(() => apply(op, [y])).toThrow("f32[time, 3] and f32[batch, 3]")
  expect(() => apply(op, [])).toThrow(RangeError)
})

describe("16-bit computation", () => {
  const build = (dtype: "f32" | "bf16") => {
    const low = (t: Tensor) => cast(t, dtype)
    const [h, w, norm] = [input("h", "f32", ["batch", 3, 4]), input("w", "f32", [4, 4]), input("norm", "f32", [4])]
    const a = rmsNorm(low(h), low(norm))
    const heads = reshape(linear(a, low(w)), ["batch", 3, 2, 2])
    const turned = rotary(heads, rotaryTables(iota([3]), rotaryFrequencies(2), dtype))
    const { out } = attention(turned, turned, heads, { causal: true })
    const wide = layerNorm(swiglu(reshape(out, ["batch", 3, 4]), a), low(norm), low(norm))
    const { logprob, entropy } = linearLogprobs(asRows(gelu(wide)), low(w), flatten(input("t", "i32", ["batch", 3])))
    const loss = reduceMean(add(logprob, entropy))
    const derivatives = gradient(loss, [h, w, norm])
    return program("mixed", { outputs: { loss, ...Object.fromEntries(derivatives.map((d, i) => [`d${i}`, d])) } })
  }
  const wave = (...shape: number[]) => ({
    shape,
    data: Float64Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(1 + 1.3 * i))
  })
  const feeds = { h: wave(2, 3, 4), w: wave(4, 4), norm: wave(4), t: { shape: [2, 3], data: [0, 1, 2, 3, 0, 1] } }

  test("sums, scores and losses stay in float32, and nothing else changes", () => {
    const [full, low] = [build("f32"), build("bf16")]
    expect(low.outputs.get("loss")!.dtype).toBe("f32")
    expect([...low.outputs.values()].every(({ dtype }) => dtype === "f32")).toBe(true)
    const dots = expand(low).nodes.filter(({ op }) => op.kind === "dot")
    expect(dots.every(({ op }) => op.kind === "dot" && op.accumulate === "f32")).toBe(true)
    expect(dots.every(({ inputs }) => inputs.every(({ dtype }) => dtype === "bf16"))).toBe(true)
    const [expected, actual] = [interpret(full, feeds).outputs, interpret(low, feeds).outputs]
    for (const [name, { data }] of Object.entries(expected))
      data.forEach((v, i) => {
        expect(actual[name]!.data[i], name).toBeCloseTo(v, 10)
      })
  })
})

test("a derivative that was broadcast is not written out where the next operation broadcasts it", () => {
  const [dx] = gradient(reduceSum(mul(x, x)), [x])
  expect(countOps(program("p", { outputs: { dx: dx! } }).nodes)).toEqual({
    input: 1,
    fill: 1,
    reshape: 1,
    constant: 1,
    mul: 2
  })
  // where it alone gives the shape it has to be
  const [dy] = gradient(reduceSum(x), [x])
  expect(dy!.shape).toEqual(x.shape)
})
