/** Elementwise operations in StableHLO, which broadcasts nothing by itself. */
import type { Binary, Comparison, Unary } from "../../../tensor/Tensor.ts"
import type { Lower } from "../Lowering.ts"
import { type Module, typeOf, type Value } from "../Module.ts"

/** Numpy's broadcast of several shapes; that they fit is known. */
const joint = (values: ReadonlyArray<Value>): ReadonlyArray<number> => {
  const rank = Math.max(...values.map(({ shape }) => shape.length))
  return Array.from({ length: rank }, (_, i) =>
    values.reduce((dim, { shape }) => {
      const own = shape[i - rank + shape.length] ?? 1
      return dim === 1 ? own : dim
    }, 1)
  )
}

/** Operations with one name and the type of their operand. */
const plainUnary: Readonly<Partial<Record<Unary, string>>> = {
  neg: "negate",
  abs: "abs",
  sign: "sign",
  exp: "exponential",
  expm1: "exponential_minus_one",
  log: "log",
  log1p: "log_plus_one",
  sqrt: "sqrt",
  rsqrt: "rsqrt",
  sin: "sine",
  cos: "cosine",
  tanh: "tanh",
  sigmoid: "logistic",
  floor: "floor",
  ceil: "ceil",
  round: "round_nearest_even",
  not: "not"
}

export const unary: Lower<"unary"> = ({ fn }, [x], to) => {
  const { module } = to
  const plain = plainUnary[fn]
  if (plain !== undefined) return [module.same(plain, x!)]
  switch (fn) {
    case "reciprocal":
      return [module.same("divide", module.splat(1, x!.dtype, x!.shape), x!)]
    case "erf":
      return [module.define(x!.dtype, x!.shape, `chlo.erf ${x!.name} : ${typeOf(x!)} -> ${typeOf(x!)}`)]
    case "isFinite": {
      const types = `(${typeOf(x!)}) -> ${typeOf({ dtype: "bool", shape: x!.shape })}`
      return [module.define("bool", x!.shape, `stablehlo.is_finite ${x!.name} : ${types}`)]
    }
    case "isNan":
      return [module.compare("NE", x!, x!)]
    default:
      throw new RangeError(`XLA's writer has no ${fn}`)
  }
}

const binaries: Readonly<Record<Binary, string>> = {
  add: "add",
  sub: "subtract",
  mul: "multiply",
  div: "divide",
  pow: "power",
  max: "maximum",
  min: "minimum",
  rem: "remainder",
  and: "and",
  or: "or",
  xor: "xor"
}

export const binary: Lower<"binary"> = ({ fn }, inputs, { module }) => {
  const shape = joint(inputs)
  return [module.same(binaries[fn], ...inputs.map((x) => module.broadcast(x, shape)))]
}

const comparisons: Readonly<Record<Comparison, Parameters<Module["compare"]>[0]>> = {
  equal: "EQ",
  notEqual: "NE",
  less: "LT",
  lessEqual: "LE",
  greater: "GT",
  greaterEqual: "GE"
}

export const compare: Lower<"compare"> = ({ fn }, inputs, { module }) => {
  const shape = joint(inputs)
  const [a, b] = inputs.map((x) => module.broadcast(x, shape))
  return [module.compare(comparisons[fn], a!, b!)]
}

export const select: Lower<"select"> = (_, inputs, { module }) => {
  const shape = joint(inputs)
  const [condition, a, b] = inputs.map((x) => module.broadcast(x, shape))
  return [module.select(condition!, a!, b!)]
}

export const cast: Lower<"cast"> = ({ dtype }, [x], { module }) => [module.convert(x!, dtype)]
