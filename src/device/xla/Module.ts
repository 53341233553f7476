/**
 * A StableHLO function as text, written one operation after the other. Shapes are numbers. Text carries no formal promise
 * between versions, so the writer keeps to plain operations of StableHLO (and three of CHLO) and plugins are pinned.
 */
import type { Dtype } from "../../tensor/Tensor.ts"
import { isFloat, isInt } from "../../tensor/Tensor.ts"

/** A value of the function: its name in the text, and its type. */
export interface Value {
  readonly name: string
  readonly dtype: Dtype
  readonly shape: ReadonlyArray<number>
}

const elements: Readonly<Record<Dtype, string>> = {
  f64: "f64",
  f32: "f32",
  bf16: "bf16",
  f16: "f16",
  i64: "i64",
  i32: "i32",
  i8: "i8",
  u8: "ui8",
  bool: "i1"
}

/** What a loop that may end early says in the program of how often it runs at most. */
export const mostTrips = "most_trips"

/** `tensor<2x3xf32>`. */
export const typeOf = ({ dtype, shape }: Pick<Value, "dtype" | "shape">): string =>
  `tensor<${shape.map((dim) => `${dim}x`).join("")}${elements[dtype]}>`

const bits = new DataView(new ArrayBuffer(8))

/** A literal element: floats as their bits, which is the only spelling of infinities and NaN, and exact. */
const literal = (value: number, dtype: "f64" | "f32" | "i64" | "i32" | "i8" | "u8" | "bool"): string => {
  if (dtype === "bool") return value === 0 ? "false" : "true"
  if (dtype === "f32") {
    bits.setFloat32(0, value)
    return `0x${bits.getUint32(0).toString(16).toUpperCase().padStart(8, "0")}`
  }
  if (dtype === "f64") {
    bits.setFloat64(0, value)
    return `0x${bits.getBigUint64(0).toString(16).toUpperCase().padStart(16, "0")}`
  }
  return BigInt(Math.trunc(value)).toString()
}

/** The value that no element of a dtype is above (`max`) or below (`min`). */
export const extreme = (dtype: Dtype, which: "max" | "min"): number => {
  const sign = which === "max" ? 1 : -1
  if (isFloat(dtype)) return sign * Number.POSITIVE_INFINITY
  if (dtype === "bool") return which === "max" ? 1 : 0
  if (dtype === "u8") return which === "max" ? 255 : 0
  const width = { i64: 63, i32: 31, i8: 7 }[dtype]
  // -2^63 is a double, 2^63 - 1 is none: the nearest below it serves as well
  return which === "min" ? -(2 ** width) : width === 63 ? 2 ** 63 - 1024 : 2 ** width - 1
}

export class Module {
  /** What is being written, as `attention/dot`: a line that is refused is named after it. */
  label = ""
  readonly #lines: Array<string> = []
  readonly #labels: Array<string> = []
  /** Lines of the finished text before the function's body. */
  #head = 2
  #constants: Array<Map<string, Value>> = [new Map()]
  #values = 0
  #depth = 1

  line(text: string): void {
    this.#labels.push(this.label)
    this.#lines.push(`${"  ".repeat(this.#depth)}${text}`)
  }

