/** Row-major arrays of float64, in which the reference interpreter computes every dtype (integers below 2^53). */
export interface NdArray {
  readonly shape: readonly number[]
  readonly data: Float64Array
}

export const elements = (shape: readonly number[]): number => shape.reduce((n, dim) => n * dim, 1)

export const zerosArray = (shape: readonly number[]): NdArray => ({
  shape,
  data: new Float64Array(elements(shape))
})

export const stridesOf = (shape: readonly number[]): number[] => {
  const strides = new Array<number>(shape.length).fill(1)
  for (let i = shape.length - 2; i >= 0; i--) strides[i] = strides[i + 1]! * shape[i + 1]!
  return strides
}

/** The product of the sizes before, at and after an axis. */
export const around = (shape: readonly number[], axis: number): [outer: number, size: number, inner: number] => [
  elements(shape.slice(0, axis)),
  shape[axis]!,
  elements(shape.slice(axis + 1))
]

/** The offset in an array of `shape`, broadcast to `target`, of each element of `target` in row-major order. */
export const broadcastOffsets = (shape: readonly number[], target: readonly number[]): Int32Array => {
  const lead = target.length - shape.length
  const own = stridesOf(shape)
  const strides = target.map((_, i) => (i < lead || shape[i - lead] === 1 ? 0 : own[i - lead]!))
  return stridedOffsets(target, strides)
}

/** The offsets `sum(index[i] * strides[i])` of each index of `shape` in row-major order. */
export const stridedOffsets = (shape: readonly number[], strides: readonly number[]): Int32Array => {
  const offsets = new Int32Array(elements(shape))
  const index = new Array<number>(shape.length).fill(0)
  let offset = 0
  for (let n = 0; n < offsets.length; n++) {
    offsets[n] = offset
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      index[axis]!++
      offset += strides[axis]!
      if (index[axis]! < shape[axis]!) break
      offset -= strides[axis]! * shape[axis]!
      index[axis] = 0
    }
  }
  return offsets
}

export const broadcastArrays = (arrays: readonly NdArray[]): readonly number[] => {
  const rank = Math.max(...arrays.map((array) => array.shape.length))
  return Array.from({ length: rank }, (_, i) =>
    arrays.reduce((size, { shape }) => {
      const dim = shape[i - rank + shape.length] ?? 1
      return size === 1 ? dim : size
    }, 1)
  )
}

/** Applies a function elementwise to arrays that are broadcast to one shape. */
export const mapArrays = (arrays: readonly NdArray[], f: (...values: number[]) => number): NdArray => {
  const shape = broadcastArrays(arrays)
  const result = zerosArray(shape)
  const offsets = arrays.map((array) => broadcastOffsets(array.shape, shape))
  const values = new Array<number>(arrays.length)
  for (let n = 0; n < result.data.length; n++) {
    for (let i = 0; i < arrays.length; i++) values[i] = arrays[i]!.data[offsets[i]![n]!]!
    result.data[n] = f(...values)
  }
  return result
}
