/**
 * Matching references with candidates by similarity.
 *
 * `greedy` is MBGM, the Mutual-Best Greedy Matching of OP-GRPO (arXiv 2602.20759): take the greatest remaining
 * similarity; stop when it is under the threshold; pair its row with its column and remove both. The authors' extra
 * test, that the cell is the maximum of its row and column, always holds for a global maximum, so the procedure *is*
 * greedy one-to-one matching. Ties go to the first cell in row-major order (as `numpy.nanargmax` has it).
 *
 * `maximum` pairs as many references as can be paired at all at the threshold (Hopcroft and Karp 1973). It does not
 * depend on the order of ties, and greedy matching never pairs more.
 */
import { Schema } from "effect"

/** Rows of equal width, row-major; rows of embeddings are unit vectors. */
export interface Rows {
  readonly rows: number
  readonly width: number
  readonly data: ArrayLike<number>
}

/** Similarities [rows, columns], row-major. */
export interface Similarities {
  readonly rows: number
  readonly columns: number
  readonly data: ArrayLike<number>
}

/** One matched pair: a row (reference) and a column (candidate). */
export interface Pair {
  readonly row: number
  readonly column: number
  readonly similarity: number
}

/** Which matching: the paper's greedy one, or one of maximum cardinality. */
export const Matching = Schema.Literals(["greedy", "maximum"])
export type Matching = typeof Matching.Type

/**
 * Dot products of the rows of `a` [M, d] with those of `b` [K, d], summed in float64: cosines if the rows are unit
 * vectors. Throws RangeError if the widths differ (unless one side has no rows).
 */
export const similarities = (a: Rows, b: Rows): Similarities => {
  if (a.rows > 0 && b.rows > 0 && a.width !== b.width) {
    throw new RangeError(
      `similarities of rows of different width: [${a.rows}, ${a.width}] against [${b.rows}, ${b.width}]`
    )
  }
  const data = new Float64Array(a.rows * b.rows)
  for (let i = 0; i < a.rows; i++) {
    for (let j = 0; j < b.rows; j++) {
      let sum = 0
      for (let k = 0; k < a.width; k++) sum += a.data[i * a.width + k]! * b.data[j * b.width + k]!
      data[i * b.rows + j] = sum
    }
  }
  return { rows: a.rows, columns: b.rows, data }
}

/** One-to-one pairs with similarity >= threshold, best first. NaN never matches. */
export const greedyMatching = (s: Similarities, threshold: number): ReadonlyArray<Pair> => {
  const cells: Array<number> = []
  for (let k = 0; k < s.rows * s.columns; k++) if (s.data[k]! >= threshold) cells.push(k)
  cells.sort((x, y) => s.data[y]! - s.data[x]! || x - y)
  const rowTaken = new Uint8Array(s.rows)
  const columnTaken = new Uint8Array(s.columns)
  const pairs: Array<Pair> = []
  for (const cell of cells) {
    const row = Math.floor(cell / s.columns)
    const column = cell % s.columns
    if (rowTaken[row] || columnTaken[column]) continue
    rowTaken[row] = columnTaken[column] = 1
    pairs.push({ row, column, similarity: s.data[cell]! })
  }
  return pairs
}

/** A matching of maximum cardinality among pairs with similarity >= threshold, by row. */
export const maximumMatching = (s: Similarities, threshold: number): ReadonlyArray<Pair> => {
  const columnOf = new Int32Array(s.rows).fill(-1)
  const rowOf = new Int32Array(s.columns).fill(-1)
  const joined = (row: number, column: number) => s.data[row * s.columns + column]! >= threshold
  const layer = new Int32Array(s.rows)

  const layered = (): boolean => {
    const queue: Array<number> = []
    for (let row = 0; row < s.rows; row++) {
      layer[row] = columnOf[row] === -1 ? 0 : -1
      if (layer[row] === 0) queue.push(row)
    }
    let reachesFree = false
    for (let head = 0; head < queue.length; head++) {
      const row = queue[head]!
      for (let column = 0; column < s.columns; column++) {
        if (!joined(row, column)) continue
        const next = rowOf[column]!
        if (next === -1) reachesFree = true
        else if (layer[next] === -1) {
          layer[next] = layer[row]! + 1
          queue.push(next)
        }
      }
    }
    return reachesFree
  }
  const augment = (row: number): boolean => {
    for (let column = 0; column < s.columns; column++) {
      if (!joined(row, column)) continue
      const next = rowOf[column]!
      if (next === -1 || (layer[next] === layer[row]! + 1 && augment(next))) {
        columnOf[row] = column
        rowOf[column] = row
        return true
      }
    }
    layer[row] = -1
    return false
  }
  while (layered()) for (let row = 0; row < s.rows; row++) if (columnOf[row] === -1) augment(row)

  const pairs: Array<Pair> = []
  for (let row = 0; row < s.rows; row++) {
    const column = columnOf[row]!
    if (column !== -1) pairs.push({ row, column, similarity: s.data[row * s.columns + column]! })
  }
  return pairs
}

/** Pairs of references (rows) and candidates (columns) by the named matching. */
export const match = (s: Similarities, threshold: number, matching: Matching): ReadonlyArray<Pair> =>
  matching === "greedy" ? greedyMatching(s, threshold) : maximumMatching(s, threshold)
