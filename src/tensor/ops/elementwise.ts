/**
 * Elementwise operations. Binary operands have one dtype and broadcast as in numpy; a plain number takes the dtype of
 * the other operand. At a tie, `max` and `min` give the derivative to the first operand.
 */
import type { Shape } from "../Dim.ts"
import { broadcastShapes, equalShapes } from "../Dim.ts"
import { erf as erfOf } from "../erf.ts"
import { mapArrays } from "../NdArray.ts"
import type { Rows } from "../ops.ts"
import type { Binary, Comparison, Dtype, Tensor, TensorType, Unary } from "../Tensor.ts"
import { apply1, isFloat, isInt, mismatch, typeText } from "../Tensor.ts"
import { constant } from "./leaf.ts"
import { sumTo } from "./reduce.ts"

export type Operand = Tensor | number

const unary =
  (fn: Unary) =>
  (x: Tensor): Tensor =>
    apply1({ kind: "unary", fn }, x)

export const neg = unary("neg")
export const abs = unary("abs")
export const sign = unary("sign")
export const exp = unary("exp")
export const expm1 = unary("expm1")
export const log = unary("log")
export const log1p = unary("log1p")
export const sqrt = unary("sqrt")
export const rsqrt = unary("rsqrt")
export const reciprocal = unary("reciprocal")
export const sin = unary("sin")
export const cos = unary("cos")
export const tanh = unary("tanh")
export const sigmoid = unary("sigmoid")
export const erf = unary("erf")
export const floor = unary("floor")
export const ceil = unary("ceil")
/** To the nearest integer, half to even. */
export const round = unary("round")
export const not = unary("not")
export const isFinite = unary("isFinite")
export const isNan = unary("isNan")

const operands = (what: string, a: Operand, b: Operand): [Tensor, Tensor] => {
  if (typeof a === "number") {
    if (typeof b === "number") throw new RangeError(`${what}: one operand must be a tensor`)
    return [constant(a, b.dtype), b]
  }
  return [a, typeof b === "number" ? constant(b, a.dtype) : b]
}

/**
 * Operands that were broadcast before are taken as they were, if the operation broadcasts them just as far: the
 * derivative of a sum meets its next product without being written out.
 */
const thin = (inputs: readonly Tensor[]): readonly Tensor[] => {
  const shapeOf = (list: readonly Tensor[]) =>
    list.reduce<Shape | undefined>((sum, { shape }) => sum && broadcastShapes(sum, shape), [])
  const full = shapeOf(inputs)
  return inputs.reduce<readonly Tensor[]>((list, x, i) => {
    if (x.node.op.kind !== "broadcast" || full === undefined) return list
    const thinner = list.with(i, x.node.inputs[0]!)
    const shape = shapeOf(thinner)
    return shape !== undefined && equalShapes(shape, full) ? thinner : list
  }, inputs)
}

const binary =
  (fn: Binary) =>
  (a: Operand, b: Operand): Tensor =>
    apply1({ kind: "binary", fn }, ...thin(operands(fn, a, b)))

export const add = binary("add")
export const sub = binary("sub")
export const mul = binary("mul")
/** Truncates on integers. */
export const div = binary("div")
export const pow = binary("pow")
export const max = binary("max")
export const min = binary("min")
/** The remainder, with the sign of the dividend. */
export const rem = binary("rem")
export const and = binary("and")
export const or = binary("or")
export const xor = binary("xor")

const compare =
  (fn: Comparison) =>
  (a: Operand, b: Operand): Tensor =>
    apply1({ kind: "compare", fn }, ...thin(operands(fn, a, b)))

export const equal = compare("equal")
export const notEqual = compare("notEqual")
export const less = compare("less")
export const lessEqual = compare("lessEqual")
export const greater = compare("greater")
export const greaterEqual = compare("greaterEqual")

/** `condition ? a : b`, elementwise with broadcasting. */
export const select = (condition: Tensor, a: Operand, b: Operand): Tensor =>
  apply1({ kind: "select" }, ...thin([condition, ...operands("select", a, b)]))

/** The tensor in another dtype; itself where it has it. */
export const cast = (x: Tensor, dtype: Dtype): Tensor => (x.dtype === dtype ? x : apply1({ kind: "cast", dtype }, x))

export const square = (x: Tensor): Tensor => mul(x, x)

/** `x` limited to `[low, high]`. */
export const clamp = (x: Tensor, low: number, high: number): Tensor => min(max(x, low), high)

interface UnaryRow {
  /** dx from dy, given x and y; absent where the derivative is zero. */
  readonly vjp: ((dy: Tensor, x: Tensor, y: Tensor) => Tensor) | undefined
  readonly evaluate: (x: number) => number
}

const roundHalfEven = (x: number): number => {
  const low = Math.floor(x)
  const rest = x - low
  if (rest !== 0.5) return Math.round(x)
  return low % 2 === 0 ? low : low + 1
}

