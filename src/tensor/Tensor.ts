/**
 * The intermediate representation: immutable nodes that apply an operation to tensors. A tensor is one output of one
 * node. Writers `switch` on `op.kind` (and on `fn` inside the elementwise and reduction families); a composite is
 * lowered by its name and attributes, or through its `decompose`.
 */
import type { Dim, Shape, ShapeLike } from "./Dim.ts"
import { equalShapes, shapeText, toShape } from "./Dim.ts"
import type { NdArray } from "./NdArray.ts"
import { rowOf } from "./ops.ts"

export type FloatDtype = "f64" | "f32" | "bf16" | "f16"
export type IntDtype = "i8" | "u8" | "i32" | "i64"
export type Dtype = FloatDtype | IntDtype | "bool"

export const isFloat = (dtype: Dtype): dtype is FloatDtype =>
  dtype === "f32" || dtype === "f64" || dtype === "bf16" || dtype === "f16"
export const isInt = (dtype: Dtype): dtype is IntDtype => !isFloat(dtype) && dtype !== "bool"

/** The bytes of one element. */
export const byteWidth: Readonly<Record<Dtype, number>> = {
  f64: 8,
  i64: 8,
  f32: 4,
  i32: 4,
  bf16: 2,
  f16: 2,
  i8: 1,
  u8: 1,
  bool: 1
}

export type Unary =
  | "neg"
  | "abs"
  | "sign"
  | "exp"
  | "expm1"
  | "log"
  | "log1p"
  | "sqrt"
  | "rsqrt"
  | "reciprocal"
  | "sin"
  | "cos"
  | "tanh"
  | "sigmoid"
  | "erf"
  | "floor"
  | "ceil"
  /** Half to even. */
  | "round"
  | "not"
  | "isFinite"
  | "isNan"

/** `div` truncates on integers; `rem` has the sign of the dividend; `and`, `or` and `xor` are for booleans. */
export type Binary = "add" | "sub" | "mul" | "div" | "pow" | "max" | "min" | "rem" | "and" | "or" | "xor"
export type Comparison = "equal" | "notEqual" | "less" | "lessEqual" | "greater" | "greaterEqual"
export type Reduction = "sum" | "max" | "min"

/** A subgraph without free tensors: its leaves are `parameter` nodes, in the order of `parameters`. */
export interface Body {
  readonly parameters: readonly Tensor[]
  readonly results: readonly Tensor[]
}

