/** Elementwise operators. Operands broadcast by themselves, so values stay as small as they are. */

import { broadcastShapes, type Shape } from "../../../tensor/Dim.ts"
import type { Dtype, PrimitiveOf, Tensor, Unary } from "../../../tensor/Tensor.ts"
import { isInt } from "../../../tensor/Tensor.ts"
import { elementTypes } from "../api.ts"
import type { Graph, Name } from "../Graph.ts"
import type { Lower, Lowering } from "../Lowering.ts"
import type { AttributeValue } from "../proto.ts"
import type { Choices } from "../provider.ts"
import { setStretch } from "./shape.ts"
import { sinCos } from "./sinCos.ts"

/** Functions that ONNX has under one name. */
const direct: Partial<Readonly<Record<Unary, string>>> = {
  neg: "Neg",
  abs: "Abs",
  sign: "Sign",
  exp: "Exp",
  log: "Log",
  sqrt: "Sqrt",
  reciprocal: "Reciprocal",
  sin: "Sin",
  cos: "Cos",
  tanh: "Tanh",
  sigmoid: "Sigmoid",
  erf: "Erf",
  floor: "Floor",
  ceil: "Ceil",
  round: "Round",
  not: "Not",
  isNan: "IsNaN"
}

/** Functions that are made of others, without losing digits near 0. */
const composed = (fn: Unary, x: Name, dtype: Dtype, { context, graph }: Lowering): Name => {
  const { signs } = context.choices
  const scalar = (value: number) => graph.scalar(dtype, value)
  switch (fn) {
    case "sin":
    case "cos":
      return sinCos(fn, x, graph)
    case "sign": {
      const negative = graph.node("Where", [graph.node("Less", [x, scalar(0)]), scalar(-1), x])
      return graph.node("Where", [graph.node("Greater", [x, scalar(0)]), scalar(1), negative])
    }
    case "neg":
      return graph.node("Sub", [scalar(0), x])
    case "abs":
      return graph.node("Where", [graph.node("Less", [x, scalar(0)]), graph.node("Sub", [scalar(0), x]), x])
    case "rsqrt":
      return graph.node("Reciprocal", [graph.node("Sqrt", [x])])
    case "isFinite":
      return graph.node("Not", [graph.node("Or", [graph.node("IsInf", [x]), graph.node("IsNaN", [x])])])
    case "expm1": {
      // 2 t / (1 - t) with t = tanh(x/2) keeps every digit near 0; exp(x) - 1 is exact enough elsewhere
      const t = graph.node("Tanh", [graph.node("Mul", [x, scalar(0.5)])])
      const near = graph.node("Div", [graph.node("Add", [t, t]), graph.node("Sub", [scalar(1), t])])
      const far = graph.node("Sub", [graph.node("Exp", [x]), scalar(1)])
      return graph.node("Where", [graph.node("Less", [graph.node("Abs", [x]), scalar(0.5)]), near, far])
    }
    case "log1p": {
      // log(u) x / (u - 1) with u = 1 + x, as rounded (Goldberg 1991, theorem 4); x itself where u is 1
      const u = graph.node("Add", [x, scalar(1)])
      const d = graph.node("Sub", [u, scalar(1)])
      const corrected = graph.node("Mul", [graph.node("Log", [u]), graph.node("Div", [x, d])])
      const tiny = graph.node("Equal", [d, scalar(0)])
      if (signs === "operator") {
        const infinite = graph.node("IsInf", [u])
        return graph.node("Where", [graph.node("Or", [tiny, infinite]), x, corrected])
      }
      const infinite = graph.node("Greater", [u, scalar(3.4028234663852886e38)])
      return graph.node("Where", [tiny, x, graph.node("Where", [infinite, x, corrected])])
    }
    default:
      throw new Error(`no lowering of ${fn}`)
  }
}

const binaryOperators: Readonly<Record<PrimitiveOf<"binary">["fn"], string>> = {
  add: "Add",
  sub: "Sub",
  mul: "Mul",
  div: "Div",
  pow: "Pow",
  max: "Max",
  min: "Min",
  rem: "Mod",
  and: "And",
  or: "Or",
  xor: "Xor"
}

const comparisonOperators: Readonly<Record<Exclude<PrimitiveOf<"compare">["fn"], "notEqual">, string>> = {
  equal: "Equal",
  less: "Less",
  lessEqual: "LessOrEqual",
  greater: "Greater",
  greaterEqual: "GreaterOrEqual"
}