/** Derivative and meaning of each unary function. */
export const unaryRows: Readonly<Record<Unary, UnaryRow>> = {
  neg: { vjp: (dy) => neg(dy), evaluate: (x) => -x },
  abs: { vjp: (dy, x) => mul(dy, sign(x)), evaluate: Math.abs },
  sign: { vjp: undefined, evaluate: Math.sign },
  exp: { vjp: (dy, _, y) => mul(dy, y), evaluate: Math.exp },
  expm1: { vjp: (dy, _, y) => mul(dy, add(y, 1)), evaluate: Math.expm1 },
  log: { vjp: (dy, x) => div(dy, x), evaluate: Math.log },
  log1p: { vjp: (dy, x) => div(dy, add(x, 1)), evaluate: Math.log1p },
  sqrt: { vjp: (dy, _, y) => div(mul(dy, 0.5), y), evaluate: Math.sqrt },
  rsqrt: { vjp: (dy, x, y) => mul(mul(dy, -0.5), div(y, x)), evaluate: (x) => 1 / Math.sqrt(x) },
  reciprocal: { vjp: (dy, _, y) => neg(mul(dy, square(y))), evaluate: (x) => 1 / x },
  sin: { vjp: (dy, x) => mul(dy, cos(x)), evaluate: Math.sin },
  cos: { vjp: (dy, x) => neg(mul(dy, sin(x))), evaluate: Math.cos },
  tanh: { vjp: (dy, _, y) => mul(dy, sub(1, square(y))), evaluate: Math.tanh },
  sigmoid: { vjp: (dy, _, y) => mul(dy, mul(y, sub(1, y))), evaluate: (x) => 1 / (1 + Math.exp(-x)) },
  erf: { vjp: (dy, x) => mul(dy, mul(exp(neg(square(x))), 2 / Math.sqrt(Math.PI))), evaluate: erfOf },
  floor: { vjp: undefined, evaluate: Math.floor },
  ceil: { vjp: undefined, evaluate: Math.ceil },
  round: { vjp: undefined, evaluate: roundHalfEven },
  not: { vjp: undefined, evaluate: (x) => (x === 0 ? 1 : 0) },
  isFinite: { vjp: undefined, evaluate: (x) => (Number.isFinite(x) ? 1 : 0) },
  isNan: { vjp: undefined, evaluate: (x) => (Number.isNaN(x) ? 1 : 0) }
}

interface BinaryRow {
  /** da and db, not yet summed over broadcast axes; absent where the derivative is zero. */
  readonly vjp:
    | undefined
    | {
        readonly left: (dy: Tensor, a: Tensor, b: Tensor, y: Tensor) => Tensor
        readonly right: (dy: Tensor, a: Tensor, b: Tensor, y: Tensor) => Tensor
      }
  readonly evaluate: (a: number, b: number) => number
}

const truncated = (x: Tensor): Tensor => mul(sign(x), floor(abs(x)))

/** Derivatives and meaning of each binary function. */
export const binaryRows: Readonly<Record<Binary, BinaryRow>> = {
  add: { vjp: { left: (dy) => dy, right: (dy) => dy }, evaluate: (a, b) => a + b },
  sub: { vjp: { left: (dy) => dy, right: (dy) => neg(dy) }, evaluate: (a, b) => a - b },
  mul: { vjp: { left: (dy, _, b) => mul(dy, b), right: (dy, a) => mul(dy, a) }, evaluate: (a, b) => a * b },
  div: {
    vjp: { left: (dy, _, b) => div(dy, b), right: (dy, _, b, y) => neg(mul(dy, div(y, b))) },
    evaluate: (a, b) => a / b
  },
  pow: {
    vjp: {
      left: (dy, a, b) => mul(dy, mul(b, pow(a, sub(b, 1)))),
      right: (dy, a, _, y) => mul(dy, mul(y, log(a)))
    },
    evaluate: (a, b) => a ** b
  },
  max: {
    vjp: {
      left: (dy, a, b) => select(greaterEqual(a, b), dy, 0),
      right: (dy, a, b) => select(greaterEqual(a, b), 0, dy)
    },
    evaluate: Math.max
  },
  min: {
    vjp: {
      left: (dy, a, b) => select(lessEqual(a, b), dy, 0),
      right: (dy, a, b) => select(lessEqual(a, b), 0, dy)
    },
    evaluate: Math.min
  },
  rem: {
    vjp: { left: (dy) => dy, right: (dy, a, b) => neg(mul(dy, truncated(div(a, b)))) },
    evaluate: (a, b) => a % b
  },
  and: { vjp: undefined, evaluate: (a, b) => a * b },
  or: { vjp: undefined, evaluate: Math.max },
  xor: { vjp: undefined, evaluate: (a, b) => (a === b ? 0 : 1) }
}

const comparisons: Readonly<Record<Comparison, (a: number, b: number) => boolean>> = {
  equal: (a, b) => a === b,
  notEqual: (a, b) => a !== b,
  less: (a, b) => a < b,
  lessEqual: (a, b) => a <= b,
  greater: (a, b) => a > b,
  greaterEqual: (a, b) => a >= b
}

