/** One place of every row written anew, over padded tensors: rows and places that are not there write nothing. */
import { overwriteOp } from "../../../tensor/composites/overwrite.ts"
import { cast, less, select } from "../../../tensor/ops/elementwise.ts"
import { applyComposite, type CompositeOp, isComposite } from "../../../tensor/Tensor.ts"
import { dimOf, filled, isDense, isExact, type Padded, relaid } from "./Layout.ts"
import type { Sizes } from "./Sizes.ts"

/** The padded output; undefined where the operation is another, or elements do not lie at their own places. */
export const paddedOverwrite = (
  op: CompositeOp,
  [x, values, places]: ReadonlyArray<Padded>,
  sizes: Sizes
): ReadonlyArray<Padded> | undefined => {
  if (!isComposite(op, overwriteOp)) return undefined
  const { axis } = op.attributes
  const { layouts } = x!
  // places are elements' only where these lie one after the other
  if (!isDense(layouts[axis]!)) return undefined
  const beside = layouts.toSpliced(axis, 1)
  const given = beside.reduce((y, layout, i) => relaid(sizes, y, i, layout), values!)
  const at = relaid(sizes, places!, 0, layouts[0]!)
  // -1 is off the axis
  const row = filled(sizes, at, [0], -1)
  const place = isExact(layouts[axis]!)
    ? row
    : select(less(row, cast(sizes.value(dimOf(layouts[axis]!)), row.dtype)), row, -1)
  const rest = beside.flatMap((_, i) => (i === 0 ? [] : [i]))
  const written = x!.clean ? filled(sizes, given, rest) : given.tensor
  const [tensor] = applyComposite(overwriteOp, [x!.tensor, written, place], op.attributes)
  return [{ tensor: tensor!, layouts, clean: x!.clean || layouts.every(isExact) }]
}
