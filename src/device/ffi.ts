/**
 * Native code from TypeScript: shared libraries, tables of function pointers and memory that native code may keep
 * pointers into. Built on koffi; knows nothing of any one library, so every backend reached through a C API uses it.
 *
 * Four traps shape it: a library handle that is garbage-collected unmaps the code (so handles are kept for the life of
 * the process); the contents of a small typed array live in the JavaScript heap and move (so every block is an
 * ArrayBuffer of its own, whose contents never do); an address is no reference, and optimised code forgets a block after its
 * last mention, before the native call has read it (so the last blocks whose addresses were taken stay reachable); and
 * vectorised kernels peel loops by the address of their operands (so blocks are aligned, and the bits of a result do not
 * depend on where memory happened to lie).
 */

import koffi from "koffi"

/** An address in native memory; null is the null pointer. */
export type Pointer = bigint | null

/** A parameter or result type of a C function, in koffi's spelling. */
export type CType = "void *" | "const char *" | "const char16_t *" | "int" | "uint32_t" | "int64_t" | "size_t" | "void"

// Native kernels run on the stack that koffi provides; its defaults, 2 MiB and 128 KiB for calls on other threads, are less
// than a thread of the library's own has (a compiler that recurses over a program's operations overruns them).
koffi.config({ ...koffi.config(), sync_stack_size: 16 * 1024 * 1024, async_stack_size: 16 * 1024 * 1024 })

type Library = ReturnType<typeof koffi.load>
const libraries = new Map<string, Library>()

/** Opens the shared library at `path` (once per process; never unloaded). Throws the dynamic linker's message. */
export const loadLibrary = (path: string): Library => {
  const known = libraries.get(path)
  if (known) return known
  const library = koffi.load(path)
  libraries.set(path, library)
  return library
}

/** The exported function `name` of a library, typed by the caller. */
export const libraryFunction = <A extends ReadonlyArray<unknown>, R>(
  library: Library,
  name: string,
  result: CType,
  parameters: ReadonlyArray<CType>
): ((...args: A) => R) => library.func(name, result, [...parameters])

/** Makes the function at a native address callable. */
export const functionAt = <A extends ReadonlyArray<unknown>, R>(
  address: bigint,
  result: CType,
  parameters: ReadonlyArray<CType>
): ((...args: A) => R) => koffi.decode(address, koffi.proto(result, [...parameters]))

/** `count` pointers read from native memory at `address`: a C struct of function pointers. */
export const pointersAt = (address: bigint, count: number): BigUint64Array =>
  BigUint64Array.from(new BigUint64Array(koffi.view(address, count * 8)))

/** What the process itself exports, the C library's functions among it. */
export const ownLibrary = (): Library => koffi.load(null)

/** The address of an exported function. Throws the dynamic linker's message. */
export const symbolAddress = (library: Library, name: string): bigint => library.symbol(name)

/** A function of TypeScript as a C function of one pointer that gives one. */
export interface Callback {
  readonly address: bigint
  /** Frees it; native code must not call it any more. */
  readonly release: () => void
}

/**
 * Makes a function callable for native code, from any thread. It runs on the thread of JavaScript that made it, when its event
 * loop comes to it, while the caller waits: a thread that blocks in a native call, which itself waits for the callback, never
 * gets there. What it throws is lost, and the caller has a null pointer.
 */
export const callback = (f: (argument: bigint) => Pointer): Callback => {
  const address = koffi.register(f, koffi.pointer(koffi.proto("void *", ["void *"])))
  return { address, release: () => koffi.unregister(address) }
}

/** Native memory to read and write in place, for as long as native code keeps it. */
export const memoryAt = (address: bigint, count: number): DataView => new DataView(koffi.view(address, count))

/** The function at a native address that takes one pointer and gives one, run on a thread of libuv's pool. */
export const pooledFunctionAt = (address: bigint): ((argument: bigint) => Promise<Pointer>) => {
  const call: ReturnType<Library["func"]> = koffi.decode(address, koffi.proto("void *", ["void *"]))
  return (argument) =>
    new Promise((resolve, reject) => {
      call.async(argument, (error: unknown, result: Pointer) => (error ? reject(error) : resolve(result)))
    })
}

