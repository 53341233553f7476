/**
 * Trade-offs between two quantities that are both better when greater (negate one that is not): PL-score against diversity
 * in POPE (arXiv 2509.19333, Fig. 1).
 *
 *     envelope     the points that no other point dominates: none is at least as good in both and better in one
 *     hypervolume  area that the envelope dominates above a reference point, exact by sweeping from the right
 */

export interface Point {
  readonly x: number
  readonly y: number
}

const known = ({ x, y }: Point): boolean => Number.isFinite(x) && Number.isFinite(y)

/**
 * The undominated points by falling y (so by rising x), as indices into `points`; of equal points the first. Points with a
 * coordinate that is not finite are left out.
 */
export const envelope = (points: ReadonlyArray<Point>): ReadonlyArray<number> => {
  const order = points
    .map((point, index) => ({ ...point, index }))
    .filter(known)
    .sort((a, b) => b.x - a.x || b.y - a.y || a.index - b.index)
  const kept: Array<number> = []
  let highest = Number.NEGATIVE_INFINITY
  for (const { index, y } of order) {
    if (y <= highest) continue
    highest = y
    kept.push(index)
  }
  return kept.reverse()
}

/**
 * Area of the union of the rectangles from `reference` to each point that is better than it in both; 0 without any.
 * Throws RangeError for a reference that is not finite.
 */
export const hypervolume = (points: ReadonlyArray<Point>, reference: Point): number => {
  if (!known(reference))
    throw new RangeError(`a hypervolume needs a finite reference point, not (${reference.x}, ${reference.y})`)
  const better = points.filter(({ x, y }) => x > reference.x && y > reference.y)
  let [area, floor] = [0, reference.y]
  // From the right end: x falls, y rises.
  for (const index of envelope(better).toReversed()) {
    const { x, y } = better[index]!
    area += (x - reference.x) * (y - floor)
    floor = y
  }
  return area
}
