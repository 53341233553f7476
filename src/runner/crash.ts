/** What native code wrote before it ended its own process, found among the last lines of a log. */

/** XLA's and absl's checks, C's assertions, exceptions that nobody caught, LLVM, the allocator, V8's heap. */
const words = [
  /Check failed: .+/,
  /Assertion .+ failed/,
  /what\(\): .+/,
  /terminate called .+/,
  /LLVM ERROR: .+/,
  /FATAL ERROR: .+/,
  /(?:double free|free\(\)|malloc\(\)|corrupted size|munmap_chunk\(\)).*/
]

/** The sentence by which it says why; undefined where it says nothing of the kind. The last one counts, of a line its first. */
export const causeOfCrash = (lines: ReadonlyArray<string>): string | undefined => {
  for (const word of words) {
    const found = lines.findLast((line) => word.test(line))
    if (found !== undefined) return word.exec(found)![0].trim().slice(0, 300)
  }
  return undefined
}
