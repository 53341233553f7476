/**
 * The PJRT C API, as far as this project uses it: `GetPjrtApi()` of a plugin gives a struct of function pointers, each
 * `PJRT_Error* f(Args*)`, in an order that has only grown since version 0.33 (xla/pjrt/c/pjrt_c_api.h). An argument struct
 * begins with its size and an extension pointer; fields are 8 bytes apart, wherever this file writes one.
 *
 * A plugin refuses a struct smaller than its own and reads no more than it knows of a larger one, so every block is zeroed
 * and 256 bytes long, and says so where plugins of different ages want different sizes.
 */
import {
  allocate,
  type Block,
  bytesAt,
  functionAt,
  libraryFunction,
  loadLibrary,
  type Pointer,
  pointersAt,
  pooledFunctionAt
} from "../ffi.ts"

/** Versions of the API that were tried; a plugin's minor version must not be older. */
export const apiVersion = { major: 0, oldestMinor: 54 }

/** Why a plugin of a version is not used; undefined for one that is. */
export const versionProblem = ({ major, minor }: { readonly major: number; readonly minor: number }) =>
  major === apiVersion.major && minor >= apiVersion.oldestMinor
    ? undefined
    : `it speaks PJRT API ${major}.${minor}; wanted is ${apiVersion.major}.${apiVersion.oldestMinor} or a later ` +
      `${apiVersion.major}.x: \`exp device install\` brings one`

/** Functions by name, in the order of the struct. */
const order = `Error_Destroy Error_Message Error_GetCode
Plugin_Initialize Plugin_Attributes
Event_Destroy Event_IsReady Event_Error Event_Await Event_OnReady
Client_Create Client_Destroy Client_PlatformName Client_ProcessIndex Client_PlatformVersion Client_Devices
Client_AddressableDevices Client_LookupDevice Client_LookupAddressableDevice Client_AddressableMemories Client_Compile
Client_DefaultDeviceAssignment Client_BufferFromHostBuffer
DeviceDescription_Id DeviceDescription_ProcessIndex DeviceDescription_Attributes DeviceDescription_Kind
DeviceDescription_DebugString DeviceDescription_ToString
Device_GetDescription Device_IsAddressable Device_LocalHardwareId Device_AddressableMemories Device_DefaultMemory
Device_MemoryStats
Memory_Id Memory_Kind Memory_DebugString Memory_ToString Memory_AddressableByDevices
Executable_Destroy Executable_Name Executable_NumReplicas Executable_NumPartitions Executable_NumOutputs
Executable_SizeOfGeneratedCodeInBytes Executable_GetCostAnalysis Executable_OutputMemoryKinds
Executable_OptimizedProgram Executable_Serialize
LoadedExecutable_Destroy LoadedExecutable_GetExecutable LoadedExecutable_AddressableDevices LoadedExecutable_Delete
LoadedExecutable_IsDeleted LoadedExecutable_Execute Executable_DeserializeAndLoad LoadedExecutable_Fingerprint
Buffer_Destroy Buffer_ElementType Buffer_Dimensions Buffer_UnpaddedDimensions Buffer_DynamicDimensionIndices
Buffer_GetMemoryLayout Buffer_OnDeviceSizeInBytes Buffer_Device Buffer_Memory Buffer_Delete Buffer_IsDeleted
Buffer_CopyToDevice Buffer_ToHostBuffer Buffer_IsOnCpu Buffer_ReadyEvent Buffer_UnsafePointer
Buffer_IncreaseExternalReferenceCount Buffer_DecreaseExternalReferenceCount Buffer_OpaqueDeviceMemoryDataPointer
CopyToDeviceStream_Destroy CopyToDeviceStream_AddChunk CopyToDeviceStream_TotalBytes CopyToDeviceStream_GranuleSize
CopyToDeviceStream_CurrentBytes
TopologyDescription_Create TopologyDescription_Destroy TopologyDescription_PlatformName
TopologyDescription_PlatformVersion TopologyDescription_GetDeviceDescriptions TopologyDescription_Serialize
TopologyDescription_Attributes
Compile Executable_OutputElementTypes Executable_OutputDimensions Buffer_CopyToMemory Client_CreateViewOfDeviceBuffer
Executable_Fingerprint Client_TopologyDescription Executable_GetCompiledMemoryStats`.split(/\s+/)

/** Bytes before the first function pointer: struct size, extensions, and the version's own struct of 24. */
const headBytes = 40

/** Element types by their number in PJRT_Buffer_Type. */
export const elementTypes = { bool: 1, i8: 2, i32: 4, i64: 5, u8: 6, f16: 10, f32: 11, f64: 12, bf16: 13 } as const

/** Codes of errors that callers tell apart. */
export const codes = { invalidArgument: 3, resourceExhausted: 8, unimplemented: 12 } as const

