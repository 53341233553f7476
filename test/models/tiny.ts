import type { ParameterInputs, ParameterSpec, Part } from "../../src/models/parameters.ts"
import { parameterInputs } from "../../src/models/parameters.ts"
import { gradient } from "../../src/tensor/gradient.ts"
import { interpret } from "../../src/tensor/interpret.ts"
import { program } from "../../src/tensor/Program.ts"
import type { Tensor } from "../../src/tensor/Tensor.ts"

/** The value of a checkpoint tensor at a flat index: `fill` of test/golden/models/make.py. */
const wave = (name: string, i: number) => {
  const s = [...name].reduce((sum, character) => sum + character.charCodeAt(0), 0)
  const value = Math.sin(0.7 * i + s)
  return Math.fround(/norm\.weight$|LayerNorm\.weight$/.test(name) ? 1 + 0.1 * value : 0.3 * value)
}

const elements = (shape: ReadonlyArray<number>) => shape.reduce((n, dim) => n * dim, 1)

const filled = ({ name, shape }: Part) => Array.from({ length: elements(shape) }, (_, i) => wave(name, i))

/** Values of a parameter by the formula, from its parts. */
export const formula = (spec: ParameterSpec): Float32Array => Float32Array.from(spec.parts.flatMap(filled))

type Feed = { readonly shape: ReadonlyArray<number>; readonly data: ReadonlyArray<number> }

/** Runs a graph over a table of parameters (filled by the formula) in the reference interpreter, with gradients of `loss`. */
export const evaluateTiny = (
  table: ReadonlyArray<ParameterSpec>,
  build: (parameters: ParameterInputs) => Readonly<Record<string, Tensor>>,
  feeds: Readonly<Record<string, Feed>>
) => {
  const parameters = parameterInputs(table)
  const outputs = build(parameters)
  const grads = outputs["loss"] === undefined ? [] : gradient(outputs["loss"], parameters.all)
  const named = Object.fromEntries(grads.map((grad, i) => [`grad:${table[i]!.name}`, grad]))
  const result = interpret(program("tiny", { outputs: { ...outputs, ...named } }), {
    ...feeds,
    ...Object.fromEntries(table.map((spec) => [spec.name, { shape: spec.shape, data: formula(spec) }]))
  }).outputs
  /** Gradients by the checkpoint's names: norm, then the first three values, as the golden file holds them. */
  const gradients = new Map<string, ReadonlyArray<number>>()
  for (const { name, parts } of table) {
    const grad = result[`grad:${name}`]
    let at = 0
    for (const part of parts) {
      const values = Array.from(grad?.data.subarray(at, (at += elements(part.shape))) ?? [])
      gradients.set(part.name, [Math.hypot(...values), ...values.slice(0, 3)])
    }
  }
  return { outputs: result, gradients }
}