/** Operations that a writer must know. Axes are non-negative; shapes and sizes may be symbolic. */
export type Primitive =
  /** A named input of the program. */
  | { readonly kind: "input"; readonly name: string; readonly dtype: Dtype; readonly shape: Shape }
  /** The argument at `position` of a loop's body. */
  | { readonly kind: "parameter"; readonly position: number; readonly dtype: Dtype; readonly shape: Shape }
  /** A small literal, row-major; booleans are 0 and 1. */
  | {
      readonly kind: "constant"
      readonly values: readonly number[]
      readonly dtype: Dtype
      readonly shape: readonly number[]
    }
  /** One value everywhere. */
  | { readonly kind: "fill"; readonly value: number; readonly dtype: Dtype; readonly shape: Shape }
  /** 0, 1, 2, ... along `axis`. */
  | { readonly kind: "iota"; readonly axis: number; readonly dtype: Dtype; readonly shape: Shape }
  /** The size of a dimension, a scalar. */
  | { readonly kind: "size"; readonly dim: Dim; readonly dtype: Dtype }
  | { readonly kind: "unary"; readonly fn: Unary }
  /** Operands of one dtype, broadcast as in numpy. */
  | { readonly kind: "binary"; readonly fn: Binary }
  | { readonly kind: "compare"; readonly fn: Comparison }
  /** `condition ? a : b`, broadcast as in numpy. */
  | { readonly kind: "select" }
  /** Floats become integers by truncation, anything becomes a boolean by `!= 0`. */
  | { readonly kind: "cast"; readonly dtype: Dtype }
  | { readonly kind: "reshape"; readonly shape: Shape }
  /** Output axis i is input axis `permutation[i]`. */
  | { readonly kind: "transpose"; readonly permutation: readonly number[] }
  /** Numpy's `broadcast_to`. */
  | { readonly kind: "broadcast"; readonly shape: Shape }
  | {
      readonly kind: "slice"
      readonly axis: number
      readonly start: Dim
      readonly limit: Dim
      readonly stride: number
    }
  | {
      readonly kind: "pad"
      readonly axis: number
      readonly before: Dim
      readonly after: Dim
      readonly value: number
    }
  | { readonly kind: "concat"; readonly axis: number }
  /** `(x, indices)`: numpy's `take`: the axis is replaced by the shape of the indices, which lie in range. */
  | { readonly kind: "gather"; readonly axis: number }
  /** `(x, indices)`: numpy's `take_along_axis`. */
  | { readonly kind: "takeAlong"; readonly axis: number }
  /** `(values, indices)`: zeros of `size` along the axis, plus the values at their indices (repeats add up). */
  | { readonly kind: "putAlong"; readonly axis: number; readonly size: Dim }
  /** `(values [n, ...rest], ids [n])`: row s of the result [segments, ...rest] is the sum of the rows with id s. */
  | { readonly kind: "segmentSum"; readonly segments: Dim }
  /**
   * `(left [...batch, m, k], right [...batch, k, n] or [k, n])`: matrix product over the last two axes. A transposed
   * operand is stored as [..., k, m] (left) or [..., n, k] (right). Sums are taken in `accumulate` and rounded to
   * `dtype`. Floats have one dtype on both sides; i8 and u8 may be mixed.
   */
  | {
      readonly kind: "dot"
      readonly transposeLeft: boolean
      readonly transposeRight: boolean
      readonly accumulate: Dtype
      readonly dtype: Dtype
    }
  | {
      readonly kind: "reduce"
      readonly fn: Reduction
      readonly axes: readonly number[]
      readonly keepDims: boolean
    }
  /** The first index of the largest value, i32, without the axis. */
  | { readonly kind: "argMax"; readonly axis: number }
  | {
      readonly kind: "cumulativeSum"
      readonly axis: number
      readonly exclusive: boolean
      readonly reverse: boolean
    }
  /** The k largest along the last axis, descending (ties: lower index first): values, and indices in i32. */
  | { readonly kind: "topK"; readonly k: number }
  /**
   * Runs `body` `trips` times. Inputs: `carried` initial values, then `scanned` tensors [trips, ...], then tensors
   * that every iteration reads. Body parameters: iteration index (i32 scalar), carried, one slice of each scanned,
   * the rest. Body results: new carried values, then slices to stack. Outputs: last carried values, then the stacked
   * [trips, ...]. With `reverse`, iteration i sees index, slices and stack positions `trips - 1 - i`. With `endsEarly`,
   * iterations that begin where the first carried value, an i32 scalar, is 0 may be left out (`ops/mayEndEarly.ts`).
   */
  | {
      readonly kind: "loop"
      readonly trips: Dim
      readonly carried: number
      readonly scanned: number
      readonly reverse: boolean
      readonly endsEarly?: true
      readonly body: Body
    }
  /** Identity without a derivative. */
  | { readonly kind: "stopGradient" }
  /** Identity of every input; no output may be computed, merged or moved before all inputs are there. */
  | { readonly kind: "barrier" }
  /** Identity; `rematerialise` keeps the tensor instead of recomputing it. */
  | { readonly kind: "saveName"; readonly name: string }
  /** Identity; the mesh axis (or null) over which each axis is laid out. */
  | { readonly kind: "shard"; readonly axes: readonly (string | null)[] }

export type Kind = Primitive["kind"]
export type PrimitiveOf<K extends Kind> = Extract<Primitive, { readonly kind: K }>

/** Plain data that identifies a composite together with its name. */
export type Attribute = string | number | boolean | null | readonly Attribute[]
export type Attributes = { readonly [name: string]: Attribute }

/**
 * An operation with one definition in primitives, a derivative, and a name by which a writer may choose something
 * faster than the definition. `decompose` also fixes the output types.
 */
export interface Composite<A extends Attributes = Attributes> {
  readonly name: string
  decompose(inputs: readonly Tensor[], attributes: A): readonly Tensor[]
  /** Defaults to the derivative of the decomposition. */
  vjp?(context: VjpContext, attributes: A): readonly (Tensor | undefined)[]
  /** Programs hold the decomposition instead of the composite. */
  readonly inline?: boolean
}

