/// <reference lib="esnext.float16" />
/** The element types of safetensors files, and what their bytes mean as float32. */

/** Bytes per element of every dtype that the reader accepts. */
export const sizes = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  U16: 2,
  I16: 2,
  F16: 2,
  BF16: 2,
  U32: 4,
  I32: 4,
  F32: 4,
  U64: 8,
  I64: 8,
  F64: 8
} as const
export type SafetensorsDtype = keyof typeof sizes

export const isDtype = (dtype: string): dtype is SafetensorsDtype => Object.hasOwn(sizes, dtype)

/** Elements of a shape. */
export const elements = (shape: ReadonlyArray<number>) => shape.reduce((n, dim) => n * dim, 1)

/** Raw little-endian data as float32: exact for F32, F16 and BF16, rounded for F64 and wide integers. */
export const toFloat32 = (dtype: SafetensorsDtype, raw: Uint8Array<ArrayBuffer>): Float32Array<ArrayBuffer> => {
  const n = raw.byteLength / sizes[dtype]
  const at = <T>(array: new (buffer: ArrayBuffer, offset: number, length: number) => T): T => {
    const aligned = raw.byteOffset % sizes[dtype] === 0 ? raw : raw.slice()
    return new array(aligned.buffer, aligned.byteOffset, n)
  }
  switch (dtype) {
    case "F32":
      return at(Float32Array<ArrayBuffer>)
    case "F16":
      return new Float32Array(at(Float16Array<ArrayBuffer>))
    case "BF16": {
      const half = at(Uint16Array<ArrayBuffer>)
      const bits = new Uint32Array(n)
      for (let i = 0; i < n; i++) bits[i] = half[i]! << 16
      return new Float32Array(bits.buffer)
    }
    case "F64":
      return new Float32Array(at(Float64Array<ArrayBuffer>))
    case "BOOL":
    case "U8":
      return new Float32Array(raw)
    case "I8":
      return new Float32Array(at(Int8Array<ArrayBuffer>))
    case "U16":
      return new Float32Array(at(Uint16Array<ArrayBuffer>))
    case "I16":
      return new Float32Array(at(Int16Array<ArrayBuffer>))
    case "U32":
      return new Float32Array(at(Uint32Array<ArrayBuffer>))
    case "I32":
      return new Float32Array(at(Int32Array<ArrayBuffer>))
    case "U64":
      return Float32Array.from(at(BigUint64Array<ArrayBuffer>), Number)
    case "I64":
      return Float32Array.from(at(BigInt64Array<ArrayBuffer>), Number)
  }
}

/** bfloat16's bits as the numbers that they are. */
export const fromBFloat16 = (half: Uint16Array): Float32Array<ArrayBuffer> => {
  const bits = new Uint32Array(half.length)
  for (let i = 0; i < half.length; i++) bits[i] = half[i]! << 16
  return new Float32Array(bits.buffer)
}

/** float32 as BF16 bits, rounded to nearest even; a NaN stays a NaN. */
export const toBFloat16 = (values: Float32Array): Uint16Array<ArrayBuffer> => {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length)
  const half = new Uint16Array(values.length)
  for (let i = 0; i < half.length; i++) {
    const b = bits[i]!
    const isNaN = (b & 0x7fffffff) > 0x7f800000
    half[i] = isNaN ? (b >>> 16) | 0x40 : (b + 0x7fff + ((b >>> 16) & 1)) >>> 16
  }
  return half
}
