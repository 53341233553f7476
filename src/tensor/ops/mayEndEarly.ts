/**
 * Leave to end a loop before its trips are over, for writers that can: a `while` whose condition also reads the state. Whoever
 * cannot runs all trips, and nobody sees the difference, since from some trip on nothing is read that they change.
 */
import { dependents } from "../rewrite.ts"
import { apply, mismatch } from "../Tensor.ts"
import type { LoopResult } from "./control.ts"

/**
 * The loop once more, of which trips that begin where the first carried value, an i32 scalar, is 0 may be left out. What such
 * trips stack is void. A loop of one trip stays as it is.
 * Throws a RangeError for another first value, and for a carried value that does not come of it.
 */
export const mayEndEarly = ({ carried, stacked }: LoopResult): LoopResult => {
  const [first] = carried
  const node = first?.node
  if (first === undefined || first.dtype !== "i32" || first.shape.length > 0)
    throw mismatch("mayEndEarly", first ? [first] : [], "the first carried value is an i32 scalar")
  if (node?.op.kind !== "loop") return { carried, stacked }
  const { body, carried: count } = node.op
  // a program drops what nobody needs of a loop: what comes of the first value, in this trip or a later one, keeps it there
  const come = new Set([0])
  for (let before = 0; before !== come.size; ) {
    before = come.size
    const roots = [...come].map((i) => body.parameters[1 + i]!)
    const found = dependents(body.results.slice(0, count), roots)
    for (let i = 0; i < count; i++) if (found.has(body.results[i]!.node)) come.add(i)
  }
  for (let i = 0; i < count; i++)
    if (!come.has(i)) throw mismatch("mayEndEarly", [carried[i]!], `carried value ${i} does not come of the first`)
  const outputs = apply({ ...node.op, endsEarly: true }, node.inputs)
  return { carried: outputs.slice(0, count), stacked: outputs.slice(count) }
}
