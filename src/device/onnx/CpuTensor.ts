/** A tensor in aligned memory of this process, known to the runtime as a value over that memory. */

import type { Dtype } from "../../tensor/Tensor.ts"
import { byteWidth } from "../../tensor/Tensor.ts"
import { allocate, type Block, free } from "../ffi.ts"
import { elementCount, type HostTensor, type TypedArray, viewOf } from "../HostTensor.ts"
import { elementTypes } from "./api.ts"
import type { OrtTensor } from "./OrtTensor.ts"
import { dimensions, type Runtime } from "./runtime.ts"

/**
 * Constants rearranged for products, shared by the programs that hold the same constants: prefill, decode and scoring of
 * one policy have one copy. It goes with the last of them, so that a later version of the weights starts anew.
 */
export class Packing {
  readonly container: bigint
  readonly #runtime: Runtime
  #users = 0

  constructor(runtime: Runtime) {
    this.#runtime = runtime
    this.container = runtime.ort.createPrepackedWeightsContainer()
  }

  /** The packing that one of some constants has already, or a new one, for all of them. */
  static of(runtime: Runtime, constants: ReadonlyArray<CpuTensor>): Packing {
    const packing = constants.find((tensor) => tensor.packing !== undefined)?.packing ?? new Packing(runtime)
    for (const tensor of constants) tensor.packing ??= packing
    packing.#users++
    return packing
  }

  release(constants: ReadonlyArray<CpuTensor>): void {
    if (--this.#users > 0) return
    for (const tensor of constants) if (tensor.packing === this) tensor.packing = undefined
    this.#runtime.ort.releasePrepackedWeightsContainer(this.container)
  }
}

export class CpuTensor implements OrtTensor {
  readonly _tag = "DeviceTensor"
  readonly name: string
  readonly dtype: Dtype
  readonly shape: ReadonlyArray<number>
  readonly byteLength: number
  /** The elements where they lie. */
  readonly view: TypedArray
  /** The runtime's value over them. */
  readonly value: bigint
  /** How many loaded programs hold it as a constant. */
  constantOf = 0
  released = false
  /** What programs that hold it as a constant share. */
  packing: Packing | undefined
  readonly #block: Block
  readonly #runtime: Runtime
  #holders = 1

  constructor(runtime: Runtime, name: string, dtype: Dtype, shape: ReadonlyArray<number>) {
    const elements = elementCount(shape)
    this.#runtime = runtime
    this.name = name
    this.dtype = dtype
    this.shape = shape
    this.byteLength = elements * byteWidth[dtype]
    this.#block = allocate(this.byteLength)
    this.view = viewOf(dtype, this.#block.buffer, this.#block.byteOffset, elements)
    const { ort, memoryInfo } = runtime
    const dims = dimensions(shape)
    this.value = ort.createTensor(
      memoryInfo,
      this.#block.address,
      this.byteLength,
      dims.address,
      shape.length,
      elementTypes[dtype]
    )
  }

  /** Replaces the elements by those of an array of the same kind and length. */
  assign(data: TypedArray): void {
    if (data instanceof BigInt64Array) {
      if (this.view instanceof BigInt64Array) this.view.set(data)
    } else if (!(this.view instanceof BigInt64Array)) this.view.set(data)
  }

  /** The elements, copied to the host. */
  copy(): HostTensor {
    const { dtype, shape, view } = this
    return { dtype, shape, data: view.slice() } as HostTensor
  }

  /** Keeps the memory for another holder. */
  hold(): void {
    this.#holders++
  }

  /** One holder fewer; the memory goes with the last. */
  release(): void {
    if (--this.#holders > 0) return
    this.released = true
    this.#runtime.ort.releaseValue(this.value)
    free(this.#block)
  }
}
