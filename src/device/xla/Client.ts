/**
 * A PJRT client: a plugin's hold on its devices, with buffers on them and executables. Buffers and executables are
 * destroyed by hand; the client counts the bytes of the buffers that are left, since not every plugin does.
 */
import type { Dtype } from "../../tensor/Tensor.ts"
import { byteWidth } from "../../tensor/Tensor.ts"
import { addressOf, allocate, type Block, pointersAt } from "../ffi.ts"
import { elementCount, type TypedArray } from "../HostTensor.ts"
import { serialized } from "./analysis.ts"
import { Arguments, elementTypes, namedValues, nativeText, type OptionValue, type Pjrt, textAt } from "./pjrt.ts"

/** Elements on a device. */
export class DeviceBuffer {
  /** Whole on one device: see `Laid` in Spread.ts. */
  readonly placement = undefined
  readonly shape: ReadonlyArray<number>
  readonly dtype: Dtype
  readonly byteLength: number
  readonly pointer: bigint
  readonly #client: Client
  #destroyed = false

  constructor(client: Client, pointer: bigint, dtype: Dtype, shape: ReadonlyArray<number>) {
    this.#client = client
    this.pointer = pointer
    this.dtype = dtype
    this.shape = shape
    this.byteLength = elementCount(shape) * byteWidth[dtype]
    client.count(this.byteLength)
  }

  get shards(): ReadonlyArray<DeviceBuffer> {
    return [this]
  }

  /** Gives the object and its memory back; once. */
  destroy(): void {
    if (this.#destroyed) return
    this.#destroyed = true
    this.#client.count(-this.byteLength)
    this.#client.pjrt.call("Buffer_Destroy", (a) => a.pointer(16, this.pointer))
  }
}

export interface DeviceMemory {
  readonly bytes: number
  readonly peakBytes: number
  /** All there is, where the plugin says so. */
  readonly limit: number | null
}

const noBytes = allocate(64)

export class Client {
  readonly pjrt: Pjrt
  readonly pointer: bigint
  readonly platform: string
  readonly platformVersion: string
  /** Addressable devices. */
  readonly devices: ReadonlyArray<bigint>
  /** Bytes of buffers that were made here and not destroyed. */
  bufferBytes = 0
  peakBufferBytes = 0
  readonly #shapes = new Map<string, Block>()

  private constructor(pjrt: Pjrt, pointer: bigint) {
    this.pjrt = pjrt
    this.pointer = pointer
    const text = (name: string) => {
      const a = pjrt.call(name, (args) => args.pointer(16, pointer))
      return textAt(a.pointerAt(24), a.sizeAt(32))
    }
    this.platform = text("Client_PlatformName")
    this.platformVersion = text("Client_PlatformVersion")
    const a = pjrt.call("Client_AddressableDevices", (args) => args.pointer(16, pointer))
    const [list, count] = [a.pointerAt(24), a.sizeAt(32)]
    this.devices = count > 0 ? [...pointersAt(list, count)] : []
  }

  /**
   * Makes a client. Throws PjrtFailure, as where there is no card.
   * @param keyValue a store that all hosts share, for a client over several: called until the client is destroyed
   */
  static async open(
    pjrt: Pjrt,
    options: Readonly<Record<string, OptionValue>> = {},
    keyValue?: { readonly get: bigint; readonly put: bigint; readonly tryGet: bigint }
  ): Promise<Client> {
    const values = namedValues(options)
    const fill = (args: Arguments) => {
      args.pointer(16, values.address).size(24, values.count)
      if (keyValue !== undefined) args.pointer(32, keyValue.get).pointer(48, keyValue.put).pointer(72, keyValue.tryGet)
    }
    return new Client(pjrt, (await pjrt.pooled("Client_Create", fill, values.kept)).pointerAt(64))
  }

  /** Which of the processes that share the client this is. */
  get processIndex(): number {
    return this.pjrt.call("Client_ProcessIndex", (a) => a.pointer(16, this.pointer)).intAt(24)
  }

  /** How many devices there are on all hosts. */
  get devicesEverywhere(): number {
    return this.pjrt.call("Client_Devices", (a) => a.pointer(16, this.pointer)).sizeAt(32)
  }

  /** The plugin counts nothing for us where it is a CPU. */
  count(bytes: number): void {
    this.bufferBytes += bytes
    if (this.bufferBytes > this.peakBufferBytes) this.peakBufferBytes = this.bufferBytes
  }

