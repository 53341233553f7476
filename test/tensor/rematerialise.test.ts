/** Rematerialisation: what is computed twice, what is not, in which order, and what it saves. */
import { describe, expect, test } from "vitest"
import { swiglu } from "../../src/tensor/composites/activation.ts"
import { attention } from "../../src/tensor/composites/attention.ts"
import { linear } from "../../src/tensor/composites/linear.ts"
import { rmsNorm } from "../../src/tensor/composites/norm.ts"
import { rematerialise } from "../../src/tensor/composites/rematerialise.ts"
import { repeat } from "../../src/tensor/composites/repeat.ts"
import { gradient } from "../../src/tensor/gradient.ts"
import { interpret } from "../../src/tensor/interpret.ts"
import { loop, saveName } from "../../src/tensor/ops/control.ts"
import { add, cast, exp, greater, mul, select, tanh } from "../../src/tensor/ops/elementwise.ts"
import { iota } from "../../src/tensor/ops/leaf.ts"
import { reduceSum } from "../../src/tensor/ops/reduce.ts"
import { flatten, reshape } from "../../src/tensor/ops/shape.ts"
import { countOps, program } from "../../src/tensor/Program.ts"
import { print } from "../../src/tensor/print.ts"
import { reach } from "../../src/tensor/rewrite.ts"
import type { Node, Tensor } from "../../src/tensor/Tensor.ts"
import { input } from "../../src/tensor/Tensor.ts"

const WIDTH = 8
const LAYERS = 4
type Mode = "plain" | "all again" | "attention kept"

const build = (mode: Mode, loop = false) => {
  const x = input("x", "f32", ["batch", "time", WIDTH])
  const layers = Array.from({ length: LAYERS }, (_, i) => ({
    norm: input(`norm${i}`, "f32", [WIDTH]),
    qkv: input(`qkv${i}`, "f32", [WIDTH, WIDTH]),
    gate: input(`gate${i}`, "f32", [4 * WIDTH, WIDTH]),
    up: input(`up${i}`, "f32", [4 * WIDTH, WIDTH]),
    down: input(`down${i}`, "f32", [WIDTH, 4 * WIDTH])
  }))
  const layer = (h: Tensor, w: (typeof layers)[number]): Tensor => {
    const heads = reshape(linear(rmsNorm(h, w.norm), w.qkv), ["batch", "time", 2, WIDTH / 2])
    const { out } = attention(heads, heads, heads, { causal: true })
    const mixed = flatten(mode === "attention kept" ? saveName(out, "attention") : out, 2, 3)
    const wide = swiglu(linear(mixed, w.gate), linear(mixed, w.up))
    return add(h, linear(wide, w.down))
  }
  const end = repeat(
    layers,
    x,
    (h, w) => (mode === "plain" ? layer(h, w) : rematerialise([h], (g) => [layer(g!, w)])[0]!),
    { loop }
  )
  const loss = reduceSum(add(end, end))
  const weights = layers.flatMap((w) => Object.values(w))
  const derivatives = gradient(loss, [x, ...weights])
  return program(mode, { outputs: { loss, ...Object.fromEntries(derivatives.map((d, i) => [`d${i}`, d])) } })
}

const feeds = () => {
  const wave = (seed: number, ...shape: number[]) => ({
    shape,
    data: Float64Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(seed + 1.7 * i) / 2)
  })
  return Object.fromEntries(
    [...build("plain").inputs].map(([name, t], i) => [
      name,
      wave(i, ...t.shape.map((dim, axis) => (typeof dim === "number" ? dim : axis === 0 ? 2 : 6)))
    ])
  )
}

const modes = ["plain", "all again", "attention kept"] as const

const count = (mode: Mode, op: string) => (countOps(build(mode).nodes)[op] ?? 0) / LAYERS

describe("rematerialise", () => {
  test("computes a layer again, but not what saveName marks", () => {
    const linears = (mode: Mode) => count(mode, "linear")
    expect([linears("plain"), linears("all again"), linears("attention kept")]).toEqual([4, 7, 7])
    const attentions = (mode: Mode) => count(mode, "attention")
    expect([attentions("plain"), attentions("all again"), attentions("attention kept")]).toEqual([1, 2, 1])
    for (const mode of ["all again", "attention kept"] as const) {
      // the last product of a layer is not needed for its derivative
      expect(count(mode, "rmsNorm")).toBe(2)
      expect(count(mode, "swiglu")).toBe(2)
      expect(count(mode, "barrier")).toBe(1)
      expect(count(mode, "attentionGrad")).toBe(1)
    }
  })

  test("the second computation depends on the incoming derivative", () => {
    const { nodes } = build("attention kept")
    const late = new Set<Node>()
    for (const node of nodes)
      if (node.op.kind === "barrier" || node.inputs.some((x) => late.has(x.node))) late.add(node)
    const named = (name: string) => nodes.filter(({ op }) => op.kind === "composite" && op.definition.name === name)
    const again = named("rmsNorm").filter((node) => late.has(node))
    expect(again).toHaveLength(LAYERS)
    // each barrier waits for a derivative: its second input comes from a later layer's derivative, or from the loss
    const barriers = nodes.filter(({ op }) => op.kind === "barrier")
    expect(barriers.every(({ inputs }) => inputs.length === 2)).toBe(true)
    const forward = named("rmsNorm").filter((node) => !late.has(node))
    expect(Math.max(...forward.map(({ id }) => nodes.findIndex((n) => n.id === id)))).toBeLessThan(
      Math.min(...again.map(({ id }) => nodes.findIndex((n) => n.id === id)))
    )
  })

  test("changes no value and lowers the peak of memory", () => {
    const [plain, again, kept] = modes.map((mode) => interpret(build(mode), feeds()))
    for (const { outputs } of [again!, kept!])
      for (const [name, { data }] of Object.entries(plain!.outputs)) {
        const error = data.reduce((most, v, i) => Math.max(most, Math.abs(v - outputs[name]!.data[i]!)), 0)
        expect(error, name).toBeLessThan(1e-12)
      }
    expect(kept!.peakBytes).toBeLessThan(0.7 * plain!.peakBytes)
    expect(again!.peakBytes).toBeLessThanOrEqual(kept!.peakBytes)
    expect(again!.evaluated).toBeGreaterThan(kept!.evaluated)
    expect(kept!.evaluated).toBeGreaterThan(plain!.evaluated)
  })

  test("inputs that depend on each other, or are the same, are told apart", () => {
    const x = input("x", "f32", [2])
    const [z] = rematerialise([x, x, add(x, x)], (a, b, c) => [add(add(a!, b!), add(c!, c!))])
    const [dx] = gradient(reduceSum(z!), [x])
    const { outputs } = interpret(program("p", { inputs: [x], outputs: { dx: dx! } }), {
      x: { shape: [2], data: [1, 2] }
    })
    expect([...outputs["dx"]!.data]).toEqual([6, 6])
  })

  test("prints the same text each time", () => {
    expect(print(build("attention kept"))).toBe(print(build("attention kept")))
  })
})

