/**
 * A stack of equal layers, written once: one after the other, or as a loop over their weights laid on one another. A loop has each
 * operation once in a program, which is compiled in a time that does not grow with the layers; it copies the weights.
 */
import { equalShapes } from "../Dim.ts"
import { loop } from "../ops/control.ts"
import { cast } from "../ops/elementwise.ts"
import { concat, expandDims } from "../ops/shape.ts"
import type { Tensor } from "../Tensor.ts"

/** What one layer has of its own, by name. */
export type LayerTensors = Readonly<Record<string, Tensor>>

export interface RepeatOptions {
  /** As a loop, where the layers have tensors of the same names and types; `layer` is called once. Default false. */
  readonly loop?: boolean | undefined
}

const alike = (layers: readonly LayerTensors[]): boolean => {
  const [first, ...others] = layers
  const names = Object.keys(first!)
  return others.every(
    (own) =>
      Object.keys(own).length === names.length &&
      names.every((name) => {
        const [x, y] = [first![name]!, own[name]]
        return y !== undefined && x.dtype === y.dtype && equalShapes(x.shape, y.shape)
      })
  )
}

/** What all the tensors were widened from, where they all were from one type: a stack is no wider than what is stored. */
const stored = (tensors: readonly Tensor[]): readonly Tensor[] => {
  const before = tensors.map(({ node: { inputs, op } }) => (op.kind === "cast" ? inputs[0] : undefined))
  const known = before.filter((x) => x !== undefined)
  return known.length === tensors.length && known.every(({ dtype }) => dtype === known[0]!.dtype) ? known : tensors
}

/** Applies `layer` to a carry once per layer's tensors, in order; gives the last carry. `index` is 0 in a loop. */
export const repeat = <L extends LayerTensors>(
  layers: readonly L[],
  carry: Tensor,
  layer: (carry: Tensor, own: L, index: number) => Tensor,
  { loop: asLoop = false }: RepeatOptions = {}
): Tensor => {
  if (!asLoop || layers.length < 2 || !alike(layers)) return layers.reduce<Tensor>(layer, carry)
  const names = Object.keys(layers[0]!)
  const scanned = names.map((name) => {
    const tensors = stored(layers.map((own) => own[name]!))
    return concat(
      tensors.map((x) => expandDims(x, 0)),
      0
    )
  })
  const { carried } = loop({ trips: layers.length, carried: [carry], scanned }, (state) => {
    const own = Object.fromEntries(names.map((name, i) => [name, cast(state.scanned[i]!, layers[0]![name]!.dtype)]))
    return { carried: [layer(state.carried[0]!, own as L, 0)] }
  })
  return carried[0]!
}
