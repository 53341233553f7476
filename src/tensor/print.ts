/**
 * The readable text of a program. It is canonical: the same construction gives the same text in any process, so its
 * digest is the program's identity. Composites print by name and attributes.
 */
import type { Dim } from "./Dim.ts"
import { dimText, shapeText } from "./Dim.ts"
import type { Program } from "./Program.ts"
import { opName } from "./Program.ts"
import { reach } from "./rewrite.ts"
import type { Attribute, Node, Op, Tensor } from "./Tensor.ts"
import { typeText } from "./Tensor.ts"

const number = (value: number) => (Object.is(value, -0) ? "-0" : `${value}`)

const attributeText = (value: Attribute): string => {
  if (typeof value === "number") return number(value)
  if (typeof value === "string") return JSON.stringify(value)
  return value !== null && typeof value === "object" ? `[${value.map(attributeText).join(", ")}]` : `${value}`
}

type Field = readonly [name: string, text: string]

const flag = (name: string, on: boolean): readonly Field[] => (on ? [[name, "true"]] : [])
const dim = (name: string, value: Dim): Field => [name, dimText(value)]
const list = (values: readonly (number | string | null)[]) =>
  `[${values.map((v) => (typeof v === "number" ? number(v) : v)).join(", ")}]`

/** What an operation is, beside its name and the types of its outputs. */
const fields = (op: Op): readonly Field[] => {
  switch (op.kind) {
    case "input":
      return [["name", JSON.stringify(op.name)]]
    case "parameter":
      return [["position", `${op.position}`]]
    case "constant":
      return [["values", list(op.values)]]
    case "fill":
      return [["value", number(op.value)]]
    case "size":
      return [dim("dim", op.dim)]
    case "iota":
    case "concat":
    case "gather":
    case "takeAlong":
    case "argMax":
      return [["axis", `${op.axis}`]]
    case "transpose":
      return [["permutation", list(op.permutation)]]
    case "slice":
      return [["axis", `${op.axis}`], dim("start", op.start), dim("limit", op.limit), ["stride", `${op.stride}`]]
    case "pad":
      return [["axis", `${op.axis}`], dim("before", op.before), dim("after", op.after), ["value", number(op.value)]]
    case "putAlong":
      return [["axis", `${op.axis}`], dim("size", op.size)]
    case "segmentSum":
      return [dim("segments", op.segments)]
    case "dot":
      return [
        ...flag("transposeLeft", op.transposeLeft),
        ...flag("transposeRight", op.transposeRight),
        ["accumulate", op.accumulate]
      ]
    case "reduce":
      return [["axes", list(op.axes)], ...flag("keepDims", op.keepDims)]
    case "cumulativeSum":
      return [["axis", `${op.axis}`], ...flag("exclusive", op.exclusive), ...flag("reverse", op.reverse)]
    case "topK":
      return [["k", `${op.k}`]]
    case "loop":
      return [
        dim("trips", op.trips),
        ["carried", `${op.carried}`],
        ["scanned", `${op.scanned}`],
        ...flag("reverse", op.reverse),
        ...flag("endsEarly", op.endsEarly === true)
      ]
    case "saveName":
      return [["name", JSON.stringify(op.name)]]
    case "shard":
      return [["axes", list(op.axes)]]
    case "composite":
      return Object.entries(op.attributes)
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([name, value]) => [name, attributeText(value)])
    case "unary":
    case "binary":
    case "compare":
    case "select":
    case "cast":
    case "reshape":
    case "broadcast":
    case "stopGradient":
    case "barrier":
      return []
  }
}

const graphText = (nodes: readonly Node[], names: Map<Tensor, string>, indent: string): readonly string[] =>
  nodes.flatMap((node) => {
    const { op } = node
    const args = node.inputs.map((x) => names.get(x)!).join(", ")
    const outputs = node.outputs.map((x) => {
      const name = `%${names.size}`
      names.set(x, name)
      return `${name}: ${typeText(x)}`
    })
    const attributes = fields(op)
      .map(([name, text]) => `${name}=${text}`)
      .join(", ")
    const line = `${indent}${outputs.join(", ")} = ${opName(op)}(${args})${attributes && ` {${attributes}}`}`
    if (op.kind !== "loop") return [line]
    const own = new Map(names)
    const parameters = op.body.parameters.map((x) => {
      const name = `%${own.size}`
      own.set(x, name)
      return `${name}: ${typeText(x)}`
    })
    const known = new Set(op.body.parameters)
    const inner = graphText(
      reach(op.body.results, (x) => known.has(x)),
      own,
      `${indent}  `
    )
    const results = op.body.results.map((x) => own.get(x)!).join(", ")
    return [`${line} (${parameters.join(", ")}) {`, ...inner, `${indent}  return ${results}`, `${indent}}`]
  })

/** The program as text, one node a line. */
export const print = (program: Program): string => {
  const names = new Map<Tensor, string>()
  const lines = graphText(program.nodes, names, "  ")
  const outputs = [...program.outputs].map(([name, x]) => `${name}=${names.get(x)!}${shapeText(x.shape)}`)
  const donated = [...program.donate].map(([output, from]) => `${output}<-${from}`)
  return [
    `program ${program.name} {`,
    ...lines,
    `  return ${outputs.join(", ")}`,
    ...(donated.length > 0 ? [`  donate ${donated.join(", ")}`] : []),
    "}",
    ""
  ].join("\n")
}