export interface CompositeOp<A extends Attributes = Attributes> {
  readonly kind: "composite"
  readonly definition: Composite<A>
  readonly attributes: A
}

export type Op = Primitive | CompositeOp

export interface TensorType {
  readonly shape: Shape
  readonly dtype: Dtype
}

export interface Tensor extends TensorType {
  readonly node: Node
  /** Which output of the node. */
  readonly index: number
}

export interface Node {
  /** Grows with creation: sorting by it is a topological order. Programs number their nodes themselves. */
  readonly id: number
  readonly op: Op
  readonly inputs: readonly Tensor[]
  readonly outputs: readonly Tensor[]
}

/** What a derivative rule gets. */
export interface VjpContext {
  readonly inputs: readonly Tensor[]
  readonly outputs: readonly Tensor[]
  /** The derivative of the loss by each output, absent where it is zero; at least one is there. */
  readonly cotangents: readonly (Tensor | undefined)[]
  /** Which inputs' derivatives are wanted; others may be left undefined. */
  readonly needs: readonly boolean[]
}

/** What the interpreter offers to a row. */
export interface EvaluateContext {
  readonly size: (dim: Dim) => number
  readonly feed: (name: string) => NdArray
  readonly run: (body: Body, args: readonly NdArray[]) => readonly NdArray[]
  readonly inputTypes: readonly TensorType[]
}

/** Everything that makes a primitive: its types, its derivative (by input) and its meaning in float64. */
export interface Row<O> {
  /** Output types. Throws a RangeError with the shapes where the inputs do not fit. */
  type(op: O, inputs: readonly TensorType[]): readonly TensorType[]
  vjp(op: O, context: VjpContext): readonly (Tensor | undefined)[]
  evaluate(op: O, inputs: readonly NdArray[], context: EvaluateContext): readonly NdArray[]
}

let created = 0

/** A node whose output types are known. Use `apply`, which derives them, unless they are those of a node like it. */
export const makeNode = (op: Op, inputs: readonly Tensor[], types: readonly TensorType[]): Node => {
  const outputs: Tensor[] = []
  const node: Node = { id: created++, op, inputs, outputs }
  types.forEach(({ shape, dtype }, index) => {
    outputs.push({ node, index, shape, dtype })
  })
  return node
}

/** Applies a primitive; its row checks the inputs. */
export const apply = (op: Primitive, inputs: readonly Tensor[]): readonly Tensor[] =>
  makeNode(op, inputs, rowOf(op).type(op, inputs)).outputs

/** Applies a primitive with one output. */
export const apply1 = (op: Primitive, ...inputs: readonly Tensor[]): Tensor => apply(op, inputs)[0]!

/** Applies a composite; its decomposition checks the inputs and gives the output types. */
export const applyComposite = <A extends Attributes>(
  definition: Composite<A>,
  inputs: readonly Tensor[],
  attributes: A
): readonly Tensor[] =>
  makeNode({ kind: "composite", definition, attributes }, inputs, definition.decompose(inputs, attributes)).outputs

/** Whether an operation is a given composite, and so what its attributes are. */
export const isComposite = <A extends Attributes>(op: Op, definition: Composite<A>): op is CompositeOp<A> =>
  op.kind === "composite" && op.definition === definition

/** A named input of a program. */
export const input = (name: string, dtype: Dtype, shape: ShapeLike): Tensor =>
  apply1({ kind: "input", name, dtype, shape: toShape(shape) })

/** A fresh argument of a subgraph. */
export const parameter = (position: number, { dtype, shape }: TensorType): Tensor =>
  apply1({ kind: "parameter", position, dtype, shape })

export const typeText = ({ dtype, shape }: TensorType): string => `${dtype}${shapeText(shape)}`

/** The error for operands whose types do not fit. */
export const mismatch = (what: string, inputs: readonly TensorType[], why: string): RangeError =>
  new RangeError(`${what}: ${inputs.map(typeText).join(" and ")}: ${why}`)

/** Throws a RangeError that names both where a tensor has not the shape it must have. */
export const checkShape = (what: string, x: Tensor, shape: Shape): void => {
  if (!equalShapes(x.shape, shape))
    throw new RangeError(`${what}: ${typeText(x)} should be ${typeText({ dtype: x.dtype, shape })}`)
}
