/** Numbers that are to agree: within a tolerance, relative above 1 and absolute below. */
import { assert } from "vitest"

/** The two comparisons at a tolerance that each call may replace. */
export const within = (usual: number) => {
  const close = (a: number, b: number, tolerance = usual, what = "") =>
    assert.isAtMost(Math.abs(a - b), tolerance * Math.max(1, Math.abs(b)), `${what} ${a} against ${b}`)
  const closeAll = (a: ReadonlyArray<number>, b: ReadonlyArray<number>, tolerance = usual, what = "") => {
    assert.lengthOf(a, b.length)
    for (const [i, value] of a.entries()) close(value, b[i]!, tolerance, `${what} at ${i}`)
  }
  return { close, closeAll }
}