  /** What a device calls itself, as `NVIDIA H100 80GB HBM3`. */
  kindOf(device: bigint): string {
    const description = this.pjrt.call("Device_GetDescription", (a) => a.pointer(16, device)).pointerAt(24)
    const a = this.pjrt.call("DeviceDescription_Kind", (args) => args.pointer(16, description))
    return textAt(a.pointerAt(24), a.sizeAt(32))
  }

  /** The device's own account of its memory; null where the plugin keeps none. */
  memoryOf(device: bigint): DeviceMemory | null {
    if (!this.pjrt.has("Device_MemoryStats")) return null
    try {
      const a = this.pjrt.call("Device_MemoryStats", (args) => args.pointer(16, device))
      const optional = (at: number) => (a.byteAt(at + 8) !== 0 ? a.sizeAt(at) : null)
      const bytes = a.sizeAt(24)
      return { bytes, peakBytes: optional(32) ?? bytes, limit: optional(80) }
    } catch {
      return null
    }
  }

  #dims(shape: ReadonlyArray<number>): Block {
    const key = shape.join()
    const known = this.#shapes.get(key)
    if (known) return known
    const block = allocate(shape.length * 8)
    new BigInt64Array(block.buffer, block.byteOffset, shape.length).set(shape.map(BigInt))
    if (this.#shapes.size < 4096) this.#shapes.set(key, block)
    return block
  }

  /** Copies an array to a device; the array is free again when this returns. */
  put(data: TypedArray, dtype: Dtype, shape: ReadonlyArray<number>, device = this.devices[0]!): DeviceBuffer {
    const dims = this.#dims(shape)
    const a = this.pjrt.call("Client_BufferFromHostBuffer", (args) =>
      args
        .pointer(16, this.pointer)
        .pointer(24, data.length > 0 ? addressOf(data) : noBytes.address)
        .int(32, elementTypes[dtype])
        .pointer(40, dims.address)
        .size(48, shape.length)
        // 0: the elements are read during the call
        .int(72, 0)
        .pointer(80, device)
    )
    const [event, buffer] = [a.pointerAt(104), a.pointerAt(112)]
    if (event !== 0n) this.pjrt.destroyEvent(event)
    return new DeviceBuffer(this, buffer, dtype, shape)
  }

  /** Starts a copy of a buffer's elements into an array that must not move nor be given up; the event says when it is done. */
  get(buffer: DeviceBuffer, into: TypedArray): bigint {
    return this.pjrt
      .call("Buffer_ToHostBuffer", (a) =>
        a
          .pointer(16, buffer.pointer)
          .pointer(32, into.length > 0 ? addressOf(into) : noBytes.address)
          .size(40, into.byteLength)
      )
      .pointerAt(48)
  }

  /** Compiles a module (StableHLO as text or bytecode) for this client's devices, on another thread. Throws PjrtFailure. */
  async compile(module: string | Uint8Array, options: Uint8Array): Promise<bigint> {
    const [code, format, settings] = [nativeText(module), nativeText("mlir"), nativeText(options)]
    const source = new Arguments().pointer(16, code.address).size(24, code.byteLength)
    source.pointer(32, format.address).size(40, format.byteLength)
    const fill = (args: Arguments) =>
      args
        .pointer(16, this.pointer)
        .pointer(24, source.address)
        .pointer(32, settings.address)
        .size(40, settings.byteLength)
    return (await this.pjrt.pooled("Client_Compile", fill, [code, format, settings, source])).pointerAt(48)
  }

  /** An executable in bytes, for `deserialize` by the same plugin on the same kind of device. */
  serialize(executable: bigint): Uint8Array {
    return serialized(this.pjrt, executable)
  }

  /** Loads what `serialize` gave. Throws PjrtFailure for bytes that are none. */
  async deserialize(bytes: Uint8Array): Promise<bigint> {
    const block = nativeText(bytes)
    const fill = (args: Arguments) =>
      args.pointer(16, this.pointer).pointer(24, block.address).size(32, block.byteLength)
    return (await this.pjrt.pooled("Executable_DeserializeAndLoad", fill, [block])).pointerAt(40)
  }

  destroy(): void {
    this.pjrt.call("Client_Destroy", (a) => a.pointer(16, this.pointer))
  }
}
