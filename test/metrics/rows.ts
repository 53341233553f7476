/** Unit embeddings for tests, from vectors of any length. */
import type { Rows } from "../../src/rewards/matching.ts"

export const unitRows = (vectors: ReadonlyArray<ReadonlyArray<number>>): Rows => ({
  rows: vectors.length,
  width: vectors[0]?.length ?? 0,
  data: vectors.flatMap((vector) => {
    const length = Math.hypot(...vector)
    return vector.map((x) => x / length)
  })
})

/** One-hot rows: equal indices have cosine 1, others 0. */
export const oneHot = (indices: ReadonlyArray<number>, width = 12): Rows =>
  unitRows(indices.map((index) => Array.from({ length: width }, (_, k) => (k === index ? 1 : 0))))
