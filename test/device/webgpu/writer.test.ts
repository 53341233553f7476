/** What is written for WebGPU, without an adapter: no operator that it has no kernel for, or a wrong one. */
import { expect, test } from "vitest"
import { writeProgram } from "../../../src/device/onnx/writer.ts"
import { adamw } from "../../../src/tensor/composites/adamw.ts"
import { program } from "../../../src/tensor/Program.ts"
import { input } from "../../../src/tensor/Tensor.ts"
import { casePrograms, cases } from "../../tensor/cases.ts"

const avoided = [
  "FusedMatMul",
  "LogSoftmax",
  "Loop",
  "ArgMax",
  "Sin",
  "Cos",
  "Sign",
  "Xor",
  "Size",
  "ConstantOfShape",
  "ScatterND"
]

test("models of the table of operations have none of the operators that are avoided", () => {
  for (const item of cases) {
    const { forward, backward } = casePrograms(item, 1, true)
    for (const one of backward === undefined ? [forward] : [forward, backward]) {
      const model = Buffer.from(writeProgram(one, { threads: 1, provider: "webgpu" }).model)
      // a field of a node is its tag (0x22), its length and its text
      const found = avoided.filter((name) =>
        model.includes(Buffer.from(`\x22${String.fromCharCode(name.length)}${name}`))
      )
      expect(found, one.name).toEqual([])
    }
  }
})

test("an operator never writes what it reads: moments are read before they are written, the parameter by its last operator", () => {
  const of = (name: string) => input(name, "f32", [3])
  const scalar = (name: string) => input(name, "f32", [])
  const options = { learningRate: scalar("rate"), correction1: scalar("c1"), correction2: scalar("c2") }
  const next = adamw({ param: of("p"), grad: of("g"), m: of("m"), v: of("v") }, options)
  const update = program("adamw", {
    outputs: { p: next.param, m: next.m, v: next.v },
    donate: { p: "p", m: "m", v: "v" }
  })
  expect([...writeProgram(update, { threads: 1 }).inPlace.keys()].sort()).toEqual(["m", "p", "v"])
  expect([...writeProgram(update, { threads: 1, provider: "webgpu" }).inPlace.keys()].sort()).toEqual(["m", "v"])
})
