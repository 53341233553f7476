/**
 * An ONNX graph under construction: nodes with unique names, constants stored once, run-time values of dimensions, and
 * nested scopes for the bodies of loops. Constants and dimension values always live in the outermost graph, where every
 * body can see them.
 */

import type { Atom, Dim, Shape } from "../../tensor/Dim.ts"
import { dimText, equalDims } from "../../tensor/Dim.ts"
import type { Dtype } from "../../tensor/Tensor.ts"
import { elementTypes } from "./api.ts"
import {
  type AttributeValue,
  attribute,
  type GraphProto,
  type NodeProto,
  type TensorProto,
  type ValueInfoProto,
  valueInfo
} from "./proto.ts"

/** The name of a value in the graph, "" where an optional operand is left out. */
export type Name = string

export interface NodeOptions {
  /** Number of outputs (1), or their names ("" for an unused one). */
  readonly outputs?: number | ReadonlyArray<Name>
  /** Operators outside ONNX itself. */
  readonly domain?: "com.microsoft"
}

interface Shared {
  nodes: number
  values: number
  readonly constants: Map<string, Name>
  readonly initializers: Array<TensorProto>
  /** Shape arithmetic, which depends on graph inputs only and goes before everything else. */
  readonly prologue: Array<NodeProto>
  readonly dims: Map<string, Name>
  readonly dimSources: Map<string, { readonly input: Name; readonly axis: number }>
}

/** Elements of a constant as little-endian bytes. */
const bytesOf = (dtype: Dtype, values: ArrayLike<number>): Uint8Array => {
  const typed = (() => {
    switch (dtype) {
      case "f32":
        return Float32Array.from(values)
      case "f64":
        return Float64Array.from(values)
      case "i32":
        return Int32Array.from(values)
      case "i64":
        return BigInt64Array.from(Array.from(values, BigInt))
      case "i8":
        return Int8Array.from(values)
      case "u8":
      case "bool":
        return Uint8Array.from(values)
      case "bf16":
        return Uint16Array.from(values, toBfloat16)
      case "f16":
        return Uint16Array.from(values, toFloat16)
    }
  })()
  return new Uint8Array(typed.buffer)
}

const float = new Float32Array(1)
const floatBits = new Uint32Array(float.buffer)

