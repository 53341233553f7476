/** In which order rows are visited: every pass a new permutation, each a function of the seed and the pass alone. */
import { permutation, stream } from "../device/random.ts"

/**
 * The rows of step k when every step takes `size` rows of `count`. Passes do not overlap: a short last batch is dropped,
 * so the rows of a step are distinct; with fewer rows than a batch, a step takes all of them. Throws RangeError without rows.
 */
export const stepRows = (seed: number, purpose: string, count: number, size: number) => {
  if (count < 1) throw new RangeError(`${purpose}: there are no rows [${count}] to take ${size} of`)
  const taken = Math.min(size, count)
  const perPass = Math.max(1, Math.floor(count / taken))
  let pass = -1
  let order: Int32Array = new Int32Array(0)
  return (k: number): ReadonlyArray<number> => {
    const wanted = Math.floor(k / perPass)
    if (wanted !== pass) {
      order = permutation(stream(seed, purpose, "order", wanted), count)
      pass = wanted
    }
    const at = (k % perPass) * taken
    return Array.from(order.subarray(at, at + taken))
  }
}

/** By step, the rows that no earlier step has: of `steps` steps the first ones, of more steps the same and then others. */
export const firstVisits = (
  steps: number,
  rowsOf: (k: number) => ReadonlyArray<number>
): ReadonlyArray<ReadonlyArray<number>> => {
  const seen = new Set<number>()
  return Array.from({ length: steps }, (_, k) => {
    const rows = rowsOf(k).filter((row) => !seen.has(row))
    for (const row of rows) seen.add(row)
    return rows
  })
}
