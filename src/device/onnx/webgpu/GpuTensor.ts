/**
 * A tensor in a WebGPU device's memory. WebGPU forbids that one dispatch reads and writes the same buffer, so a program
 * whose last operator reads the tensor that it updates computes into a second buffer, which then becomes the first: nothing is
 * copied, and the tensor takes twice its memory from the first such run on. Where every reader comes before the operator that
 * writes (AdamW's moments), one buffer does.
 */
import type { Dtype } from "../../../tensor/Tensor.ts"
import { byteWidth } from "../../../tensor/Tensor.ts"
import { pointerArray } from "../../ffi.ts"
import { elementCount, type HostTensor, type TypedArray } from "../../HostTensor.ts"
import { elementTypes } from "../api.ts"
import { CpuTensor } from "../CpuTensor.ts"
import type { OrtTensor } from "../OrtTensor.ts"
import { dimensions } from "../runtime.ts"
import type { Gpu } from "./Gpu.ts"

export class GpuTensor implements OrtTensor {
  readonly _tag = "DeviceTensor"
  readonly name: string
  readonly dtype: Dtype
  readonly shape: ReadonlyArray<number>
  /** Bytes of the elements, once. */
  readonly byteLength: number
  constantOf = 0
  released = false
  readonly #gpu: Gpu
  #front: bigint
  #back: bigint | undefined
  #holders = 1

  /** With undefined elements: the device's buffers are used again. */
  constructor(gpu: Gpu, name: string, dtype: Dtype, shape: ReadonlyArray<number>) {
    this.#gpu = gpu
    this.name = name
    this.dtype = dtype
    this.shape = shape
    this.byteLength = elementCount(shape) * byteWidth[dtype]
    this.#front = this.#allocate()
  }

  get value(): bigint {
    return this.#front
  }

  /** The value over the second buffer. */
  get back(): bigint {
    this.#back ??= this.#allocate()
    return this.#back
  }

  /** Bytes that it takes on the device. */
  get deviceBytes(): number {
    return this.#back === undefined ? this.byteLength : 2 * this.byteLength
  }

  /** Makes the second buffer the first. */
  turn(): void {
    const back = this.back
    this.#back = this.#front
    this.#front = back
  }

  assign(data: TypedArray): void {
    if (this.byteLength === 0) return
    this.#staged((staging) => {
      staging.assign(data)
      this.#copy(staging.value, this.#front)
    })
    this.#gpu.traffic.toDevice += this.byteLength
  }

  /** Makes every element 0. */
  clear(): void {
    if (this.byteLength > 0) this.#staged((staging) => this.#copy(staging.value, this.#front))
  }

  copy(): HostTensor {
    const host = this.#staged((staging) => {
      if (this.byteLength > 0) this.#copy(this.#front, staging.value)
      return staging.copy()
    })
    this.#gpu.traffic.fromDevice += this.byteLength
    return host
  }

  hold(): void {
    this.#holders++
  }

  release(): void {
    if (--this.#holders > 0) return
    this.released = true
    const { gpu, ort } = { gpu: this.#gpu, ort: this.#gpu.runtime.ort }
    gpu.bytes -= this.deviceBytes
    ort.releaseValue(this.#front)
    if (this.#back !== undefined) ort.releaseValue(this.#back)
  }

  #allocate(): bigint {
    const { gpu, dims } = { gpu: this.#gpu, dims: dimensions(this.shape) }
    const type = elementTypes[this.dtype]
    const value = gpu.runtime.ort.createTensorIn(gpu.allocator, dims.address, this.shape.length, type)
    gpu.bytes += this.byteLength
    gpu.peakBytes = Math.max(gpu.peakBytes, gpu.bytes)
    return value
  }

  #copy(from: bigint, to: bigint): void {
    const { env, ort } = this.#gpu.runtime
    const [source, target] = [pointerArray([from]), pointerArray([to])]
    ort.copyTensors(env, source.address, target.address, null, 1)
  }

  #staged<A>(use: (staging: CpuTensor) => A): A {
    const staging = new CpuTensor(this.#gpu.runtime, this.name, this.dtype, this.shape)
    try {
      return use(staging)
    } finally {
      staging.release()
    }
  }
}