/** Emits an operator over broadcasting operands and says what shape came out. */
const broadcasting = (
  to: Lowering,
  output: Tensor,
  inputs: ReadonlyArray<Tensor>,
  emit: (...names: ReadonlyArray<Name>) => Name
): void => {
  const values = inputs.map((x) => to.value(x))
  const shape = values.reduce<Shape | undefined>(
    (sum, value) => sum && broadcastShapes(sum, value.shape),
    values[0]!.shape
  )
  to.set(output, emit(...values.map((v) => v.name)), shape ?? output.shape)
}

/** Whether the provider's own operator does, for elements of a dtype. */
const isDirect = (fn: Unary, dtype: Dtype, { sinCos, signs }: Choices): boolean => {
  if (fn === "sin" || fn === "cos") return sinCos === "operator" || dtype !== "f32"
  if (signs === "operator" || dtype === "i64" || dtype === "f64") return true
  return fn !== "sign" && (dtype === "f32" || (fn !== "neg" && fn !== "abs"))
}

export const unary: Lower<PrimitiveOf<"unary">> = ({ fn }, inputs, [output], to) =>
  broadcasting(to, output!, inputs, (x) => {
    const { dtype } = inputs[0]!
    const operator = isDirect(fn, dtype, to.context.choices) ? direct[fn] : undefined
    return operator === undefined ? composed(fn, x!, dtype, to) : to.graph.node(operator, [x!])
  })

/** Logic of booleans where the provider has no operator for it. */
const composedLogic = (fn: "or" | "xor", a: Name, b: Name, graph: Graph): Name => {
  const not = (x: Name) => graph.node("Not", [x])
  return fn === "or" ? not(graph.node("And", [not(a), not(b)])) : not(equalBooleans(a, b, graph))
}

const equalBooleans = (a: Name, b: Name, graph: Graph): Name =>
  graph.node("Equal", [castTo(graph, a, "i32"), castTo(graph, b, "i32")])

export const binary: Lower<PrimitiveOf<"binary">> = ({ fn }, inputs, [output], to) => {
  const joined = fn === "add" ? to.joined(inputs[0]!, inputs[1]!) : undefined
  if (joined !== undefined) return setStretch(to, output!, joined)
  broadcasting(to, output!, inputs, (a, b) => {
    if ((fn === "or" || fn === "xor") && to.context.choices.signs === "composed") {
      return composedLogic(fn, a!, b!, to.graph)
    }
    const attributes: Readonly<Record<string, AttributeValue>> = fn === "rem" ? { fmod: 1 } : {}
    return to.graph.node(binaryOperators[fn], [a!, b!], attributes)
  })
}

export const compare: Lower<PrimitiveOf<"compare">> = ({ fn }, inputs, [output], to) =>
  broadcasting(to, output!, inputs, (a, b) => {
    const composed = inputs[0]!.dtype === "bool" && to.context.choices.signs === "composed"
    const equal = () => (composed ? equalBooleans(a!, b!, to.graph) : to.graph.node("Equal", [a!, b!]))
    if (fn === "notEqual") return to.graph.node("Not", [equal()])
    return fn === "equal" ? equal() : to.graph.node(comparisonOperators[fn], [a!, b!])
  })

export const castTo = (graph: Graph, x: Name, dtype: Dtype): Name =>
  graph.node("Cast", [x], { to: elementTypes[dtype] })

export const select: Lower<PrimitiveOf<"select">> = (_, inputs, [output], to) =>
  broadcasting(to, output!, inputs, (condition, a, b) => {
    const { graph } = to
    // Where has no kernel for bool
    if (output!.dtype !== "bool") return graph.node("Where", [condition!, a!, b!])
    const chosen = graph.node("Where", [condition!, castTo(graph, a!, "u8"), castTo(graph, b!, "u8")])
    return castTo(graph, chosen, "bool")
  })

export const cast: Lower<PrimitiveOf<"cast">> = ({ dtype }, inputs, [output], to) =>
  broadcasting(to, output!, inputs, (x) => {
    // floats that become small integers go through i32, so that they truncate in the same way everywhere
    const small = isInt(dtype) && dtype !== "i32" && dtype !== "i64" && !isInt(inputs[0]!.dtype)
    return castTo(to.graph, small && inputs[0]!.dtype !== "bool" ? castTo(to.graph, x!, "i32") : x!, dtype)
  })
