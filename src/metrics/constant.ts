/**
 * The best constant answer by a similarity: the same lines whatever was asked, chosen greedily from a pool by what each
 * adds to the mean coverage of some windows (a maximum-coverage problem: greedy reaches at least 1 - 1/e of the best,
 * Nemhauser, Wolsey and Fisher 1978). What it covers of *other* windows says what reading the prompt is worth.
 */
import { type Rows, similarities } from "../rewards/matching.ts"

/**
 * Rows of the pool [P, d], best first, at most `lines` of them, fewer where no further one adds anything; ties go to the
 * first. A reference of a window [M, d] is covered at cosine >= threshold by any line.
 */
export const bestLines = (
  windows: ReadonlyArray<Rows>,
  pool: Rows,
  lines: number,
  threshold: number
): ReadonlyArray<number> => {
  const parts = windows
    .filter(({ rows }) => rows > 0)
    .map((window) => ({
      rows: window.rows,
      near: Uint8Array.from(similarities(pool, window).data, (cos) => (cos >= threshold ? 1 : 0)),
      covered: new Uint8Array(window.rows)
    }))
  const gain = (line: number) =>
    parts.reduce((sum, { covered, near, rows }) => {
      let more = 0
      for (let m = 0; m < rows; m++) if (near[line * rows + m] && !covered[m]) more++
      return sum + more / rows
    }, 0)
  const chosen: Array<number> = []
  while (chosen.length < lines) {
    let [best, most] = [-1, 0]
    for (let line = 0; line < pool.rows; line++) {
      const adds = gain(line)
      if (adds > most) [best, most] = [line, adds]
    }
    if (best < 0) break
    chosen.push(best)
    for (const { covered, near, rows } of parts) for (let m = 0; m < rows; m++) covered[m]! |= near[best * rows + m]!
  }
  return chosen
}

/** A row of one of some windows. */
export interface Place {
  readonly window: number
  readonly row: number
}

/** References that are tried as lines of a constant answer, evenly spaced where there are more. */
const largestPool = 256

/**
 * For windows of even and of odd number the constant answer that is best on the other ones, made of their references: no
 * window has a say in what it is measured with. As many lines as a window has references on the whole, rounded.
 */
export const crossFitted = (
  windows: ReadonlyArray<Rows>,
  threshold: number
): readonly [even: ReadonlyArray<Place>, odd: ReadonlyArray<Place>] => {
  const references = windows.reduce((sum, { rows }) => sum + rows, 0)
  const lines = Math.max(1, Math.round(references / Math.max(1, windows.length)))
  const chosenOn = (parity: number): ReadonlyArray<Place> => {
    const fold = windows.flatMap((window, k) => (k % 2 === parity ? [{ window, k }] : []))
    const places = fold.flatMap(({ k, window: { rows } }) =>
      Array.from({ length: rows }, (_, row) => ({ window: k, row }))
    )
    const step = Math.max(1, places.length / largestPool)
    const tried = Array.from({ length: Math.min(places.length, largestPool) }, (_, i) => places[Math.floor(i * step)]!)
    const width = fold[0]?.window.width ?? 0
    const data = new Float64Array(tried.length * width)
    tried.forEach(({ row, window }, i) => {
      for (let d = 0; d < width; d++) data[i * width + d] = windows[window]!.data[row * width + d]!
    })
    const pool = { rows: tried.length, width, data }
    return bestLines(
      fold.map(({ window }) => window),
      pool,
      lines,
      threshold
    ).map((line) => tried[line]!)
  }
  return [chosenOn(1), chosenOn(0)]
}