/** A copy of `count` bytes of native memory at `address`. */
export const bytesAt = (address: bigint, count: number): Uint8Array<ArrayBuffer> =>
  count === 0 ? new Uint8Array(0) : new Uint8Array(koffi.view(address, count)).slice()

/**
 * How many blocks and arrays stay reachable after their addresses were given out: more than any one call is handed. Of large
 * ones (1 MiB and more), which are a model's weights, a call has one; the last two stay.
 */
export const remembered = { small: 64, large: 2 }
const ringOf = (size: number) => ({ memory: new Array<unknown>(size), next: 0 })
const rings = { small: ringOf(remembered.small), large: ringOf(remembered.large) }
const remember = (memory: { readonly byteLength: number }): void => {
  const ring = memory.byteLength < 2 ** 20 ? rings.small : rings.large
  ring.memory[ring.next] = memory
  ring.next = (ring.next + 1) % ring.memory.length
}

/** The address of a typed array's elements. They move where the array is small: for the duration of a call only. */
export const addressOf = (array: NodeJS.TypedArray): bigint => {
  remember(array)
  return koffi.address(array)
}

/**
 * A zeroed, aligned block of memory that does not move. It is alive while it is referenced and not freed, and through the
 * native call that it was made for: what native code reads later must be referenced.
 */
export interface Block {
  readonly buffer: ArrayBuffer
  readonly byteOffset: number
  readonly byteLength: number
  readonly address: bigint
}

/** Alignment of every tensor, in bytes: a cache line and the widest vector register. */
export const alignment = 64

/** Allocates `byteLength` zeroed bytes (at least one alignment unit, so that the address is never shared). */
export const allocate = (byteLength: number): Block => {
  const buffer = new ArrayBuffer(Math.max(byteLength, 1) + alignment)
  const start: bigint = koffi.address(buffer)
  const byteOffset = Number((BigInt(alignment) - (start % BigInt(alignment))) % BigInt(alignment))
  remember(buffer)
  return { buffer, byteOffset, byteLength, address: start + BigInt(byteOffset) }
}

/** Gives a block's memory back at once; every view of it becomes empty. Native code must hold no pointer into it. */
export const free = (block: Block): void => {
  if (!block.buffer.detached) block.buffer.transfer(0)
}

/** A block that holds the given pointers, as a C array. */
export const pointerArray = (pointers: ReadonlyArray<bigint>): Block => {
  const block = allocate(pointers.length * 8)
  new BigUint64Array(block.buffer, block.byteOffset, pointers.length).set(pointers)
  return block
}

/** A block with the given strings, zero-terminated in UTF-8, and a C array of pointers to them. */
export const stringArray = (strings: ReadonlyArray<string>): { readonly text: Block; readonly pointers: Block } => {
  const encoded = strings.map((s) => Buffer.from(`${s}\0`, "utf8"))
  const text = allocate(encoded.reduce((sum, bytes) => sum + bytes.length, 0))
  const view = new Uint8Array(text.buffer, text.byteOffset, text.byteLength)
  let at = 0
  const pointers = encoded.map((bytes) => {
    view.set(bytes, at)
    const address = text.address + BigInt(at)
    at += bytes.length
    return address
  })
  return { text, pointers: pointerArray(pointers) }
}

/** A zero-terminated string in native memory, copied. */
export const stringAt = (address: bigint): string => koffi.decode(address, "char", -1)

const cell = allocate(8)
const cellValue = new BigUint64Array(cell.buffer, cell.byteOffset, 1)

/** Calls `f` with the address of an 8-byte cell and returns what native code left there (an out parameter). */
export const outParameter = (f: (cell: bigint) => void): bigint => {
  cellValue[0] = 0n
  f(cell.address)
  return cellValue[0]
}

/** Calls `f` with two cells, for the address of a C array of pointers and for its length; gives a copy of the array. */
export const outArray = (f: (first: bigint, count: bigint) => void): BigUint64Array => {
  const cells = allocate(16)
  f(cells.address, cells.address + 8n)
  const [first, count] = new BigUint64Array(cells.buffer, cells.byteOffset, 2)
  return count === 0n ? new BigUint64Array(0) : pointersAt(first!, Number(count))
}