/** A refused call: PJRT's error code (those of absl::StatusCode) and message. */
export class PjrtFailure extends Error {
  readonly code: number
  readonly call: string
  constructor(call: string, code: number, message: string) {
    super(message)
    this.call = call
    this.code = code
  }
}

/** A zeroed argument struct. */
export class Arguments {
  readonly block: Block
  readonly #view: DataView
  constructor(declared = 256, bytes = 256) {
    this.block = allocate(Math.max(bytes, declared))
    this.#view = new DataView(this.block.buffer, this.block.byteOffset, Math.max(bytes, declared))
    this.#view.setBigUint64(0, BigInt(declared), true)
  }
  get address(): bigint {
    return this.block.address
  }
  /** Zeroes all but the size. */
  clear(): this {
    new Uint8Array(this.block.buffer, this.block.byteOffset, this.#view.byteLength).fill(0, 8)
    return this
  }
  pointer(offset: number, value: Pointer): this {
    this.#view.setBigUint64(offset, value ?? 0n, true)
    return this
  }
  size(offset: number, value: number): this {
    this.#view.setBigUint64(offset, BigInt(value), true)
    return this
  }
  int(offset: number, value: number): this {
    this.#view.setInt32(offset, value, true)
    return this
  }
  float(offset: number, value: number): this {
    this.#view.setFloat32(offset, value, true)
    return this
  }
  pointerAt(offset: number): bigint {
    return this.#view.getBigUint64(offset, true)
  }
  sizeAt(offset: number): number {
    return Number(this.#view.getBigUint64(offset, true))
  }
  intAt(offset: number): number {
    return this.#view.getInt32(offset, true)
  }
  byteAt(offset: number): number {
    return this.#view.getUint8(offset)
  }
}

/** Text in native memory, alive as long as the object. */
export const nativeText = (text: string | Uint8Array): Block => {
  const bytes = typeof text === "string" ? Buffer.from(text, "utf8") : text
  const block = allocate(bytes.length)
  new Uint8Array(block.buffer, block.byteOffset, bytes.length).set(bytes)
  return block
}

/** Text of native memory. */
export const textAt = (address: bigint, bytes: number): string => Buffer.from(bytesAt(address, bytes)).toString("utf8")

/** A value that an option of a client or a topology may have. */
export type OptionValue = string | bigint | boolean | number

/** Options as an array of PJRT_NamedValue: an integer is written as a bigint, a number is a float. */
export const namedValues = (options: Readonly<Record<string, OptionValue>>) => {
  const entries = Object.entries(options)
  const array = new Arguments(56, 56 * Math.max(1, entries.length))
  const kept: Array<Block> = []
  const text = (value: string): Block => {
    const block = nativeText(value)
    kept.push(block)
    return block
  }
  entries.forEach(([name, value], i) => {
    const at = 56 * i
    const key = text(name)
    array
      .size(at, 56)
      .pointer(at + 16, key.address)
      .size(at + 24, key.byteLength)
    if (typeof value === "string") {
      const own = text(value)
      array
        .int(at + 32, 0)
        .pointer(at + 40, own.address)
        .size(at + 48, own.byteLength)
    } else if (typeof value === "bigint")
      array
        .int(at + 32, 1)
        .pointer(at + 40, BigInt.asUintN(64, value))
        .size(at + 48, 1)
    else if (typeof value === "number")
      array
        .int(at + 32, 3)
        .float(at + 40, value)
        .size(at + 48, 1)
    else
      array
        .int(at + 32, 4)
        .size(at + 40, value ? 1 : 0)
        .size(at + 48, 1)
  })
  return { address: entries.length > 0 ? array.address : null, count: entries.length, kept: [array.block, ...kept] }
}

/** RTLD_NOW and RTLD_NODELETE of Linux's <dlfcn.h>. */
const stays = 0x2 | 0x1000

/**
 * Keeps an open library mapped until the process is gone. koffi closes libraries when Node is taken down, and libuv's threads,
 * which end after that, run destructors of what the plugin left in them: in code that is no longer there.
 */
const pin = (path: string): void => {
  if (process.platform !== "linux") return
  const dlopen = (library: string) =>
    libraryFunction<[string, number], Pointer>(loadLibrary(library), "dlopen", "void *", ["const char *", "int"])
  let open: (path: string, flags: number) => Pointer
  try {
    open = dlopen("libc.so.6")
  } catch {
    // before glibc 2.34 it had a library of its own
    open = dlopen("libdl.so.2")
  }
  open(path, stays)
}

/** A plugin's functions. */
export class Pjrt {
  readonly path: string
  readonly version: { readonly major: number; readonly minor: number }
  readonly #addresses = new Map<string, bigint>()
  readonly #functions = new Map<string, (argument: bigint) => Pointer>()
  readonly #pooled = new Map<string, (argument: bigint) => Promise<Pointer>>()
  readonly #blocks = new Map<string, Arguments>()
  /** What calls on other threads point to. */
  readonly #flights = new Set<ReadonlyArray<unknown>>()

  /** Opens the plugin at a path. Throws the dynamic linker's message, or a PjrtFailure for a version that does not fit. */
  constructor(path: string) {
    this.path = path
    const table = libraryFunction<[], bigint>(loadLibrary(path), "GetPjrtApi", "void *", [])()
    pin(path)
    const head = new DataView(bytesAt(table, headBytes).buffer)
    this.version = { major: head.getInt32(32, true), minor: head.getInt32(36, true) }
    const problem = versionProblem(this.version)
    if (problem !== undefined) throw new PjrtFailure("GetPjrtApi", codes.unimplemented, problem)
    const bytes = Number(head.getBigUint64(0, true))
    const pointers = pointersAt(table + BigInt(headBytes), Math.min(order.length, (bytes - headBytes) / 8))
    pointers.forEach((address, i) => {
      if (address !== 0n) this.#addresses.set(order[i]!, address)
    })
    this.call("Plugin_Initialize")
  }

  has(name: string): boolean {
    return this.#addresses.has(name)
  }

  #address(name: string): bigint {
    const address = this.#addresses.get(name)
    if (address !== undefined) return address
    throw new PjrtFailure(name, codes.unimplemented, `the plugin has no PJRT_${name}`)
  }

  /** The function itself, for callers who keep their own argument blocks. */
  function(name: string): (argument: bigint) => Pointer {
    const known = this.#functions.get(name)
    if (known) return known
    const made = functionAt<[bigint], Pointer>(this.#address(name), "void *", ["void *"])
    this.#functions.set(name, made)
    return made
  }

  /**
   * Calls a function with an argument block that `fill` writes and gives the block back, to read its out fields before the
   * next call of that function. Throws PjrtFailure.
   */
  call(name: string, fill?: (args: Arguments) => void): Arguments {
    const args = this.#blocks.get(name)?.clear() ?? new Arguments()
    this.#blocks.set(name, args)
    fill?.(args)
    const error = this.function(name)(args.address)
    if (error !== null) throw this.failure(name, error)
    return args
  }

  /**
   * The same on a thread of libuv's pool: for calls that take long. The event loop goes on; `kept` is what the arguments
   * point to, which must not be collected before the call is done.
   */
  async pooled(name: string, fill: (args: Arguments) => void, kept: ReadonlyArray<unknown> = []): Promise<Arguments> {
    const call = this.#pooled.get(name) ?? pooledFunctionAt(this.#address(name))
    this.#pooled.set(name, call)
    const args = new Arguments()
    fill(args)
    const flight = [args, ...kept]
    this.#flights.add(flight)
    try {
      const error = await call(args.address)
      if (error !== null) throw this.failure(name, error)
      return args
    } finally {
      this.#flights.delete(flight)
    }
  }

  /** The failure that an error object tells of; the object is destroyed. */
  failure(name: string, error: bigint): PjrtFailure {
    const message = new Arguments().pointer(16, error)
    this.function("Error_Message")(message.address)
    const text = textAt(message.pointerAt(24), message.sizeAt(32))
    const code = new Arguments().pointer(16, error)
    this.function("Error_GetCode")(code.address)
    this.function("Error_Destroy")(new Arguments().pointer(16, error).address)
    return new PjrtFailure(name, code.intAt(24), text)
  }

  /** Whether what an event stands for is done. */
  isReady(event: bigint): boolean {
    return this.call("Event_IsReady", (a) => a.pointer(16, event)).byteAt(24) !== 0
  }

  /** Waits for an event and destroys it; blocks the thread. Throws the PjrtFailure that it ended with. */
  awaitEvent(event: bigint): void {
    try {
      this.call("Event_Await", (a) => a.pointer(16, event))
    } finally {
      this.destroyEvent(event)
    }
  }

  /** The same without blocking: an event that is not ready yet is waited for on a thread of libuv's pool. */
  async settle(event: bigint): Promise<void> {
    if (this.isReady(event)) return this.awaitEvent(event)
    try {
      await this.pooled("Event_Await", (a) => a.pointer(16, event))
    } finally {
      this.destroyEvent(event)
    }
  }

  /** The same for several: the first failure is thrown once all have ended, as until then memory is read and written. */
  async settleAll(events: ReadonlyArray<bigint>): Promise<void> {
    const ended = await Promise.allSettled(events.map((event) => this.settle(event)))
    const failed = ended.find((end) => end.status === "rejected")
    if (failed) throw failed.reason
  }

  destroyEvent(event: bigint): void {
    this.call("Event_Destroy", (a) => a.pointer(16, event))
  }
}
