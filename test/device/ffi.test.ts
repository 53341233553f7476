/** Memory whose address was given out is there when native code reads it. */
import { setTimeout as pause } from "node:timers/promises"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { describe, expect, it } from "vitest"
import {
  addressOf,
  alignment,
  allocate,
  bytesAt,
  free,
  pointerArray,
  remembered,
  stringArray
} from "../../src/device/ffi.ts"

setFlagsFromString("--expose-gc")
const collect: () => void = runInNewContext("gc")
setFlagsFromString("--no-expose-gc")

/**
 * Collects what nothing refers to; a WeakRef that was read is kept to the end of the turn, and what a collection that had begun
 * found alive to the end of that one.
 */
const collected = async () => {
  for (let i = 0; i < 3; i++) {
    await pause(1)
    collect()
  }
  await pause(1)
}

describe("native memory", () => {
  it("outlives its last mention for as long as a call can need it, and no longer", async () => {
    const forgotten = () => {
      const block = allocate(8)
      new BigInt64Array(block.buffer, block.byteOffset, 1).set([567n])
      return { address: block.address, block: new WeakRef(block.buffer) }
    }
    const { address, block } = forgotten()
    for (let i = 0; i < remembered.small - 1; i++) allocate(8)
    await collected()
    expect(new BigInt64Array(bytesAt(address, 8).buffer)[0]).toBe(567n)
    expect(block.deref()).toBeDefined()
    // This test can fail: what was given out long ago is gone.
    allocate(8)
    await collected()
    expect(block.deref()).toBeUndefined()
  })

  it("so do typed arrays whose address was asked for", async () => {
    const asked = () => {
      const array = new Float32Array(1 << 16).fill(2)
      return { address: addressOf(array), array: new WeakRef(array) }
    }
    const { array } = asked()
    await collected()
    expect(array.deref()).toBeDefined()
  })

  it("of large memory only the last is kept: weights that were copied are not held on to", async () => {
    const large = () => new WeakRef(allocate(2 ** 21).buffer)
    const blocks = Array.from({ length: remembered.large + 1 }, large)
    await collected()
    expect(blocks.map((block) => block.deref() !== undefined)).toEqual([false, true, true])
  })

  it("is aligned and zeroed, of its own even where it is empty, and gone when freed", () => {
    const [a, b] = [allocate(0), allocate(0)]
    expect(a.address).not.toBe(b.address)
    for (const size of [1, 7, 64, 1000]) {
      const block = allocate(size)
      expect(block.address % BigInt(alignment)).toBe(0n)
      expect([...bytesAt(block.address, size)].every((byte) => byte === 0)).toBe(true)
      free(block)
      expect(block.buffer.byteLength).toBe(0)
      free(block)
    }
  })

  it("holds C arrays of pointers and of strings", () => {
    const pointers = pointerArray([1n, 2n ** 40n])
    expect([...new BigUint64Array(bytesAt(pointers.address, 16).buffer)]).toEqual([1n, 2n ** 40n])
    const { pointers: list } = stringArray(["a", "", "Ωx"])
    const addresses = new BigUint64Array(bytesAt(list.address, 24).buffer)
    expect(Buffer.from(bytesAt(addresses[0]!, 3)).toString()).toBe("a\0\0")
    expect(Buffer.from(bytesAt(addresses[2]!, 4)).toString()).toBe("Ωx\0")
  })
})