  /** Once finished: what a line of the text, counted from 1, was written for; undefined outside of the function's body. */
  labels(): (line: number) => string | undefined {
    const [labels, head] = [this.#labels, this.#head]
    return (line) => labels[line - 1 - head]
  }

  /** A name that nothing has yet. */
  fresh(): string {
    return `%${this.#values++}`
  }

  /** One operation with one result: `text` is what stands right of `=`. */
  define(dtype: Dtype, shape: ReadonlyArray<number>, text: string): Value {
    const name = this.fresh()
    this.line(`${name} = ${text}`)
    return { name, dtype, shape }
  }

  /** Writes a region between braces; constants made in it are not seen outside. */
  region<A>(write: () => A): A {
    this.#depth++
    this.#constants.push(new Map())
    const result = write()
    this.#constants.pop()
    this.#depth--
    return result
  }

  /** One value everywhere. */
  splat(value: number, dtype: Dtype, shape: ReadonlyArray<number> = []): Value {
    const key = `${Object.is(value, -0) ? "-0" : value} ${dtype} ${shape}`
    for (const scope of this.#constants) {
      const known = scope.get(key)
      if (known) return known
    }
    const made =
      dtype === "bf16" || dtype === "f16"
        ? this.convert(this.splat(value, "f32", shape), dtype)
        : this.define(dtype, shape, `stablehlo.constant dense<${literal(value, dtype)}> : ${typeOf({ dtype, shape })}`)
    this.#constants.at(-1)!.set(key, made)
    return made
  }

  /** Elements in row-major order. */
  constant(values: ReadonlyArray<number>, dtype: Dtype, shape: ReadonlyArray<number>): Value {
    if (values.length === 1 || values.length === 0) return this.splat(values[0] ?? 0, dtype, shape)
    if (dtype === "bf16" || dtype === "f16") return this.convert(this.constant(values, "f32", shape), dtype)
    const flat = [values.length]
    const list = values.map((value) => literal(value, dtype)).join(", ")
    const made = this.define(dtype, flat, `stablehlo.constant dense<[${list}]> : ${typeOf({ dtype, shape: flat })}`)
    return this.reshape(made, shape)
  }

  /** An operation of operands and a result of one type. */
  same(op: string, ...operands: ReadonlyArray<Value>): Value {
    const { dtype, shape } = operands[0]!
    return this.define(
      dtype,
      shape,
      `stablehlo.${op} ${operands.map((x) => x.name).join(", ")} : ${typeOf(operands[0]!)}`
    )
  }

  convert(x: Value, dtype: Dtype): Value {
    if (x.dtype === dtype) return x
    return this.define(dtype, x.shape, `stablehlo.convert ${x.name} : (${typeOf(x)}) -> ${typeOf({ ...x, dtype })}`)
  }

  reshape(x: Value, shape: ReadonlyArray<number>): Value {
    if (x.shape.length === shape.length && shape.every((dim, i) => dim === x.shape[i])) return x
    return this.define(x.dtype, shape, `stablehlo.reshape ${x.name} : (${typeOf(x)}) -> ${typeOf({ ...x, shape })}`)
  }

  /** Numpy's `broadcast_to`. */
  broadcast(x: Value, shape: ReadonlyArray<number>): Value {
    const lead = shape.length - x.shape.length
    if (lead === 0 && shape.every((dim, i) => dim === x.shape[i])) return x
    const dims = x.shape.map((_, i) => i + lead).join(", ")
    const types = `(${typeOf(x)}) -> ${typeOf({ ...x, shape })}`
    return this.define(x.dtype, shape, `stablehlo.broadcast_in_dim ${x.name}, dims = [${dims}] : ${types}`)
  }

  iota(dtype: Dtype, shape: ReadonlyArray<number>, axis: number): Value {
    return this.define(dtype, shape, `stablehlo.iota dim = ${axis} : ${typeOf({ dtype, shape })}`)
  }

  /** The value, laid out as a sharding says. */
  constrain(x: Value, sharding: string): Value {
    // the attribute stands here without its name
    const own = sharding.replace("#sdy.sharding", "")
    return this.define(x.dtype, x.shape, `sdy.sharding_constraint ${x.name} ${own} : ${typeOf(x)}`)
  }

  /**
   * What each device computes with its own parts: `write` gets the parts and gives the parts of the results. It sees no value
   * from outside.
   * @param over the mesh's axes, by name
   */
  manual(
    over: ReadonlyArray<string>,
    operands: ReadonlyArray<{ readonly value: Value; readonly part: Value["shape"]; readonly sharding: string }>,
    results: ReadonlyArray<{ readonly type: Omit<Value, "name">; readonly sharding: string }>,
    write: (parts: ReadonlyArray<Value>) => ReadonlyArray<Value>
  ): ReadonlyArray<Value> {
    const bare = (all: ReadonlyArray<{ readonly sharding: string }>) =>
      `[${all.map(({ sharding }) => sharding.replace("#sdy.sharding", "")).join(", ")}]`
    const parts = operands.map(({ part, value }) => ({ ...value, name: this.fresh(), shape: part }))
    const name = this.fresh()
    const layouts = `in_shardings=${bare(operands)} out_shardings=${bare(results)}`
    const axes = over.map((axis) => `"${axis}"`).join(", ")
    const heads = parts.map((x) => `${x.name}: ${typeOf(x)}`).join(", ")
    this.line(
      `${name}:${results.length} = sdy.manual_computation(${operands.map(({ value }) => value.name).join(", ")}) ${layouts} manual_axes={${axes}} (${heads}) {`
    )
    const outer = this.#constants
    this.#constants = []
    this.region(() => {
      const made = write(parts)
      this.line(`sdy.return ${made.map((x) => x.name).join(", ")} : ${made.map(typeOf).join(", ")}`)
    })
    this.#constants = outer
    const types = `(${operands.map(({ value }) => typeOf(value)).join(", ")}) -> (${results.map(({ type }) => typeOf(type)).join(", ")})`
    this.line(`} : ${types}`)
    return results.map(({ type }, i) => ({ ...type, name: `${name}#${i}` }))
  }

  /** Operands of one shape. */
  compare(how: "EQ" | "NE" | "LT" | "LE" | "GT" | "GE", a: Value, b: Value): Value {
    const kind = isFloat(a.dtype) ? "FLOAT" : isInt(a.dtype) && a.dtype !== "u8" ? "SIGNED" : "UNSIGNED"
    const types = `(${typeOf(a)}, ${typeOf(b)}) -> ${typeOf({ dtype: "bool", shape: a.shape })}`
    return this.define("bool", a.shape, `stablehlo.compare ${how}, ${a.name}, ${b.name}, ${kind} : ${types}`)
  }

  /** Operands of one shape. */
  select(condition: Value, a: Value, b: Value): Value {
    const types = `${typeOf(condition)}, ${typeOf(a)}`
    return this.define(a.dtype, a.shape, `stablehlo.select ${condition.name}, ${a.name}, ${b.name} : ${types}`)
  }

  slice(x: Value, axis: number, start: number, limit: number, stride = 1): Value {
    if (start === 0 && limit === x.shape[axis] && stride === 1) return x
    const ranges = x.shape.map((dim, i) =>
      i === axis ? `${start}:${limit}${stride === 1 ? "" : `:${stride}`}` : `0:${dim}`
    )
    const shape = x.shape.with(axis, Math.ceil((limit - start) / stride))
    const types = `(${typeOf(x)}) -> ${typeOf({ ...x, shape })}`
    return this.define(x.dtype, shape, `stablehlo.slice ${x.name} [${ranges.join(", ")}] : ${types}`)
  }

  transpose(x: Value, permutation: ReadonlyArray<number>): Value {
    const shape = permutation.map((axis) => x.shape[axis]!)
    const types = `(${typeOf(x)}) -> ${typeOf({ ...x, shape })}`
    return this.define(x.dtype, shape, `stablehlo.transpose ${x.name}, dims = [${permutation.join(", ")}] : ${types}`)
  }

  pad(x: Value, axis: number, before: number, after: number, value: number): Value {
    const shape = x.shape.with(axis, before + x.shape[axis]! + after)
    const amounts = (amount: number) => `[${x.shape.map((_, i) => (i === axis ? amount : 0)).join(", ")}]`
    const fill = this.splat(value, x.dtype)
    const text = `stablehlo.pad ${x.name}, ${fill.name}, low = ${amounts(before)}, high = ${amounts(after)}, interior = ${amounts(0)}`
    return this.define(x.dtype, shape, `${text} : (${typeOf(x)}, ${typeOf(fill)}) -> ${typeOf({ ...x, shape })}`)
  }

  concat(values: ReadonlyArray<Value>, axis: number): Value {
    const [first] = values
    const shape = first!.shape.with(
      axis,
      values.reduce((sum, x) => sum + x.shape[axis]!, 0)
    )
    const text = `stablehlo.concatenate ${values.map((x) => x.name).join(", ")}, dim = ${axis}`
    const types = `(${values.map(typeOf).join(", ")}) -> ${typeOf({ ...first!, shape })}`
    return this.define(first!.dtype, shape, `${text} : ${types}`)
  }

  /** Over some axes, which are dropped. */
  reduce(op: "add" | "maximum" | "minimum", x: Value, axes: ReadonlyArray<number>): Value {
    const start = op === "add" ? 0 : extreme(x.dtype, op === "maximum" ? "min" : "max")
    const init = this.splat(start, x.dtype)
    const shape = x.shape.filter((_, axis) => !axes.includes(axis))
    const types = `(${typeOf(x)}, ${typeOf(init)}) -> ${typeOf({ ...x, shape })}`
    const text = `stablehlo.reduce(${x.name} init: ${init.name}) applies stablehlo.${op} across dimensions = [${axes.join(", ")}]`
    return this.define(x.dtype, shape, `${text} : ${types}`)
  }

  /** The slice of size 1 at a scalar position of axis 0, without that axis. */
  sliceAt(x: Value, at: Value): Value {
    const sizes = x.shape.with(0, 1)
    const starts = [at, ...x.shape.slice(1).map(() => this.splat(0, "i32"))]
    const types = `(${[x, ...starts].map(typeOf).join(", ")}) -> ${typeOf({ ...x, shape: sizes })}`
    const text = `stablehlo.dynamic_slice ${[x, ...starts].map((y) => y.name).join(", ")}, sizes = [${sizes.join(", ")}]`
    return this.reshape(this.define(x.dtype, sizes, `${text} : ${types}`), x.shape.slice(1))
  }

  /** `x` with a slice put at a scalar position of axis 0. */
  updateAt(x: Value, piece: Value, at: Value): Value {
    const wide = this.reshape(piece, x.shape.with(0, 1))
    const starts = [at, ...x.shape.slice(1).map(() => this.splat(0, "i32"))]
    const types = `(${[x, wide, ...starts].map(typeOf).join(", ")}) -> ${typeOf(x)}`
    const text = `stablehlo.dynamic_update_slice ${[x, wide, ...starts].map((y) => y.name).join(", ")}`
    return this.define(x.dtype, x.shape, `${text} : ${types}`)
  }

  /**
   * Runs `step` for index 0, 1, ... `trips - 1` over a state; gives the last state. The step may read any value from outside.
   * @param going an integer scalar of the state: the loop ends before the first trip that finds it 0
   */
  repeat(
    trips: number,
    state: ReadonlyArray<Value>,
    step: (index: Value, state: ReadonlyArray<Value>) => ReadonlyArray<Value>,
    going?: (state: ReadonlyArray<Value>) => Value
  ): ReadonlyArray<Value> {
    const all = [this.splat(0, "i32"), ...state]
    const [limit, one] = [this.splat(trips, "i32"), this.splat(1, "i32")]
    const inner = all.map((x) => ({ ...x, name: this.fresh() }))
    const result = this.fresh()
    const types = all.map(typeOf).join(", ")
    const heads = all.map((x, i) => `${inner[i]!.name} = ${x.name}`).join(", ")
    this.line(`${result}:${all.length} = stablehlo.while(${heads}) : ${types}`)
    // XLA knows the trips of a loop that counts, and of no other
    if (going) this.line(`attributes {mhlo.frontend_attributes = {${mostTrips} = "${trips}"}}`)
    this.line("cond {")
    this.region(() => {
      const left = this.compare("LT", inner[0]!, limit)
      const goes = going?.(inner.slice(1))
      const more = goes ? this.same("and", left, this.compare("NE", goes, this.splat(0, goes.dtype))) : left
      this.line(`stablehlo.return ${more.name} : ${typeOf(more)}`)
    })
    this.line("} do {")
    this.region(() => {
      const next = step(inner[0]!, inner.slice(1))
      const results = [this.same("add", inner[0]!, one), ...next]
      this.line(`stablehlo.return ${results.map((x) => x.name).join(", ")} : ${types}`)
    })
    this.line("}")
    return state.map((x, i) => ({ ...x, name: `${result}#${i + 1}` }))
  }

  /**
   * The module, with its function `main`. An argument may be overwritten by the output of a number.
   * @param over where it runs on several devices: the line of their mesh, and the sharding of each result
   */
  finish(
    name: string,
    inputs: ReadonlyArray<
      Value & { readonly overwrittenBy: number | undefined; readonly sharding?: string | undefined }
    >,
    outputs: ReadonlyArray<Value>,
    over?: { readonly mesh: string; readonly shardings: ReadonlyArray<string> }
  ): string {
    const argument = ({ overwrittenBy, sharding, ...x }: (typeof inputs)[number]) => {
      const attributes = [
        ...(overwrittenBy === undefined ? [] : [`tf.aliasing_output = ${overwrittenBy} : i32`]),
        ...(sharding === undefined ? [] : [`sdy.sharding = ${sharding}`])
      ]
      return `${x.name}: ${typeOf(x)}${attributes.length === 0 ? "" : ` {${attributes.join(", ")}}`}`
    }
    const types = outputs.map(typeOf).join(", ")
    const results = outputs
      .map((x, i) => (over === undefined ? typeOf(x) : `${typeOf(x)} {sdy.sharding = ${over.shardings[i]}}`))
      .join(", ")
    this.#head = over === undefined ? 2 : 3
    return [
      `module @${name.replace(/[^A-Za-z0-9_]/g, "_")} {`,
      ...(over === undefined ? [] : [`  ${over.mesh}`]),
      `  func.func public @main(${inputs.map(argument).join(", ")}) -> (${results}) {`,
      ...this.#lines.map((line) => `  ${line}`),
      `    return${outputs.length > 0 ? ` ${outputs.map((x) => x.name).join(", ")} : ${types}` : ""}`,
      "  }",
      "}",
      ""
    ].join("\n")
  }
}
