/** A module that does not compile: the error names the operation of the program, the line, and what XLA says of it. */
import { describe, expect, it } from "vitest"
import { Compiler } from "../../../src/device/xla/Compiler.ts"
import { compileOptions } from "../../../src/device/xla/compileOptions.ts"
import { deviceFailure } from "../../../src/device/xla/failure.ts"
import { closeClient, openClient } from "../../../src/device/xla/openClient.ts"
import { cpuPlugin } from "../../../src/device/xla/plugins.ts"
import { type Written, writeProgram } from "../../../src/device/xla/writer.ts"
import { softmax } from "../../../src/tensor/composites/softmax.ts"
import { loop } from "../../../src/tensor/ops/control.ts"
import { dot } from "../../../src/tensor/ops/dot.ts"
import { program } from "../../../src/tensor/Program.ts"
import { input } from "../../../src/tensor/Tensor.ts"
import { absent, titled } from "./support.ts"

const x = input("x", "f32", [4, 4])
const { carried } = loop({ trips: 3, carried: [x] }, ({ carried: [y] }) => ({ carried: [dot(softmax(y!), x)] }))
const written = writeProgram(program("broken", { outputs: { y: carried[0]! } }))
const lines = written.text.split("\n")
const lineOf = (part: string) => lines.findIndex((line) => line.includes(part)) + 1

it("lines are known by the operations that they were written for", () => {
  expect(written.labelOf(lineOf("stablehlo.while"))).toBe("loop")
  expect(written.labelOf(lineOf("stablehlo.exponential"))).toBe("loop/softmax/exp")
  expect(written.labelOf(lineOf("stablehlo.dot_general"))).toBe("loop/dot")
  expect([written.labelOf(1), written.labelOf(2), written.labelOf(lines.length)]).toEqual([
    undefined,
    undefined,
    undefined
  ])
})

/** The module with one line made wrong. */
const broken = (part: string, from: string, to: string): Pick<Written, "labelOf" | "text"> => ({
  labelOf: written.labelOf,
  text: lines.map((line) => (line.includes(part) ? line.replace(from, to) : line)).join("\n")
})

describe.skipIf(absent !== undefined)(titled("what XLA refuses"), () => {
  const refusal = async (module: Pick<Written, "labelOf" | "text">) => {
    const client = await openClient(cpuPlugin)
    try {
      const compiler = new Compiler(client, null, "test", () => undefined)
      const error: unknown = await compiler
        .compile(module, { arguments: 1, outputs: [] }, compileOptions())
        .then(() => undefined)
        .catch((reason: unknown) => reason)
      return deviceFailure("broken", "load")(error).message
    } finally {
      await closeClient(cpuPlugin)
    }
  }

  it.each([
    [
      "a value of another type",
      "stablehlo.dot_general",
      "contracting_dims = [1] x [0]",
      "contracting_dims = [1] x [7]",
      "loop/dot"
    ],
    [
      "an operation that is none",
      "stablehlo.exponential",
      "stablehlo.exponential",
      "stablehlo.nothing",
      "loop/softmax/exp"
    ]
  ])("%s", async (_, part, from, to, operation) => {
    const message = await refusal(broken(part, from, to))
    expect(message).toContain(`Program broken cannot be loaded (at ${operation}): `)
    expect(message).toMatch(new RegExp(`line ${lineOf(part)}: %\\d+ = ${to === "stablehlo.nothing" ? to : part}`))
  })

  it("what it says without a line is told as it is", async () => {
    const text = broken("stablehlo.exponential", "stablehlo.exponential", "stablehlo.custom_call @nobody")
    const shaped = text.text.replace(/(custom_call @nobody)\(? ?(%\d+)\)? : (tensor<4x4xf32>)/, "$1($2) : ($3) -> $3")
    const message = await refusal({ ...text, text: shaped })
    expect(message).toMatch(/cannot be loaded: .*custom call.* nobody/)
  })
})
