/**
 * Attention and its derivative over padded tensors, kept whole. A causal query sees no key behind it and padding lies behind
 * everything, so that it is enough that there are numbers there, zeros; a mask hides the keys that are not there as it
 * hides others. Without either, keys that are not there would be seen: the definition, whose sums are masked, is taken.
 */
import { type AttentionAttributes, attentionGradOp, attentionOp } from "../../../tensor/composites/attention.ts"
import type { Composite, CompositeOp } from "../../../tensor/Tensor.ts"
import { applyComposite, isComposite } from "../../../tensor/Tensor.ts"
import { filled, isDense, isExact, type Layout, type Padded, placesOf, relaid, sameLayout } from "./Layout.ts"
import type { Sizes } from "./Sizes.ts"

/** Whether a definition is one of the two, for `expand`. */
export const isAttention = ({ name }: Composite): boolean => name === attentionOp.name || name === attentionGradOp.name

const attributesOf = (op: CompositeOp): AttentionAttributes | undefined =>
  isComposite(op, attentionOp) || isComposite(op, attentionGradOp) ? op.attributes : undefined

const isOne = (layout: Layout) => isExact(layout) && placesOf(layout) === 1

/** A tensor of one axis of places and the rest as another's. */
const like = (sizes: Sizes, x: Padded, layouts: ReadonlyArray<Layout>): Padded =>
  layouts.reduce((y, layout, axis) => relaid(sizes, y, axis, layout), x)

/** Whether a mask lies as what it hides: [batch or 1, ..., keys]. */
const fitsMask = ({ layouts }: Padded, batch: Layout, keys: Layout) =>
  layouts.length === 4 && (isOne(layouts[0]!) || sameLayout(layouts[0]!, batch)) && sameLayout(layouts[3]!, keys)

/** The padded outputs; undefined where the operation is none of the two, or must be taken apart. */
export const paddedAttention = (
  op: CompositeOp,
  inputs: ReadonlyArray<Padded>,
  sizes: Sizes
): ReadonlyArray<Padded> | undefined => {
  const attributes = attributesOf(op)
  if (attributes === undefined) return undefined
  const { causal, mask, saved } = attributes
  const backward = isComposite(op, attentionGradOp)
  const [q, k, v] = backward ? inputs.slice(1) : inputs
  const [batch, time, heads, width] = q!.layouts
  const keys = k!.layouts[1]!
  const rows = backward ? inputs.slice(6) : inputs.slice(3)
  const seen = mask ? rows[0] : undefined
  const fits =
    saved === "logSumExp" &&
    (causal ? sameLayout(time!, keys) : seen !== undefined) &&
    [time!, keys].every(isDense) &&
    [heads!, width!, k!.layouts[2]!, v!.layouts[3]!].every(isExact) &&
    (seen === undefined || fitsMask(seen, batch!, keys)) &&
    (!backward || rows.length === (mask ? 1 : 0))
  if (!fits) return undefined
  const stateOf = (x: Padded, places: Layout) => {
    const own = like(sizes, x, [batch!, places, ...x.layouts.slice(2)])
    return filled(sizes, own, [1])
  }
  const out: ReadonlyArray<Layout> = [batch!, time!, heads!, v!.layouts[3]!]
  const lines: ReadonlyArray<Layout> = [batch!, heads!, time!]
  const hide = seen === undefined ? [] : [filled(sizes, seen, [seen.layouts.length - 1])]
  const given = backward
    ? [
        stateOf(inputs[0]!, time!),
        stateOf(q!, time!),
        stateOf(k!, keys),
        stateOf(v!, keys),
        stateOf(inputs[4]!, time!),
        filled(sizes, like(sizes, inputs[5]!, lines), [2]),
        ...hide
      ]
    : [stateOf(q!, time!), stateOf(k!, keys), stateOf(v!, keys), ...hide]
  const layouts = backward ? [q!.layouts, k!.layouts, v!.layouts].map((x) => [batch!, ...x.slice(1)]) : [out, lines]
  return applyComposite(op.definition, given, op.attributes).map((tensor, i) => ({
    tensor,
    layouts: layouts[i]!,
    clean: layouts[i]!.every(isExact)
  }))
}