describe("layers as a loop", () => {
  test("each operation stands once, and only what a layer says is computed again", () => {
    for (const mode of modes) {
      const [once, unrolled] = [countOps(build(mode, true).nodes), countOps(build(mode).nodes)]
      // forward and backward; the forward that the derivative asks for is the forward itself
      expect(once["loop"]).toBe(2)
      for (const op of ["linear", "attention", "attentionGrad", "rmsNorm", "swiglu"])
        expect(once[op], `${mode}: ${op}`).toBe(unrolled[op]! / LAYERS)
    }
  })

  test("changes no value", () => {
    for (const mode of modes) {
      const [one, other] = [interpret(build(mode, true), feeds()), interpret(build(mode), feeds())]
      for (const [name, { data }] of Object.entries(other.outputs)) {
        const error = data.reduce((most, v, i) => Math.max(most, Math.abs(v - one.outputs[name]!.data[i]!)), 0)
        expect(error, `${mode}: ${name}`).toBeLessThan(1e-12)
      }
    }
  })

  test("keeps the products of a layer that nothing says to compute again", () => {
    const { nodes } = build("plain", true)
    const [forward, backward] = nodes.filter(({ op }) => op.kind === "loop")
    // the carry, and of each trip what the derivative reads
    expect(forward!.outputs.length).toBeGreaterThan(5)
    const inBackward = backward!.op.kind === "loop" ? countOps(reach(backward!.op.body.results)) : {}
    expect(inBackward["attention"]).toBeUndefined()
    // and where all is computed again, the carry alone
    const again = build("all again", true).nodes.find(({ op }) => op.kind === "loop")!
    expect(again.outputs.length).toBe(2)
  })

  test("one forward loop serves several derivatives, also where they read other things of it", () => {
    const [x, w] = [input("x", "f32", [3]), input("w", "f32", [4, 3])]
    const { carried } = loop({ trips: 4, carried: [x], scanned: [w] }, ({ carried: [h], scanned: [own] }) => ({
      carried: [mul(tanh(h!), exp(own!))]
    }))
    const loss = reduceSum(carried[0]!)
    const [dx] = gradient(loss, [x])
    const [dw] = gradient(loss, [w])
    const { nodes } = program("p", { outputs: { loss, dx: dx!, dw: dw! } })
    expect(countOps(nodes)["loop"]).toBe(3)
  })

  test("keeps nothing that slices, the index and what every trip reads give again", () => {
    const [x, w, shared] = [input("x", "f32", [3]), input("w", "f32", [4, 3]), input("s", "f32", [3])]
    const { carried } = loop({ trips: 4, carried: [x], scanned: [w] }, ({ carried: [h], index, scanned: [own] }) => ({
      carried: [mul(h!, select(greater(add(iota([3]), index), 2), exp(own!), shared))]
    }))
    const { nodes } = program("p", { outputs: { dw: gradient(reduceSum(carried[0]!), [w])[0]! } })
    // the carry, and where each trip began
    expect(nodes.find(({ op }) => op.kind === "loop")!.outputs.length).toBe(2)
  })

  test("are laid on one another as they are stored, and stand one after the other where they are not alike", () => {
    const x = input("x", "f32", [2])
    const own = (i: number, size: number) => ({ w: cast(input(`w${i}`, "bf16", [size]), "f32") })
    const sum = (carry: Tensor, { w }: { readonly w: Tensor }) => add(carry, reduceSum(w))
    const stacks = (layers: ReadonlyArray<{ readonly w: Tensor }>) => {
      const { nodes } = program("p", { outputs: { y: repeat(layers, x, sum, { loop: true }) } })
      return [countOps(nodes)["loop"], nodes.find(({ op }) => op.kind === "concat")?.outputs[0]?.dtype]
    }
    expect(stacks([own(0, 3), own(1, 3), own(2, 3)])).toEqual([1, "bf16"])
    expect(stacks([own(0, 3), own(1, 4)])).toEqual([undefined, undefined])
    const more = { ...own(1, 3), more: own(2, 3).w }
    expect(stacks([own(0, 3), more])).toEqual([undefined, undefined])
    expect(stacks([own(0, 3)])).toEqual([undefined, undefined])
  })
})
