/** Reshapes of padded tensors: factors go over to the new axes as they are where they fit, which moves nothing. */
import type { Dim } from "../../../tensor/Dim.ts"
import { divideDims, equalDims } from "../../../tensor/Dim.ts"
import { gather } from "../../../tensor/ops/indexing.ts"
import { reshape as reshapeTensor } from "../../../tensor/ops/shape.ts"
import {
  dimOf,
  elementAt,
  type Factor,
  isExact,
  type Layout,
  merged,
  type Padded,
  placeOf,
  placesOf,
  within
} from "./Layout.ts"
import type { Sizes } from "./Sizes.ts"

const quotient = (a: Dim, b: Dim): Dim | undefined => {
  try {
    return divideDims(a, b)
  } catch {
    return undefined
  }
}

/** The factors dealt out to axes of given sizes, in order; undefined where an axis would cut through a factor. */
const dealt = (factors: Layout, shape: ReadonlyArray<Dim>): ReadonlyArray<Layout> | undefined => {
  const queue = [...factors]
  const result: Array<Layout> = []
  for (const dim of shape) {
    const taken: Array<Factor> = []
    let need: Dim = dim
    while (need !== 1) {
      const factor = queue.shift()
      if (factor === undefined) return undefined
      const rest = equalDims(factor.dim, need) ? 1 : quotient(need, factor.dim)
      if (rest !== undefined) {
        taken.push(factor)
        need = rest
      } else if (typeof factor.dim === "number" && typeof need === "number" && need > 0 && factor.dim % need === 0) {
        taken.push({ dim: need, places: need })
        queue.unshift({ dim: factor.dim / need, places: factor.dim / need })
        need = 1
      } else return undefined
    }
    result.push(merged(taken))
  }
  return queue.every(({ dim }) => dim === 1) ? result : undefined
}

/** @param layoutFor how an axis of a size is laid out where nothing else says so. */
export const reshape = (
  sizes: Sizes,
  x: Padded,
  shape: ReadonlyArray<Dim>,
  layoutFor: (dim: Dim) => Layout
): Padded => {
  const physical = (layouts: ReadonlyArray<Layout>) => layouts.map(placesOf)
  const direct = dealt(merged(x.layouts.flat()), shape)
  if (direct !== undefined) {
    return { tensor: reshapeTensor(x.tensor, physical(direct)), layouts: direct, clean: x.clean }
  }
  // equal axes at the end stay; what is before them is looked up, element by element
  let same = 0
  const [from, to] = [x.layouts, shape]
  while (same < Math.min(from.length, to.length) && equalDims(dimOf(from.at(-1 - same)!), to.at(-1 - same)!)) same++
  const tail = from.slice(from.length - same)
  const source = from.slice(0, from.length - same).flat()
  const layouts = shape.slice(0, shape.length - same).map(layoutFor)
  const target = layouts.flat()
  const flat = reshapeTensor(x.tensor, [placesOf(source), ...physical(tail)])
  const index = within(placeOf(sizes, source, elementAt(sizes, target)), placesOf(source))
  const all = [...layouts, ...tail]
  return {
    tensor: reshapeTensor(gather(flat, index, 0), physical(all)),
    layouts: all,
    clean: isExact(target) && x.clean
  }
}
