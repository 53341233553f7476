/**
 * What a process holds outside of JavaScript's heap, for tests that nothing is left there. Where the C library counts (glibc), by
 * its count: resident pages also have the heap and what V8 keeps for it, which is more or less as the collector likes, later
 * where the machine is full.
 */
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import koffi from "koffi"

setFlagsFromString("--expose-gc")
const collect: () => void = runInNewContext("gc")
setFlagsFromString("--no-expose-gc")

/** Of glibc: bytes in use within its arenas, and in mappings of their own. */
interface Mallinfo2 {
  readonly uordblks: number
  readonly hblkhd: number
}

const fields = [
  "arena",
  "ordblks",
  "smblks",
  "hblks",
  "hblkhd",
  "usmblks",
  "fsmblks",
  "uordblks",
  "fordblks",
  "keepcost"
]

const counted = ((): (() => number) | undefined => {
  if (process.platform !== "linux") return undefined
  try {
    const struct = koffi.struct("mallinfo2", Object.fromEntries(fields.map((name) => [name, "size_t"])))
    const mallinfo2 = koffi.load(null).func("mallinfo2", struct, [])
    return () => {
      const { hblkhd, uordblks }: Mallinfo2 = mallinfo2()
      return uordblks + hblkhd
    }
  } catch {
    return undefined
  }
})()

/** Bytes, after collections: array buffers that nobody has any more are gone with the second. */
export const nativeMemory = (): number => {
  for (let i = 0; i < 3; i++) collect()
  return counted?.() ?? process.memoryUsage().rss
}
