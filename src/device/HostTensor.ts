/** Tensors in the memory of JavaScript: what goes to a device and what comes back. */

import type { Dtype } from "../tensor/Tensor.ts"

interface Arrays {
  readonly f64: Float64Array
  readonly f32: Float32Array
  /** Bits: bf16 and f16 have no typed array that says more. */
  readonly bf16: Uint16Array
  readonly f16: Uint16Array
  readonly i64: BigInt64Array
  readonly i32: Int32Array
  readonly i8: Int8Array
  readonly u8: Uint8Array
  /** 0 and 1. */
  readonly bool: Uint8Array
}

export type TypedArray = Arrays[Dtype]

/** Elements in row-major order. */
export type HostTensor = {
  [D in Dtype]: { readonly dtype: D; readonly shape: ReadonlyArray<number>; readonly data: Arrays[D] }
}[Dtype]

/** A tensor without elements. */
export interface TensorSpec {
  readonly name: string
  readonly dtype: Dtype
  readonly shape: ReadonlyArray<number>
  /**
   * Where its rows (the first axis) are those of several tensors, one after the other: how many each has, and how many rows
   * belong together (an attention head's). A device that cuts the tensor gives every part a share of each.
   */
  readonly stacked?: { readonly rows: ReadonlyArray<number>; readonly unit: number } | undefined
}

type Constructor = new (buffer: ArrayBuffer, byteOffset: number, length: number) => TypedArray

const constructors: Readonly<Record<Dtype, Constructor>> = {
  f64: Float64Array,
  f32: Float32Array,
  bf16: Uint16Array,
  f16: Uint16Array,
  i64: BigInt64Array,
  i32: Int32Array,
  i8: Int8Array,
  u8: Uint8Array,
  bool: Uint8Array
}

/** A typed array for a dtype over part of a buffer. */
export const viewOf = (dtype: Dtype, buffer: ArrayBuffer, byteOffset: number, length: number): TypedArray =>
  new constructors[dtype](buffer, byteOffset, length)

/** Whether a typed array can hold elements of a dtype. */
export const holds = (dtype: Dtype, data: TypedArray): boolean => data instanceof constructors[dtype]

/** The number of elements of a shape. */
export const elementCount = (shape: ReadonlyArray<number>): number => shape.reduce((n, dim) => n * dim, 1)

/** A host tensor from its parts. Throws a RangeError where the array's kind or length does not fit. */
export const hostTensor = <D extends Dtype>(
  dtype: D,
  shape: ReadonlyArray<number>,
  data: Arrays[D]
): HostTensor & { readonly dtype: D; readonly data: Arrays[D] } => {
  if (!holds(dtype, data)) {
    throw new RangeError(`a ${dtype} tensor holds a ${constructors[dtype].name}, not a ${data.constructor.name}`)
  }
  if (data.length !== elementCount(shape)) {
    throw new RangeError(`${data.length} elements do not fill the shape [${shape.join(", ")}]`)
  }
  const tensor: { dtype: Dtype; shape: ReadonlyArray<number>; data: TypedArray } = { dtype, shape, data }
  return tensor as HostTensor & { readonly dtype: D; readonly data: Arrays[D] }
}

export const f32 = (shape: ReadonlyArray<number>, data: ArrayLike<number>) =>
  hostTensor("f32", shape, data instanceof Float32Array ? data : Float32Array.from(data))
export const i32 = (shape: ReadonlyArray<number>, data: ArrayLike<number>) =>
  hostTensor("i32", shape, data instanceof Int32Array ? data : Int32Array.from(data))

/** The one element of a tensor of one element, as a number. */
export const scalarOf = (tensor: HostTensor): number => {
  if (tensor.data.length !== 1) throw new RangeError(`[${tensor.shape.join(", ")}] is no single element`)
  return Number(tensor.data[0])
}