const anyFloat = new Set<Unary>(["isFinite", "isNan"])
const anyNumber = new Set<Unary>(["neg", "abs", "sign"])
const logical = new Set<Binary>(["and", "or", "xor"])

const broadcastTypes = (what: string, inputs: readonly TensorType[]) => {
  const shape = inputs
    .slice(1)
    .reduce<TensorType["shape"] | undefined>((sum, { shape }) => sum && broadcastShapes(sum, shape), inputs[0]!.shape)
  if (shape === undefined) throw mismatch(what, inputs, "the shapes do not broadcast")
  return shape
}

const sameDtype = (what: string, inputs: readonly TensorType[]): Dtype => {
  const dtype = inputs[0]!.dtype
  if (inputs.some((input) => input.dtype !== dtype)) throw mismatch(what, inputs, "the dtypes differ: cast one of them")
  return dtype
}

export const elementwiseRows: Rows<"unary" | "binary" | "compare" | "select" | "cast"> = {
  unary: {
    type: ({ fn }, [x]) => {
      const { shape, dtype } = x!
      const fits = fn === "not" ? dtype === "bool" : isFloat(dtype) || (anyNumber.has(fn) && isInt(dtype))
      if (!fits) throw new RangeError(`${fn}: ${typeText(x!)} has a dtype that it is not defined for`)
      return [{ shape, dtype: anyFloat.has(fn) ? "bool" : dtype }]
    },
    vjp: ({ fn }, { inputs, outputs, cotangents }) => [unaryRows[fn].vjp?.(cotangents[0]!, inputs[0]!, outputs[0]!)],
    evaluate: ({ fn }, [x]) => [{ shape: x!.shape, data: x!.data.map(unaryRows[fn].evaluate) }]
  },
  binary: {
    type: ({ fn }, inputs) => {
      const dtype = sameDtype(fn, inputs)
      if (logical.has(fn) !== (dtype === "bool"))
        throw mismatch(fn, inputs, logical.has(fn) ? "it is defined for booleans" : "it is not defined for booleans")
      return [{ shape: broadcastTypes(fn, inputs), dtype }]
    },
    vjp: ({ fn }, { inputs, outputs, cotangents, needs }) => {
      const [a, b] = [inputs[0]!, inputs[1]!]
      const rule = binaryRows[fn].vjp
      if (rule === undefined) return []
      if (fn === "mul" && a === b) return [mul(cotangents[0]!, mul(a, 2)), undefined]
      const by = (side: "left" | "right", x: Tensor) => sumTo(rule[side](cotangents[0]!, a, b, outputs[0]!), x.shape)
      return [needs[0] ? by("left", a) : undefined, needs[1] ? by("right", b) : undefined]
    },
    evaluate: ({ fn }, inputs, { inputTypes }) => {
      const f = binaryRows[fn].evaluate
      const integer = fn === "div" && isInt(inputTypes[0]!.dtype)
      return [mapArrays(inputs, (a, b) => (integer ? Math.trunc(f(a!, b!)) : f(a!, b!)))]
    }
  },
  compare: {
    type: ({ fn }, inputs) => {
      if (sameDtype(fn, inputs) === "bool" && fn !== "equal" && fn !== "notEqual")
        throw mismatch(fn, inputs, "booleans have no order")
      return [{ shape: broadcastTypes(fn, inputs), dtype: "bool" }]
    },
    vjp: () => [],
    evaluate: ({ fn }, inputs) => [mapArrays(inputs, (a, b) => (comparisons[fn](a!, b!) ? 1 : 0))]
  },
  select: {
    type: (_, inputs) => {
      if (inputs[0]!.dtype !== "bool") throw mismatch("select", inputs, "the condition must be bool")
      return [{ shape: broadcastTypes("select", inputs), dtype: sameDtype("select", inputs.slice(1)) }]
    },
    vjp: (_, { inputs, cotangents, needs }) => {
      const [condition, a, b] = [inputs[0]!, inputs[1]!, inputs[2]!]
      const dy = cotangents[0]!
      return [
        undefined,
        needs[1] ? sumTo(select(condition, dy, 0), a.shape) : undefined,
        needs[2] ? sumTo(select(condition, 0, dy), b.shape) : undefined
      ]
    },
    evaluate: (_, inputs) => [mapArrays(inputs, (condition, a, b) => (condition !== 0 ? a! : b!))]
  },
  cast: {
    type: ({ dtype }, [x]) => [{ shape: x!.shape, dtype }],
    vjp: (_, { inputs, cotangents }) => [cast(cotangents[0]!, inputs[0]!.dtype)],
    evaluate: ({ dtype }, [x], { inputTypes }) => {
      const from = inputTypes[0]!.dtype
      if (dtype === "bool") return [{ shape: x!.shape, data: x!.data.map((v) => (v !== 0 ? 1 : 0)) }]
      if (isInt(dtype) && isFloat(from)) return [{ shape: x!.shape, data: x!.data.map(Math.trunc) }]
      return [x!]
    }
  }
}