/** The upper half of a float32, rounded to nearest, ties to even. */
const toBfloat16 = (value: number): number => {
  float[0] = value
  const bits = floatBits[0]!
  return Number.isNaN(value) ? 0x7fc0 : (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16
}

const half = new Float16Array(1)
const halfBits = new Uint16Array(half.buffer)
const toFloat16 = (value: number): number => {
  half[0] = value
  return halfBits[0]!
}

export class Graph {
  readonly nodes: Array<NodeProto> = []
  readonly parent: Graph | undefined
  readonly #shared: Shared
  /** Prefixed to the names of nodes, so that an error says where in the program it happened. */
  label = ""

  constructor(parent?: Graph) {
    this.parent = parent
    this.#shared = parent
      ? parent.#shared
      : {
          nodes: 0,
          values: 0,
          constants: new Map(),
          initializers: [],
          prologue: [],
          dims: new Map(),
          dimSources: new Map()
        }
  }

  /** A value name that nothing else has. */
  fresh(): Name {
    return `v${this.#shared.values++}`
  }

  /** Adds a node and returns the names of its outputs. */
  nodeOf(
    opType: string,
    input: ReadonlyArray<Name>,
    attributes: Readonly<Record<string, AttributeValue>> = {},
    { outputs = 1, domain }: NodeOptions = {}
  ): ReadonlyArray<Name> {
    const node = this.#makeNode(opType, input, attributes, outputs, domain)
    this.nodes.push(node)
    return node.output
  }

  /** Adds a node with one output. */
  node(
    opType: string,
    input: ReadonlyArray<Name>,
    attributes: Readonly<Record<string, AttributeValue>> = {},
    options: NodeOptions = {}
  ): Name {
    return this.nodeOf(opType, input, attributes, options)[0]!
  }

  #makeNode(
    opType: string,
    input: ReadonlyArray<Name>,
    attributes: Readonly<Record<string, AttributeValue>>,
    outputs: number | ReadonlyArray<Name>,
    domain?: string
  ): NodeProto {
    return {
      name: `${this.label}${this.label ? "/" : ""}${opType}#${this.#shared.nodes++}`,
      opType,
      input,
      output: typeof outputs === "number" ? Array.from({ length: outputs }, () => this.fresh()) : outputs,
      attribute: Object.entries(attributes).map(([name, value]) => attribute(name, value)),
      ...(domain ? { domain } : {})
    }
  }

  /** A constant, stored once however often it is used. */
  constant(dtype: Dtype, dims: ReadonlyArray<number>, values: ArrayLike<number>): Name {
    const rawData = bytesOf(dtype, values)
    const key = `${dtype}[${dims}]${Buffer.from(rawData.buffer).toString("latin1")}`
    const known = this.#shared.constants.get(key)
    if (known !== undefined) return known
    const name = this.fresh()
    this.#shared.initializers.push({ name, dims, dataType: elementTypes[dtype], rawData })
    this.#shared.constants.set(key, name)
    return name
  }

  scalar(dtype: Dtype, value: number): Name {
    return this.constant(dtype, [], [value])
  }

  /** A one-dimensional int64 constant: axes, permutations, static shapes. */
  int64s(values: ReadonlyArray<number>): Name {
    return this.constant("i64", [values.length], values)
  }

  /** An initialiser whose memory the runtime is handed when a session is made. */
  external(name: Name, dtype: Dtype, dims: ReadonlyArray<number>, byteLength: number): void {
    this.#shared.initializers.push({
      name,
      dims,
      dataType: elementTypes[dtype],
      dataLocation: 1,
      externalData: [
        { key: "location", value: "memory" },
        { key: "offset", value: "0" },
        { key: "length", value: `${byteLength}` }
      ]
    })
  }

  /** Says that the size of the named dimensions of `shape` can be read off graph input `input`. */
  declareDims(input: Name, shape: Shape): void {
    shape.forEach((dim, axis) => {
      if (typeof dim === "number" || this.#shared.dimSources.has(dim.text)) return
      this.#shared.dimSources.set(dim.text, { input, axis })
    })
  }

  /** A dimension's size at run time, int64 [1]. Throws a RangeError where no input tells it. */
  dimValue(dim: Dim): Name {
    if (typeof dim === "number") return this.int64s([dim])
    const known = this.#shared.dims.get(dim.text)
    if (known !== undefined) return known
    const name = this.#dimValue(dim)
    this.#shared.dims.set(dim.text, name)
    return name
  }

  #dimValue(dim: Exclude<Dim, number>): Name {
    const source = this.#shared.dimSources.get(dim.text)
    if (source) return this.#early("Shape", [source.input], { start: source.axis, end: source.axis + 1 })
    const [first, ...rest] = dim.terms.map(({ coefficient, atoms }) => {
      if (atoms.length === 0) return this.int64s([coefficient])
      const product = atoms.map((atom) => this.#atomValue(atom)).reduce((a, b) => this.#early("Mul", [a, b]))
      return coefficient === 1 ? product : this.#early("Mul", [product, this.int64s([coefficient])])
    })
    return rest.reduce((a, b) => this.#early("Add", [a, b]), first!)
  }

  #atomValue(atom: Atom): Name {
    if (atom.kind === "ceil") {
      const denominator = this.dimValue(atom.denominator)
      const padded = this.#early("Add", [
        this.dimValue(atom.numerator),
        this.#early("Sub", [denominator, this.int64s([1])])
      ])
      return this.#early("Div", [padded, denominator])
    }
    const source = this.#shared.dimSources.get(atom.text)
    if (source === undefined) {
      throw new RangeError(
        `dimension "${atom.name}" is on no axis of any input by itself, so its size is unknown at run time; ` +
          `add an input with that axis, or specialise ${atom.name}`
      )
    }
    return this.dimValue({ terms: [{ coefficient: 1, atoms: [atom] }], text: atom.text })
  }

  #early(opType: string, input: ReadonlyArray<Name>, attributes: Readonly<Record<string, AttributeValue>> = {}): Name {
    const node = this.#makeNode(opType, input, attributes, 1)
    this.#shared.prologue.push({ ...node, name: `shape/${node.name}` })
    return node.output[0]!
  }

  /** A shape as an int64 vector. */
  shapeValue(shape: Shape): Name {
    if (shape.every((dim) => typeof dim === "number")) return this.int64s(shape)
    const parts = shape.map((dim) => this.dimValue(dim))
    const key = `[${shape.map(dimText)}]`
    const known = this.#shared.dims.get(key)
    if (known !== undefined) return known
    const name = parts.length === 1 ? parts[0]! : this.#early("Concat", parts, { axis: 0 })
    this.#shared.dims.set(key, name)
    return name
  }

  /**
   * The second operand of a Reshape from `from` to `to`: where it can be said with 0 (copy that axis of the input) and
   * one -1 (the rest), a constant; else computed.
   */
  reshapeTarget(from: Shape, to: Shape): Name {
    if (to.some((dim) => dim === 0)) return this.shapeValue(to)
    const target = to.map((dim, i) =>
      typeof dim === "number" ? dim : i < from.length && equalDims(dim, from[i]!) ? 0 : -1
    )
    return target.filter((d) => d === -1).length > 1 ? this.shapeValue(to) : this.int64s(target)
  }

  /** The finished outermost graph. */
  finish(name: string, input: ReadonlyArray<ValueInfoProto>, output: ReadonlyArray<ValueInfoProto>): GraphProto {
    const { prologue, initializers } = this.#shared
    return { name, node: [...prologue, ...this.nodes], initializer: initializers, input, output }
  }

  /** The finished body of a loop: its nodes only. */
  finishBody(name: string, input: ReadonlyArray<ValueInfoProto>, output: ReadonlyArray<ValueInfoProto>): GraphProto {
    return { name, node: this.nodes, initializer: [], input, output }
  }
}

/** A value's declaration, symbolic dimensions by their text. */
export const declare = (name: Name, dtype: Dtype, shape: Shape): ValueInfoProto =>
  valueInfo(
    name,
    elementTypes[dtype],
    shape.map((dim) => (typeof dim === "number" ? dim : dim.text))
  )
